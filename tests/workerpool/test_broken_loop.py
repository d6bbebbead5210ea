"""A task that breaks the pool's loop costs the tasks that are in it, and never the pool."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

from anabranch import LaneError, WorkerPool, WorkerPoolConfig
from tests.workerpool.puppets import Puppet, until

# What broke the loop is also told by threading.excepthook.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


async def leave_a_scope_open() -> None:
    """Enter a cancel scope and never leave it: both loops break down at the task's end."""
    scope = anyio.CancelScope()
    scope.__enter__()
    await anyio.sleep(0)


async def double(number: int) -> int:
    await anyio.sleep(0)
    return 2 * number


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_pool_goes_on_in_another_loop(loop: str) -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0, loop=loop)) as pool:
        for _ in range(2):
            broken = pool.get_task_result(pool.submit_task("b", leave_a_scope_open), timeout=5)
            assert isinstance(broken.error.__cause__, LaneError)
            assert pool.submit(double, 2).result(timeout=5) == 4
        others = [pool.submit(anyio.sleep, 5), pool.submit(leave_a_scope_open)]
        errors = [each.exception(timeout=4) for each in others]
        assert all(error is not None for error in errors)
        results = [pool.submit(double, number) for number in range(10)]
        assert [each.result(timeout=5) for each in results] == list(range(0, 20, 2))
        summary = pool.get_summary_metrics()
    assert (summary["completed"], summary["failed"]) == (12, 4)
    assert pool._board.in_use == 0


def test_a_pool_ends_after_the_thread_of_a_loop_that_broke_down(monkeypatch) -> None:
    told: list[str | None] = []

    def hook(args: threading.ExceptHookArgs) -> None:
        time.sleep(0.1)
        told.append(args.thread.name if args.thread else None)

    monkeypatch.setattr(threading, "excepthook", hook)
    with WorkerPool(WorkerPoolConfig(max_workers=1, max_retries=0, loop="trio")) as pool:
        pool.submit(leave_a_scope_open).exception(timeout=5)
        assert pool.submit(double, 2).result(timeout=5) == 4
    assert len(told) == 1


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_deadlines_and_waits_between_attempts_outlive_a_loop(loop: str) -> None:
    tries: list[int] = []
    puppet = Puppet()

    def fails() -> None:
        tries.append(1)
        raise ValueError("told to fail")

    config = WorkerPoolConfig(
        max_workers=3,
        max_retries=1,
        backoff_base_seconds=0.15,
        task_timeout_seconds=0.2,
        loop=loop,
    )
    with WorkerPool(config) as pool:
        failing, stuck = pool.submit_task("fails", fails), pool.submit_task("stuck", puppet)
        until(lambda: bool(tries) and puppet.running.is_set())
        pool.submit_task("breaks", leave_a_scope_open)
        assert pool.get_task_result(failing, timeout=5).metrics.retries_used == 1
        assert pool.get_task_result(stuck, timeout=5).metrics.status == "abandoned"
        puppet.tell("finish")
