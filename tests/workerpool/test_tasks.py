"""Tasks of a pool: which starts next, how often, what ends them, and what is kept."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import tracemalloc
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
import trio

from anabranch import TaskExecutionError, TaskStatus, WorkerPool, WorkerPoolConfig
from tests.workerpool.puppets import Gauge, Puppet, until

QUICK = WorkerPoolConfig(max_workers=2, max_retries=2, backoff_base_seconds=0.001)
LONG = WorkerPoolConfig(max_workers=1, max_retries=3, backoff_base_seconds=60)


def fails() -> None:
    raise ValueError("no")


# Which starts next ---------------------------------------------------------------------------


def test_more_urgent_tasks_start_first_and_equals_in_the_order_of_submission() -> None:
    gauge, first = Gauge(), Puppet()
    with WorkerPool(1) as pool:
        pool.submit_task("first", first)
        for name, priority in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)]:
            pool.submit_task(name, gauge, (name,), priority=priority)
        first.tell("finish")
    assert gauge.order == ["b", "d", "a", "c", "e"]


def test_as_many_run_as_there_are_workers_and_never_more_while_the_pool_is_resized() -> None:
    gauge = Gauge()
    with WorkerPool(3) as pool:
        for workers in (3, 6, 2):
            pool.resize(workers)
            assert pool.max_workers == workers
            gauge.want(workers)
            for _ in range(30):
                pool.submit_task("t", gauge, (None, 0.002))
            pool.wait_for_all()
            assert gauge.peak == workers


def test_async_and_plain_tasks_share_the_workers() -> None:
    gauge = Gauge(2)

    async def on_loop() -> None:
        gauge.enter()
        while not gauge.has_reached():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.002)
        gauge.leave()

    with WorkerPool(2) as pool:
        for number in range(20):
            pool.submit_task("t", *((on_loop,) if number % 2 else (gauge, (None, 0.002))))
        assert all(each.success for each in pool.wait_for_all())
    assert gauge.peak == 2


def test_a_plain_function_that_returns_a_coroutine_is_awaited() -> None:
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    with WorkerPool(1) as pool:
        assert [pool.submit(lambda n=n: double(n)).result() for n in range(5)] == [0, 2, 4, 6, 8]


@pytest.mark.slow
def test_many_threads_may_submit_at_once() -> None:
    with WorkerPool(4) as pool, ThreadPoolExecutor(8) as others:
        ids = list(others.map(lambda n: pool.submit_task("t", int, (n,)), range(2_000)))
        results = pool.wait_for_all()
    assert len(set(ids)) == 2_000
    assert sorted(each.result for each in results) == list(range(2_000))
    assert [each.task_id for each in results] == sorted(ids)


def test_a_task_sees_the_callers_context_and_no_other_tasks() -> None:
    var = contextvars.ContextVar("var", default="none")
    var.set("callers")

    def look(value: str) -> str:
        before = var.get()
        var.set(value)
        return before

    async def look_in_loop(value: str) -> str:
        return look(value)

    with WorkerPool(1) as pool:
        found = [pool.submit(fn, "x").result() for fn in (look, look_in_loop, look, look_in_loop)]
    assert found == ["callers"] * 4
    assert var.get() == "callers"


# How often, and what ends them ---------------------------------------------------------------


def test_a_task_that_failed_is_called_again_and_its_result_tells_all() -> None:
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return "done"

    with WorkerPool(QUICK) as pool:
        result = pool.get_task_result(pool.submit_task("flaky", flaky))
        failed = pool.get_task_result(pool.submit_task("fails", fails))
    assert (result.success, result.result, result.error) == (True, "done", None)
    assert (result.metrics.retries_used, result.metrics.status) == (2, TaskStatus.COMPLETED)
    assert (failed.success, failed.metrics.retries_used) == (False, 2)
    assert isinstance(failed.error, TaskExecutionError)
    assert isinstance(failed.error.__cause__, ValueError)
    assert "after 3 attempts" in failed.metrics.error_message


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_async_task_that_failed_is_called_again(loop: str) -> None:
    config = WorkerPoolConfig(max_workers=2, max_retries=2, backoff_base_seconds=0.001, loop=loop)
    tries: list[int] = []

    async def flaky() -> str:
        tries.append(1)
        await (trio.sleep(0.001) if loop == "trio" else asyncio.sleep(0.001))
        if len(tries) < 3:
            raise ValueError("not yet")
        return "done"

    with WorkerPool(config) as pool:
        assert pool.get_task_result(pool.submit_task("flaky", flaky)).result == "done"


def test_without_a_config_a_future_is_called_once_and_with_one_as_often_as_it_says() -> None:
    tries: list[int] = []

    def count() -> None:
        tries.append(1)
        raise ValueError

    with WorkerPool(1) as pool:
        assert isinstance(pool.submit(count).exception(), ValueError)
    assert len(tries) == 1
    with WorkerPool(QUICK) as pool:
        assert isinstance(pool.submit(count).exception(), ValueError)
    assert len(tries) == 4


def test_a_wait_for_another_attempt_holds_no_worker() -> None:
    with WorkerPool(LONG) as pool:
        waiting = pool.submit_task("fails", fails)
        assert pool.submit(int, 5).result(timeout=5) == 5
        assert pool.get_metrics()[waiting].status is TaskStatus.RETRYING
        assert pool.get_summary_metrics()["pending"] == 1
        assert pool.abort_pending_tasks() == 1


def test_waits_double_and_are_capped() -> None:
    retry = WorkerPoolConfig(
        max_retries=9, backoff_base_seconds=2.0, backoff_max_seconds=30.0
    ).retry()
    from anabranch._retry import wait_after

    assert [wait_after(retry, n, 0.5) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]
    capped = WorkerPoolConfig(backoff_base_seconds=5, backoff_max_seconds=1).retry()
    assert wait_after(capped, 1, 0.5) == 1


def test_a_thread_past_its_timeout_is_abandoned_and_holds_its_worker_until_it_ends() -> None:
    config = WorkerPoolConfig(max_workers=1, max_retries=3, task_timeout_seconds=0.15)
    with WorkerPool(config) as pool:
        stuck = Puppet()
        future = pool.submit(stuck)
        task = pool.submit_task("behind", int)
        assert isinstance(future.exception(timeout=5), TimeoutError)
        assert pool.get_summary_metrics()["abandoned"] == 1
        with pytest.raises(TimeoutError):  # its worker is not free
            pool.get_task_result(task, timeout=0.05)
        stuck.tell("fail")
        assert pool.get_task_result(task, timeout=5).success
    assert stuck.calls == 1


def test_a_pool_with_an_abandoned_thread_shuts_down_at_once() -> None:
    config = WorkerPoolConfig(max_workers=1, task_timeout_seconds=0.2)
    stuck = Puppet()
    with WorkerPool(config) as pool:
        task = pool.submit_task("stuck", stuck)
    result = pool.get_task_result(task)
    assert result.metrics.status is TaskStatus.ABANDONED
    assert "task_timeout_seconds" in str(result.error)
    stuck.tell("finish")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_async_task_past_its_timeout_is_stopped(loop: str) -> None:
    ends: list[str] = []
    sleep = trio.sleep if loop == "trio" else asyncio.sleep

    async def long() -> None:
        try:
            await sleep(60)
        finally:
            ends.append("stopped")

    config = WorkerPoolConfig(max_workers=1, task_timeout_seconds=0.02, loop=loop)
    with WorkerPool(config) as pool:
        result = pool.get_task_result(pool.submit_task("long", long), timeout=5)
    assert result.metrics.status is TaskStatus.TIMED_OUT
    assert ends == ["stopped"]


def test_the_timeout_spans_attempts_and_waits_and_the_result_says_so() -> None:
    config = WorkerPoolConfig(max_workers=1, task_timeout_seconds=20, backoff_base_seconds=60)
    with WorkerPool(config) as pool:
        result = pool.get_task_result(pool.submit_task("fails", fails), timeout=10)
    assert result.metrics.status is TaskStatus.TIMED_OUT
    assert "all attempts and the waits between them" in str(result.error)
    assert isinstance(result.error.__cause__.__cause__, ValueError)


def test_a_task_whose_timeout_comes_while_it_waits_for_a_worker_again_is_timed_out() -> None:
    config = WorkerPoolConfig(
        max_workers=1, task_timeout_seconds=0.08, max_retries=3, backoff_base_seconds=0.001
    )
    blocker = Puppet()
    with WorkerPool(config) as pool:

        def fails_then_blocked() -> None:
            pool.submit_task("blocker", blocker, priority=9)
            raise ValueError

        task = pool.submit_task("t", fails_then_blocked)
        result = pool.get_task_result(task, timeout=5)
        assert result.metrics.status is TaskStatus.TIMED_OUT
        blocker.tell("finish")


def test_an_abort_cancels_just_what_waits_and_is_not_sticky() -> None:
    with WorkerPool(LONG) as pool:
        running = Puppet()
        retrying = pool.submit_task("retrying", fails)
        until(lambda: pool.get_metrics()[retrying].status is TaskStatus.RETRYING)
        first = pool.submit_task("first", running)
        running.running.wait(5)
        future = pool.submit(int)
        behind = [pool.submit_task("t", int) for _ in range(10)]
        assert pool.abort_pending_tasks() == 12
        assert pool.abort_pending_tasks() == 0
        assert future.cancelled()
        running.tell("finish")
        assert pool.get_task_result(first).success
        for key in [retrying, *behind]:
            result = pool.get_task_result(key)
            assert result.metrics.status is TaskStatus.CANCELLED
            assert isinstance(result.error.__cause__, CancelledError)
        assert pool.get_task_result(pool.submit_task("after", int)).success


@pytest.mark.slow
def test_a_task_that_was_cancelled_is_never_called() -> None:
    gauge, first = Gauge(), Puppet()
    with WorkerPool(1) as pool:
        pool.submit(first)
        futures = [pool.submit(gauge, n) for n in range(300)]
        assert all(each.cancel() for each in futures[::2])
        assert not futures[0].running()
        first.tell("finish")
    assert gauge.order == list(range(300))[1::2]


def test_a_running_future_is_not_cancelled() -> None:
    with WorkerPool(1) as pool:
        running = Puppet()
        future = pool.submit(running)
        running.running.wait(5)
        assert (future.running(), future.cancel(), future.cancelled()) == (True, False, False)
        running.tell("finish")
        assert future.result(timeout=5) == "done"
        assert not future.cancel()


# What is kept ----------------------------------------------------------------------------------


def test_metrics_tell_of_each_task_where_it_is() -> None:
    with WorkerPool(LONG) as pool:
        running = Puppet()
        before = time.time()
        tasks = [pool.submit_task("a", running), pool.submit_task("b", int)]
        running.running.wait(5)
        first, second = pool.get_metrics().values()
        assert (first.status, second.status) == (TaskStatus.RUNNING, TaskStatus.PENDING)
        assert (first.end_time, second.start_time, second.worker_id) == (None, 0.0, None)
        assert first.execution_time_ms > 0
        running.tell("finish")
        first, second = [each.metrics for each in pool.wait_for_all()]
        assert [first.task_id, second.task_id] == tasks == list(pool.get_metrics())
        assert before - 1 < first.start_time <= first.end_time < time.time() + 1
        assert first.task_name == "a"
        assert first.worker_id.startswith("WorkerPool-")
        assert pool.get_metrics()[tasks[0]] == first


def test_the_summary_of_a_pool_that_did_nothing_is_zero() -> None:
    with WorkerPool() as pool:
        assert pool.wait_for_all() == []
        assert pool.get_metrics() == {}
        summary = pool.get_summary_metrics()
    assert set(summary.values()) == {0}
    assert isinstance(summary["avg_execution_time_ms"], float)


def test_a_pool_without_instrumentation_has_results_and_no_metrics() -> None:
    with WorkerPool(WorkerPoolConfig(enable_instrumentation=False)) as pool:
        result = pool.get_task_result(pool.submit_task("t", int))
        assert (result.success, result.metrics, pool.get_metrics()) == (True, None, {})


def test_the_oldest_results_are_forgotten_and_waits_for_them_are_not_cut_short() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=1, keep_results=3)) as pool:
        running = Puppet()
        tasks = [pool.submit_task("t", running), *[pool.submit_task("t", int) for _ in range(9)]]
        threading.Timer(0.01, running.tell, ["finish"]).start()
        assert len(pool.wait_for_all()) == 10
        assert list(pool.get_metrics()) == tasks[-3:]
        with pytest.raises(KeyError, match="keep_results"):
            pool.get_task_result(tasks[0])
        assert pool.get_summary_metrics()["completed"] == 10


@pytest.mark.slow
def test_a_pool_that_keeps_few_results_may_live_for_long() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=2, keep_results=100)) as pool:

        def many(count: int) -> None:
            for number in range(count):
                pool.submit_task("t", int, (number,))
                pool.submit(int, number)
                if number % 200 == 0:
                    pool.wait_for_all()
            pool.wait_for_all()

        many(1_000)
        gc.collect()
        tracemalloc.start()
        many(5_000)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert grown < 300_000


def test_a_future_keeps_nothing_alive_that_it_has_called() -> None:
    class Thing:
        pass

    with WorkerPool(1) as pool:
        thing = Thing()
        import weakref

        gone = weakref.ref(thing)
        future = pool.submit(id, thing)
        future.result()
        del thing
        until(lambda: gone() is None)
        result: Any = pool.submit(Thing)
        gone = weakref.ref(result.result())
        del result
        until(lambda: gone() is None)
