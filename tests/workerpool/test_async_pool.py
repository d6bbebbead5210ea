"""The pool's words on the host's loop, on both loops, where its waits are awaited."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from anabranch import (
    AsyncWorkerPool,
    DeadlockError,
    SchedulerClosedError,
    TaskStatus,
    WaitTimeoutError,
    WorkerPoolConfig,
)

ENDED = ("completed", "failed", "cancelled", "timed_out", "abandoned")


class Sleeper:
    """Sleep, counted."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.order: list[Any] = []

    async def __call__(self, what: Any = None, seconds: float = 1.0) -> Any:
        """Sleep, and return ``what``."""
        self.order.append(what)
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await anyio.sleep(seconds)
        finally:
            self.now -= 1
        return what


async def fails() -> None:
    raise ValueError("no")


async def test_results_come_in_the_order_of_submission_and_never_more_run_than_may() -> None:
    sleeps = Sleeper()
    async with AsyncWorkerPool(max_workers=3) as pool:
        ids = [pool.submit_task("t", sleeps, (n, 10 - n)) for n in range(9)]
        results = await pool.wait_for_all()
        assert [each.task_id for each in results] == ids
        assert [each.result for each in results] == list(range(9))
        assert sleeps.peak == 3


async def test_more_urgent_tasks_start_first() -> None:
    sleeps = Sleeper()
    async with AsyncWorkerPool(1) as pool:
        pool.submit_task("first", sleeps, ("first",))
        await anyio.sleep(0.5)
        for name, priority in [("a", 0), ("b", 5), ("c", 0), ("d", 5)]:
            pool.submit_task(name, sleeps, (name,), priority=priority)
    assert sleeps.order == ["first", "b", "d", "a", "c"]


async def test_tasks_that_wait_for_tasks_end_on_one_worker() -> None:
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=1, max_retries=0)) as pool:

        async def depth(left: int) -> int:
            if not left:
                return 0
            below = await pool.get_task_result(pool.submit_task("deeper", depth, (left - 1,)))
            return 1 + below.result

        with anyio.fail_after(60):
            result = await pool.get_task_result(pool.submit_task("top", depth, (20,)))
        assert result.result == 20


async def test_a_task_has_its_token_back_when_its_wait_is_over() -> None:
    sleeps = Sleeper()
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:

        async def parent() -> None:
            for each in [pool.submit_task("child", sleeps) for _ in range(3)]:
                await pool.get_task_result(each)
            await sleeps()

        for _ in range(6):
            pool.submit_task("parent", parent)
        results = await pool.wait_for_all()
        assert all(each.success for each in results)
        assert sleeps.peak == 2


async def test_tasks_that_would_wait_for_themselves_are_told_so() -> None:
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:
        ids: list[str] = []

        async def wait_for(number: int) -> None:
            await pool.get_task_result(ids[number])

        ids.append(pool.submit_task("own", wait_for, (0,)))
        result = await pool.get_task_result(ids[0])
        assert isinstance(result.error.__cause__, DeadlockError)
        for _ in range(3):
            pool.submit_task("all", pool.wait_for_all)
        results = await pool.wait_for_all()
        assert all(each.success for each in results[1:])


async def test_a_failure_is_tried_again_and_a_timeout_spans_all_attempts() -> None:
    config = WorkerPoolConfig(max_workers=2, max_retries=2, task_timeout_seconds=20)
    async with AsyncWorkerPool(config) as pool:
        failed = await pool.get_task_result(pool.submit_task("fails", fails))
        assert (failed.metrics.status, failed.metrics.retries_used) == (TaskStatus.FAILED, 2)
        assert isinstance(failed.error.__cause__, ValueError)
        late = await pool.get_task_result(pool.submit_task("late", Sleeper(), (None, 60)))
        assert late.metrics.status is TaskStatus.TIMED_OUT
        assert "task_timeout_seconds" in str(late.error)
        assert late.metrics.execution_time_ms == pytest.approx(20_000)
    config = WorkerPoolConfig(task_timeout_seconds=5, backoff_base_seconds=9)
    async with AsyncWorkerPool(config) as pool:
        refused = await pool.get_task_result(pool.submit_task("fails", fails))
        assert refused.metrics.status is TaskStatus.TIMED_OUT


