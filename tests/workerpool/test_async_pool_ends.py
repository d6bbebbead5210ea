"""What an AsyncWorkerPool tells of tasks that it does not know, keep, or could not stop."""

from __future__ import annotations

import time

import pytest

from anabranch import AsyncWorkerPool, TaskStatus, WorkerPoolConfig

pytestmark = pytest.mark.real_clock  # threads


async def test_a_task_that_is_unknown_or_forgotten_is_an_error():
    async with AsyncWorkerPool(WorkerPoolConfig(keep_results=1)) as pool:
        first = pool.submit_task("int", int)
        await pool.wait_for_all()
        second = pool.submit_task("int", int)
        await pool.wait_for_all()
        assert (await pool.get_task_result(second)).result == 0
        for unknown in (first, "000099-int"):
            with pytest.raises(KeyError, match=unknown):
                await pool.get_task_result(unknown)


async def test_metrics_that_were_not_asked_for_are_not_kept():
    async with AsyncWorkerPool(WorkerPoolConfig(enable_instrumentation=False)) as pool:
        task = pool.submit_task("int", int)
        assert (await pool.get_task_result(task)).metrics is None
        assert pool.get_metrics() == {}
        assert pool.get_summary_metrics()["completed"] == 1


@pytest.mark.slow
async def test_a_thread_that_is_abandoned_has_run_until_then():
    config = WorkerPoolConfig(task_timeout_seconds=0.2, max_retries=0)
    async with AsyncWorkerPool(config) as pool:
        begun: list[float] = []
        task = pool.submit_task("sleep", lambda: (begun.append(time.monotonic()), time.sleep(0.4)))
        assert not (await pool.get_task_result(task)).success
        lasted = 1000 * (time.monotonic() - begun[0])
        metrics = pool.get_metrics()[task]
    assert metrics.status is TaskStatus.ABANDONED
    assert 0 < metrics.execution_time_ms <= lasted
