"""Seed 001: the worker pool, block by block.

Blocks run as they stand, but that they import from anabranch, and that the waits between the
attempts of one of them are shortened.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Optional

import attrs
import pytest

from anabranch import TaskMetrics, TaskResult, TaskStatus, WorkerPool, WorkerPoolConfig
from tests.seeds.harness import Names, execute
from tests.workerpool.puppets import Gauge, Puppet

SEED = "001"
Block = Callable[[int], str]


def run(block: str, **known: Any) -> Names:
    """Execute a block in a plain program: none of them awaits anything."""
    ours = block.replace("from concurrency import", "from anabranch import")
    with pytest.raises(StopIteration) as stop:
        execute(ours, known).send(None)
    return stop.value.value


# 1: where the origin is installed ------------------------------------------------------------


def test_the_pool_is_imported_from_the_package() -> None:
    assert WorkerPool.__module__ == WorkerPoolConfig.__module__ == "anabranch"


# 2: a config, a task, its result -------------------------------------------------------------


def test_seed_a_basic_example(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    names = run(block(2))
    assert capsys.readouterr().out == "Result: 10\n"
    assert names["result"].success


def test_a_task_is_submitted_by_keywords_and_its_result_is_asked_for_by_its_id() -> None:
    config = WorkerPoolConfig(
        max_workers=50,
        max_retries=3,
        task_timeout_seconds=180,
        backoff_base_seconds=1.0,
        backoff_max_seconds=60.0,
    )
    with WorkerPool(config) as pool:
        task = pool.submit_task(task_name="double_5", task_fn=lambda x: x * 2, args=(5,))
        assert task.endswith("-double_5")
        assert pool.get_task_result(task).result == 10


# 3: three hundred questions, fifty at once -----------------------------------------------------


@pytest.mark.slow
def test_seed_three_hundred_questions(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    gauge = Gauge()

    def answer(number: int, document: str) -> int:
        assert document == "document"
        gauge(number, 0.002)
        return number

    names = run(block(3), process_micro_question=answer)
    results = names["process_all_micro_questions"]("document")
    assert [each.result for each in results] == list(range(1, 301))
    assert gauge.peak <= 50
    assert capsys.readouterr().out == "Success rate: 100.0%\n"


def test_three_hundred_tasks_run_fifty_at_once_and_come_in_order() -> None:
    gauge = Gauge(50)
    with WorkerPool(WorkerPoolConfig(max_workers=50, max_retries=3)) as pool:
        for number in range(1, 301):
            pool.submit_task(f"Q{number:03d}", gauge, (number, 0.001))
        results = pool.wait_for_all(timeout=1800)
    assert [each.task_name for each in results] == [f"Q{n:03d}" for n in range(1, 301)]
    assert gauge.peak == 50


# 4: a task that may fail -----------------------------------------------------------------------


@pytest.mark.parametrize("failures", [0, 2, 9])
def test_seed_failures_with_retry(
    block: Block, capsys: pytest.CaptureFixture[str], failures: int
) -> None:
    left = [failures]

    def call_external_api() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionError("api down")
        return "answer"

    shortened = block(4).replace("backoff_base_seconds=2.0", "backoff_base_seconds=0.002")
    assert shortened != block(4)
    run(shortened, call_external_api=call_external_api)
    said = capsys.readouterr().out
    if failures < 4:
        assert said == f"Success after {failures} retries\n"
    else:
        assert said.startswith("Failed after 3 retries: ")
        assert "api down" in said


def test_a_task_that_fails_is_tried_as_often_as_the_config_says() -> None:
    config = WorkerPoolConfig(max_retries=3, backoff_base_seconds=0.001)
    with WorkerPool(config) as pool:
        result = pool.get_task_result(pool.submit_task("t", divmod, (1, 0)))
    assert (result.success, result.metrics.retries_used) == (False, 3)
    assert isinstance(result.error.__cause__, ZeroDivisionError)


# 5: abort --------------------------------------------------------------------------------------


def test_seed_aborting(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    called: list[int] = []

    def slow_task(number: int) -> None:
        called.append(number)
        time.sleep(0.05)

    names = run(block(5), slow_task=slow_task)
    assert names["cancelled"] == 100 - len(called) >= 90
    assert capsys.readouterr().out == f"Cancelled {names['cancelled']} pending tasks\n"
    summary = names["pool"].get_summary_metrics()
    assert (summary["completed"], summary["cancelled"]) == (len(called), names["cancelled"])


def test_an_abort_cancels_all_but_what_runs() -> None:
    running = Puppet()
    with WorkerPool(WorkerPoolConfig(max_workers=1)) as pool:
        pool.submit_task("running", running)
        running.running.wait(5)
        for number in range(99):
            pool.submit_task(f"task_{number}", running)
        assert pool.abort_pending_tasks() == 99
        running.tell("finish")
    assert running.calls == 1


# 6: metrics ------------------------------------------------------------------------------------


def test_seed_metrics(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    run(block(6))
    assert capsys.readouterr().out.splitlines() == [
        "Completed: 0",
        "Failed: 0",
        "Average time: 0.00ms",
        "Total retries: 0",
    ]
    line = 'with WorkerPool() as pool:\n    pool.submit_task("named", int)\n'
    run(block(6).replace("with WorkerPool() as pool:\n", line))
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Completed: 1"
    assert re.fullmatch(r"named: completed in \d+\.\d\dms", said[-1])


def test_a_summary_sums_up_what_the_metrics_tell() -> None:
    config = WorkerPoolConfig(max_retries=1, backoff_base_seconds=0.001)
    with WorkerPool(config) as pool:
        for divisor in (1, 0, 2):
            pool.submit_task("t", divmod, (1, divisor))
        pool.wait_for_all()
        summary, metrics = pool.get_summary_metrics(), pool.get_metrics().values()
    assert (summary["completed"], summary["failed"], summary["total_retries"]) == (2, 1, 1)
    mean = sum(each.execution_time_ms for each in metrics) / 3
    assert summary["avg_execution_time_ms"] == pytest.approx(mean)


# 7 and 8: what a result and its metrics have ---------------------------------------------------

TYPES = {"dataclass": dataclass, "Any": Any, "Optional": Optional, "TaskStatus": TaskStatus}


@pytest.mark.parametrize(("number", "ours"), [(7, TaskResult), (8, TaskMetrics)])
def test_seed_fields(block: Block, number: int, ours: Any) -> None:
    names = run(block(number), **TYPES, TaskMetrics=TaskMetrics)
    theirs = [each.name for each in fields(names[ours.__name__])]
    assert theirs == [each.name for each in attrs.fields(ours)]


def test_results_and_metrics_have_the_fields_of_the_origin() -> None:
    names = {cls: [each.name for each in attrs.fields(cls)] for cls in (TaskResult, TaskMetrics)}
    assert names[TaskResult] == ["task_id", "task_name", "success", "result", "error", "metrics"]
    assert names[TaskMetrics] == [
        "task_id",
        "task_name",
        "status",
        "start_time",
        "end_time",
        "execution_time_ms",
        "retries_used",
        "worker_id",
        "error_message",
    ]


# 9: the origin's own tests ---------------------------------------------------------------------


def test_the_pool_has_tests_of_its_own() -> None:
    with WorkerPool() as pool:
        assert pool.max_workers == 50
