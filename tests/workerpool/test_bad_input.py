"""What cannot be meant is refused where it is given, in words that say what was seen."""

from __future__ import annotations

import math
from typing import Any

import pytest

from anabranch import AsyncWorkerPool, ConfigurationError, WorkerPool, WorkerPoolConfig

BAD_CONFIGS: list[dict[str, Any]] = [
    {"max_workers": 0},
    {"max_workers": -1},
    {"max_workers": True},
    {"max_workers": 2.0},
    {"max_workers": "5"},
    {"max_workers": None},
    {"max_retries": -1},
    {"max_retries": True},
    {"max_retries": 1.5},
    {"task_timeout_seconds": 0},
    {"task_timeout_seconds": -1},
    {"task_timeout_seconds": math.nan},
    {"task_timeout_seconds": math.inf},
    {"task_timeout_seconds": True},
    {"task_timeout_seconds": 10**400},
    {"backoff_max_seconds": 10**400},
    {"task_timeout_seconds": "180"},
    {"backoff_base_seconds": -1},
    {"backoff_base_seconds": math.nan},
    {"backoff_max_seconds": -0.1},
    {"backoff_max_seconds": math.inf},
    {"backoff_jitter_seconds": -1},
    {"enable_instrumentation": 1},
    {"keep_results": -1},
    {"keep_results": True},
    {"loop": "uvloop"},
    {"loop": None},
    {"max_worker": 5},
]
BAD_TASKS: list[tuple[Any, ...]] = [
    ("", print),
    (5, print),
    ("t", 5),
    ("t", None),
    ("t", print, "args"),
    ("t", print, 5),
    ("t", print, (), [1]),
    ("t", print, (), {1: 2}),
]


@pytest.mark.parametrize("options", BAD_CONFIGS, ids=str)
def test_a_config_that_cannot_be_meant_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        WorkerPoolConfig(**options)


@pytest.mark.parametrize("pool", [WorkerPool, AsyncWorkerPool])
def test_a_pool_that_cannot_be_meant_is_refused(pool: Any) -> None:
    for workers in (0, -1, True, 1.5, "5"):
        with pytest.raises(ConfigurationError, match="max_workers"):
            pool(max_workers=workers)
    for config in (0, -1, True, "5", {"max_workers": 5}, [1]):
        with pytest.raises(ConfigurationError, match=r"config|max_workers"):
            pool(config)
    with pytest.raises(ConfigurationError, match="one of them"):
        pool(WorkerPoolConfig(), max_workers=5)
    with pytest.raises(ConfigurationError, match="did you mean 'max_workers'"):
        pool(max_worker=5)
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        pool(max_workers=0)


@pytest.mark.parametrize("arguments", BAD_TASKS, ids=str)
def test_a_task_that_cannot_be_meant_is_refused_and_not_counted(arguments: tuple[Any, ...]) -> None:
    with WorkerPool(1) as pool:
        with pytest.raises(ConfigurationError, match="submit_task"):
            pool.submit_task(*arguments)
        assert pool.get_summary_metrics()["submitted"] == 0


@pytest.mark.parametrize("priority", [True, 1.5, "1", None])
def test_a_priority_is_an_integer(priority: Any) -> None:
    with WorkerPool(1) as pool, pytest.raises(ConfigurationError, match="priority"):
        pool.submit_task("t", print, priority=priority)


def test_a_generator_function_would_run_nothing_and_is_refused() -> None:
    def generates() -> Any:
        yield 1

    with WorkerPool(1) as pool:
        with pytest.raises(ConfigurationError, match="generator"):
            pool.submit(generates)
        with pytest.raises(ConfigurationError, match="generator"):
            pool.submit_task("t", generates)


@pytest.mark.parametrize("timeout", [-1, math.nan, True, "1", 10**400])
def test_a_time_to_wait_is_a_number_of_seconds(timeout: Any) -> None:
    with WorkerPool(1) as pool:
        with pytest.raises(ConfigurationError, match="timeout"):
            pool.wait_for_all(timeout=timeout)
        with pytest.raises(ConfigurationError, match="timeout"):
            pool.get_task_result(pool.submit_task("t", int), timeout=timeout)


def test_an_unknown_id_is_a_key_error() -> None:
    with WorkerPool(1) as pool:
        for key in ("000001-t", "", None, 5):
            with pytest.raises(KeyError, match="no task"):
                pool.get_task_result(key)  # type: ignore[arg-type]  # that is what is tested


def test_a_size_that_cannot_be_meant_is_refused_and_the_old_one_holds() -> None:
    with WorkerPool(3) as pool:
        for workers in (0, -1, True, 2.5):
            with pytest.raises(ConfigurationError, match="max_workers"):
                pool.resize(workers)
        assert pool.max_workers == 3


def test_submitting_after_shutdown_is_a_runtime_error_and_shutdown_may_be_repeated() -> None:
    pool = WorkerPool(1)
    task = pool.submit_task("t", int)
    for wait in (False, True, True):
        pool.shutdown(wait)
    for call in (lambda: pool.submit(int), lambda: pool.submit_task("t", int)):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            call()
    assert pool.get_task_result(task).success
    assert len(pool.wait_for_all()) == 1


def test_an_error_that_cannot_be_written_or_pickled_costs_no_result() -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            self.lock = __import__("threading").Lock()

        def __str__(self) -> str:
            raise RuntimeError("no words")

    def raises() -> None:
        raise OddError(1, 2)

    with WorkerPool(WorkerPoolConfig(max_retries=0)) as pool:
        result = pool.get_task_result(pool.submit_task("t", raises))
        assert isinstance(pool.submit(raises).exception(), OddError)
    assert isinstance(result.error.__cause__, OddError)
    assert "its __str__ raised RuntimeError" in str(result.error)
