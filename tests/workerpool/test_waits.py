"""Waits from inside a pool: whatever waits lends its token, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures_of
import threading
import time
import warnings
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION
from typing import Any

import anyio
import pytest

from anabranch import (
    BlockedLoopWarning,
    ConfigurationError,
    DeadlockError,
    HostLoopError,
    WaitTimeoutError,
    WorkerPool,
    WorkerPoolConfig,
)
from tests.workerpool.puppets import Gauge, Puppet, until

ONE = WorkerPoolConfig(max_workers=1, max_retries=0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_tasks_that_submit_and_wait_end_on_any_number_of_workers(workers: int) -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=workers, max_retries=0)) as pool:

        def depth(left: int) -> int:
            if not left:
                return 0
            if left % 3 == 0:
                return (
                    1 + pool.get_task_result(pool.submit_task("deeper", depth, (left - 1,))).result
                )
            if left % 3 == 1:
                return 1 + pool.submit(depth, left - 1).result()
            return 1 + next(iter(pool.map(depth, [left - 1])))

        assert pool.submit(depth, 12).result(timeout=5) == 12


def test_a_task_that_waits_has_its_token_back_before_it_goes_on() -> None:
    gauge = Gauge()
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:

        def parent() -> None:
            for each in [pool.submit(gauge, "child", 0.002) for _ in range(3)]:
                each.result()
            gauge("parent", 0.002)

        for each in [pool.submit(parent) for _ in range(8)]:
            each.result(timeout=5)
    assert gauge.peak == 2


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_plain_and_async_tasks_wait_for_each_other_on_one_worker(loop: str) -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=1, max_retries=0, loop=loop)) as pool:

        def plain(left: int) -> int:
            return 1 + pool.submit(on_loop, left - 1).result() if left else 0

        async def on_loop(left: int) -> int:
            return 1 + await pool.submit(plain, left - 1) if left else 0

        assert pool.submit(plain, 9).result(timeout=5) == 9
        assert pool.submit(on_loop, 9).result(timeout=5) == 9


def test_a_task_that_waits_for_itself_is_told_so() -> None:
    with WorkerPool(ONE) as pool:
        ids: list[str] = []

        def own() -> Any:
            return pool.get_task_result(ids[0])

        ready = Puppet()
        pool.submit_task("first", ready)
        ids.append(pool.submit_task("own", own))
        ready.tell("finish")
        error = pool.get_task_result(ids[0], timeout=5).error
        assert isinstance(error.__cause__, DeadlockError)


def test_tasks_that_wait_for_each_other_are_told_so() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:
        ids: dict[str, str] = {}
        both = threading.Event()

        def wait_for(other: str) -> Any:
            both.wait(5)
            return pool.get_task_result(ids[other]).success

        ids["a"] = pool.submit_task("a", wait_for, ("b",))
        ids["b"] = pool.submit_task("b", wait_for, ("a",))
        both.set()
        results = pool.wait_for_all(timeout=5)
        told = [each for each in results if each.error is not None]
        assert len(told) == 1
        assert isinstance(told[0].error.__cause__, DeadlockError)


def test_tasks_that_each_wait_for_all_leave_each_other_out() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:
        for number in range(4):
            pool.submit_task(f"t{number}", pool.wait_for_all)
        assert all(each.success for each in pool.wait_for_all(timeout=5))


def test_a_task_may_shut_its_pool_down() -> None:
    pool = WorkerPool(ONE)
    task = pool.submit_task("last", pool.shutdown)
    assert pool.get_task_result(task, timeout=5).success
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit_task("later", print)


def test_a_callback_of_a_future_may_wait_on_a_pool_of_one() -> None:
    got: list[int] = []
    with WorkerPool(1) as pool:
        puppet = Puppet()
        future = pool.submit(puppet)
        future.add_done_callback(lambda _: got.append(pool.submit(int, 3).result(timeout=5)))
        puppet.tell("finish")
        until(lambda: got == [3])


def test_a_wait_that_times_out_ends_nothing_but_the_wait() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0)) as pool:
        puppet = Puppet()
        quick = pool.submit_task("quick", int)
        slow = pool.submit_task("slow", puppet)
        pool.get_task_result(quick)
        with pytest.raises(TimeoutError) as caught:
            pool.wait_for_all(timeout=0.01)
        assert isinstance(caught.value, WaitTimeoutError)
        assert [each.task_id for each in caught.value.results] == [quick]
        with pytest.raises(TimeoutError):
            pool.get_task_result(slow, timeout=0)
        with pytest.raises(TimeoutError):
            pool.submit(puppet).result(timeout=0.01)
        puppet.tell("finish")
        puppet.tell("finish")
        assert pool.get_task_result(slow, timeout=5).result == "done"


def test_results_come_in_the_order_of_submission() -> None:
    with WorkerPool(8) as pool:
        ids = [pool.submit_task("t", time.sleep, ((8 - n) / 1000,)) for n in range(8)]
        assert [each.task_id for each in pool.wait_for_all()] == ids


def test_a_wait_ends_with_the_first_as_its_word_says() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=3, max_retries=0)) as pool:
        puppets = [Puppet() for _ in range(3)]
        ids = [pool.submit_task("t", each) for each in puppets]
        puppets[1].tell("finish")
        assert [each.task_id for each in pool.wait_for_all(5, FIRST_COMPLETED)] == [ids[1]]
        threading.Timer(0.01, puppets[2].tell, ["fail"]).start()
        assert [each.task_id for each in pool.wait_for_all(5, FIRST_EXCEPTION)] == ids[1:]
        assert len(pool.wait_for_all(5, FIRST_EXCEPTION)) == 2
        puppets[0].tell("finish")
        assert len(pool.wait_for_all(5)) == 3
        with pytest.raises(ConfigurationError, match="return_when"):
            pool.wait_for_all(return_when="SOME")


def test_all_that_have_ended_are_there_when_a_wait_for_all_is_over() -> None:
    with WorkerPool(4) as pool:
        for _ in range(200):
            futures = [pool.submit(int) for _ in range(4)]
            pool.wait_for_all()
            assert all(each.done() for each in futures)


def test_many_threads_may_wait_for_one_task() -> None:
    with WorkerPool(1) as pool:
        puppet = Puppet()
        task = pool.submit_task("t", puppet)
        got: list[Any] = []
        threads = [
            threading.Thread(target=lambda: got.append(pool.get_task_result(task).result))
            for _ in range(20)
        ]
        for each in threads:
            each.start()
        puppet.tell("finish")
        for each in threads:
            each.join(5)
        assert got == ["done"] * 20


def test_a_wait_that_blocks_a_running_loop_warns_once() -> None:
    async def block() -> None:
        with WorkerPool(1) as pool:
            assert pool.submit(time.sleep, 0.01).result() is None
            assert pool.submit(time.sleep, 0.01).result() is None

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(block())
    assert [each.category for each in caught] == [BlockedLoopWarning]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_blocking_wait_on_the_pools_own_loop_is_refused(loop: str) -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0, loop=loop)) as pool:
        puppet = Puppet()
        task = pool.submit_task("puppet", puppet)
        future = pool.submit(puppet)

        async def wait_in(how: Any, *args: Any) -> None:
            how(*args)

        pool.resize(3)
        for call in [(pool.get_task_result, task), (pool.wait_for_all,), (future.result,)]:
            with pytest.raises(HostLoopError, match="own loop"):
                pool.submit(wait_in, *call).result(timeout=5)
        puppet.tell("finish")
        puppet.tell("finish")


@pytest.mark.real_clock
async def test_a_future_may_be_awaited_in_any_loop(anyio_backend: Any) -> None:
    with WorkerPool(2) as pool:
        assert await pool.submit(divmod, 7, 3) == (2, 1)
        with pytest.raises(ZeroDivisionError):
            await pool.submit(divmod, 1, 0)
        puppet = Puppet()
        with anyio.move_on_after(0.01) as scope:
            await pool.submit(puppet)
        assert scope.cancelled_caught
        puppet.tell("finish")
        await anyio.to_thread.run_sync(pool.shutdown)


@pytest.mark.asyncio_only
@pytest.mark.real_clock
async def test_a_future_works_with_asyncio_wrap_future(anyio_backend: Any) -> None:
    pool = WorkerPool(2)
    assert await asyncio.wrap_future(pool.submit(divmod, 7, 3)) == (2, 1)
    running = asyncio.get_running_loop()
    assert await running.run_in_executor(pool, divmod, 7, 3) == (2, 1)
    await anyio.to_thread.run_sync(pool.shutdown)


def test_an_async_task_that_is_stopped_while_it_lends_leaves_the_tokens_right() -> None:
    config = WorkerPoolConfig(max_workers=1, max_retries=0, task_timeout_seconds=0.1)
    with WorkerPool(config) as pool:
        puppet = Puppet()

        async def waits() -> None:
            await pool.submit(puppet)

        error = pool.get_task_result(pool.submit_task("waits", waits)).error
        assert isinstance(error.__cause__, TimeoutError)
        puppet.tell("finish")
        until(lambda: pool.get_summary_metrics()["running"] == 0)
        gauge = Gauge()
        for each in [pool.submit(gauge, None, 0.002) for _ in range(5)]:
            each.result()
        assert gauge.peak == 1


def test_waits_of_the_standard_library_lend_too() -> None:
    with WorkerPool(1) as pool:

        def depth(left: int) -> int:
            if not left:
                return 0
            futures = [pool.submit(depth, left - 1)]
            if left % 2:
                return 1 + futures_of.wait(futures, timeout=5).done.pop().result()
            return 1 + sum(each.result() for each in futures_of.as_completed(futures, timeout=5))

        assert pool.submit(depth, 8).result(timeout=5) == 8


def test_never_more_run_than_may_when_tasks_wait_by_the_standard_library() -> None:
    gauge = Gauge(2)
    with WorkerPool(2) as pool:

        def parent() -> None:
            for each in futures_of.as_completed([pool.submit(gauge, 1, 0.002) for _ in range(3)]):
                each.result()
            gauge("parent", 0.002)

        for each in [pool.submit(parent) for _ in range(8)]:
            each.result(timeout=5)
    assert gauge.peak == 2


def test_a_callback_that_exits_costs_the_pool_no_worker() -> None:
    def exits(_: Any) -> None:
        raise SystemExit

    async def on_loop() -> int:
        return 1

    with WorkerPool(1) as pool:
        for fn in (int, on_loop, int):
            puppet = Puppet()
            first = pool.submit(puppet)
            second = pool.submit(fn)
            second.add_done_callback(exits)
            puppet.tell("finish")
            assert first.result(timeout=5) == "done"
            assert second.result(timeout=5) in (0, 1)
        assert pool.submit(int, 7).result(timeout=5) == 7


def test_without_another_thread_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    async def on_loop() -> None:
        pass

    pool = WorkerPool(WorkerPoolConfig(max_retries=0, task_timeout_seconds=None))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert [each.result() for each in [pool.submit(int, n) for n in range(3)]] == [0, 1, 2]
        assert pool.get_task_result(pool.submit_task("t", threading.get_ident)).result == (
            threading.get_ident()
        )
        with pytest.raises(RuntimeError, match="new thread"):
            pool.submit(on_loop).result(timeout=5)
    assert pool.submit(threading.get_ident).result(timeout=5) != threading.get_ident()
    pool.shutdown()


def test_a_thread_that_cannot_be_had_is_missed_by_nobody_who_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with WorkerPool(4) as pool:
        puppet = Puppet()
        first = pool.submit(puppet)
        puppet.running.wait(5)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            others = [pool.submit(threading.get_ident) for _ in range(20)]
        puppet.tell("finish")
        assert first.result(timeout=5) == "done"
        assert threading.get_ident() not in {each.result(timeout=5) for each in others}


def test_an_abandoned_task_that_waits_has_its_token_back_when_all_else_is_over() -> None:
    config = WorkerPoolConfig(max_workers=1, max_retries=0, task_timeout_seconds=0.05)
    ended: list[str] = []
    stuck = Puppet()
    with WorkerPool(config) as pool:

        def waits() -> None:
            pool.get_task_result(pool.submit_task("stuck", stuck))
            ended.append("went on")

        pool.get_task_result(pool.submit_task("waits", waits))
    assert pool.get_summary_metrics()["abandoned"] == 2
    assert not ended  # its token is the stuck one's
    stuck.tell("finish")
    until(lambda: ended == ["went on"])


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_token_that_comes_back_to_a_stopped_task_goes_on_to_others(loop: str) -> None:
    config = WorkerPoolConfig(max_workers=1, max_retries=0, task_timeout_seconds=0.1, loop=loop)
    with WorkerPool(config) as pool:
        blocker = Puppet()

        async def waits() -> None:
            quick = pool.submit(int)
            pool.submit_task("blocker", blocker, priority=-1)
            await quick  # it has ended, and the blocker has the token

        pool.get_task_result(pool.submit_task("waits", waits), timeout=5)
        blocker.tell("finish")
        assert pool.submit(int, 7).result(timeout=5) == 7