async def test_an_abort_cancels_just_what_waits_and_totals_always_add_up() -> None:
    sleeps = Sleeper()
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=2)) as pool:
        retrying = pool.submit_task("fails", fails)
        await anyio.sleep(0.5)
        running = [pool.submit_task("t", sleeps) for _ in range(2)]
        waiting = [pool.submit_task("t", sleeps) for _ in range(5)]
        await anyio.sleep(0.1)
        kinds = {key: each.status for key, each in pool.get_metrics().items()}
        assert kinds[retrying] is TaskStatus.RETRYING
        assert {kinds[key] for key in running} == {TaskStatus.RUNNING}
        assert {kinds[key] for key in waiting} == {TaskStatus.PENDING}
        assert pool.abort_pending_tasks() == 6
        assert pool.abort_pending_tasks() == 0
        summary = pool.get_summary_metrics()
        assert (summary["running"], summary["pending"], summary["cancelled"]) == (2, 0, 6)
        after = pool.submit_task("after", sleeps)
        assert (await pool.get_task_result(after)).success
        summary = pool.get_summary_metrics()
        assert summary["submitted"] == sum(summary[each] for each in ENDED) == 9


async def test_a_wait_that_times_out_ends_nothing_but_the_wait() -> None:
    async with AsyncWorkerPool(2) as pool:
        quick = pool.submit_task("quick", Sleeper(), ("quick", 1))
        slow = pool.submit_task("slow", Sleeper(), ("slow", 60))
        with pytest.raises(WaitTimeoutError) as caught:
            await pool.wait_for_all(timeout=5)
        assert [each.task_id for each in caught.value.results] == [quick]
        first = await pool.wait_for_all(return_when="FIRST_COMPLETED")
        assert [each.task_id for each in first] == [quick]
        assert (await pool.get_task_result(slow)).result == "slow"
        with pytest.raises(KeyError):
            await pool.get_task_result("nobody")


async def test_a_pool_is_resized_while_tasks_run() -> None:
    sleeps = Sleeper()
    async with AsyncWorkerPool(1) as pool:
        for _ in range(12):
            pool.submit_task("t", sleeps)
        await anyio.sleep(0.5)
        pool.resize(4)
        await anyio.sleep(1)
        assert sleeps.now == 4
        pool.resize(2)
        await anyio.sleep(1)
        sleeps.peak = 0
        await pool.wait_for_all()
        assert sleeps.peak <= 2


async def test_the_oldest_results_are_forgotten() -> None:
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=1, keep_results=2)) as pool:
        ids = [pool.submit_task("t", Sleeper(), (n,)) for n in range(5)]
        assert len(await pool.wait_for_all()) == 5
        assert list(pool.get_metrics()) == ids[-2:]


async def test_nothing_is_accepted_before_after_and_once_it_was_shut_down() -> None:
    pool = AsyncWorkerPool(1)
    with pytest.raises(SchedulerClosedError):
        pool.submit_task("early", fails)
    async with pool:
        task = pool.submit_task("t", Sleeper(), (5,))
        await pool.shutdown()
        assert (await pool.get_task_result(task, timeout=0)).result == 5
        with pytest.raises(SchedulerClosedError):
            pool.submit_task("late", fails)
        await pool.shutdown(cancel_futures=True)


async def test_an_exception_in_the_block_cancels_what_runs() -> None:
    sleeps = Sleeper()
    with pytest.raises(KeyError):
        async with AsyncWorkerPool(2) as pool:
            for _ in range(5):
                pool.submit_task("t", sleeps, (None, 600))
            await anyio.sleep(1)
            raise KeyError
    assert sleeps.now == 0
    assert pool.get_summary_metrics()["cancelled"] == 5


@pytest.mark.real_clock
async def test_plain_functions_run_in_threads_and_may_wait_for_others() -> None:
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=1, max_retries=0)) as pool:

        def plain(left: int) -> str:
            if left:
                task = anyio.from_thread.run_sync(pool.submit_task, "t", plain, (left - 1,))
                return anyio.from_thread.run(pool.get_task_result, task).result
            return threading.current_thread().name

        with anyio.fail_after(10):
            result = await pool.get_task_result(pool.submit_task("t", plain, (3,)))
        assert result.result != threading.current_thread().name


@pytest.mark.real_clock
@pytest.mark.slow
async def test_as_many_plain_functions_run_at_once_as_there_are_workers() -> None:
    everybody = threading.Barrier(100)
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=100, max_retries=0)) as pool:
        for _ in range(100):
            pool.submit_task("t", everybody.wait, (10,))
        results = await pool.wait_for_all(20)
    assert all(each.success for each in results)
