"""What callbacks raise, what comes too late, and what is cancelled by the hundred harms no pool."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from anabranch import ConfigurationError, WorkerPool, WorkerPoolConfig
from anabranch.workerpool._board import FEW
from tests.workerpool.puppets import Puppet, until


def leave(_: Any) -> None:
    raise SystemExit(3)


def test_a_callback_that_exits_in_a_worker_is_told_and_the_pool_goes_on(caplog):
    with WorkerPool(1) as pool:
        puppet = Puppet()
        future = pool.submit(puppet)
        future.add_done_callback(leave)
        puppet.tell("finish")
        assert pool.submit(int, 7).result() == 7
        future.result()
    assert "a callback of task" in caplog.text
    assert "SystemExit(3)" in caplog.text


def test_a_callback_that_exits_in_the_main_thread_exits_there():
    with WorkerPool(1) as pool:
        puppet = Puppet()
        pool.submit(puppet)
        waiting = pool.submit(int)
        waiting.add_done_callback(leave)
        with pytest.raises(SystemExit):
            pool.abort_pending_tasks()
        assert waiting.cancelled()
        puppet.tell("finish")


def test_a_coroutine_that_is_returned_after_the_timeout_is_closed():
    closed = threading.Event()

    async def never() -> None:
        raise AssertionError("nobody awaits it any more")

    def late() -> Any:
        until(lambda: bool(pool.get_summary_metrics()["abandoned"]))
        coroutine = never()
        ended.append(coroutine)
        closed.set()
        return coroutine

    ended: list[Any] = []
    pool = WorkerPool(WorkerPoolConfig(max_workers=1, task_timeout_seconds=0.02, max_retries=0))
    with pool:
        pool.submit_task("late", late)
        assert not pool.wait_for_all(10)[0].success
        closed.wait(10)
        until(lambda: ended[0].cr_frame is None)


def test_entries_of_cancelled_tasks_do_not_fill_the_queue():
    with WorkerPool(1) as pool:
        puppet = Puppet()
        first = pool.submit(puppet)
        futures = [pool.submit(int) for _ in range(4 * FEW)]
        for future in futures[:-1]:
            assert future.cancel()
        assert len(pool._board._queue) <= 2 * FEW
        puppet.tell("finish")
        first.result(10)
        assert futures[-1].result(10) == 0


def test_a_prefix_that_is_no_text_is_refused():
    with pytest.raises(ConfigurationError, match=r"thread_name_prefix=3 \(int\) is no string"):
        WorkerPool(thread_name_prefix=3)  # type: ignore[arg-type]  # on purpose
