"""Where the system gives no more threads, or the program ends: some fail, and nothing hangs."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures_of
import threading
from typing import Any

import pytest

from anabranch import LaneError, WorkerPool, WorkerPoolConfig
from tests.branches import LONGER
from tests.workerpool.puppets import Puppet

WAITS: dict[str, Any] = {"result": lambda futures: futures[0].result(), "wait": futures_of.wait}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Be how many more threads there are."""
    start, left = threading.Thread.start, [0]

    def start_few(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    return left


@pytest.mark.parametrize("how", WAITS)
def test_a_wait_that_nobody_could_end_is_refused_and_all_else_goes_on(
    how: str, threads: list[int]
) -> None:
    threads[0] = 5
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:

        def parent() -> None:
            WAITS[how]([pool.submit(int)])

        parents = [pool.submit(parent) for _ in range(30)]
        errors = [each.exception(timeout=5) for each in parents]
    refused = [each for each in errors if each is not None]
    assert refused
    assert all(isinstance(each, LaneError) for each in refused)
    assert pool.get_summary_metrics()["completed"] == 60 - len(refused)


@pytest.mark.parametrize("some", [0, 1])
def test_without_a_thread_to_wait_in_a_task_ends_with_its_last_error(
    some: int, threads: list[int]
) -> None:
    threads[0] = some

    def fails() -> None:
        raise ValueError("first")

    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=3)) as pool:
        result = pool.get_task_result(pool.submit_task("fails", fails), timeout=5)
        assert pool.submit(int).result(timeout=5) == 0
        assert pool.get_summary_metrics()["failed"] == 1
    assert str(result.error.__cause__) == "first"
    assert "no thread could wait" in result.error.__cause__.__notes__[0]


def test_once_there_are_threads_again_tasks_are_tried_again_and_timed_out(
    threads: list[int],
) -> None:
    def fails() -> None:
        raise ValueError("told to fail")

    def attempt(seconds: float) -> list[Any]:
        threads[0] = 0
        config = WorkerPoolConfig(2, seconds, max_retries=1, backoff_base_seconds=0.001)
        puppet = Puppet()
        with WorkerPool(config) as pool:
            first = pool.get_task_result(pool.submit_task("first", fails))
            threads[0] = 10
            second = pool.get_task_result(pool.submit_task("second", fails))
            stuck = pool.get_task_result(pool.submit_task("stuck", puppet))
            puppet.tell("finish")
        return [first.metrics.retries_used, second.metrics.retries_used, stuck.metrics.status]

    # A busy machine may take longer for two attempts than the least of these.
    assert [0, 1, "abandoned"] in map(attempt, LONGER)


def test_an_async_function_without_a_thread_for_its_loop_fails_and_says_so(
    threads: list[int],
) -> None:
    with WorkerPool(1) as pool, pytest.raises(RuntimeError, match="can't start new thread"):
        pool.submit(asyncio.sleep, 0).result(timeout=5)
