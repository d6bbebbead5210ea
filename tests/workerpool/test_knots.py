"""Waits that would never end are refused, whichever words they are made in; no other is."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures_of
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future
from functools import partial
from typing import Any

import pytest

from anabranch import (
    AsyncWorkerPool,
    DeadlockError,
    HostLoopError,
    WaitTimeoutError,
    WorkerPool,
    WorkerPoolConfig,
)
from tests.workerpool.puppets import Puppet

TWO = WorkerPoolConfig(max_workers=2, max_retries=0)

Wait = Callable[[list[Future[Any]]], Any]

WAITS: dict[str, Wait] = {
    "wait": futures_of.wait,
    "first": partial(futures_of.wait, return_when=FIRST_COMPLETED),
    "exception": partial(futures_of.wait, return_when=FIRST_EXCEPTION),
    "as_completed": lambda futures: list(futures_of.as_completed(futures)),
    "result": lambda futures: futures[0].result(),
}


class Futures:
    """Be the futures of tasks that wait for each other, once all are there."""

    def __init__(self) -> None:
        self.known: dict[str, Future[Any]] = {}
        self.there = threading.Event()

    def wait_for(self, how: Wait, *names: str) -> str:
        """Wait for others by their names."""
        self.there.wait(5)
        how([self.known[name] for name in names])
        return "done"


@pytest.mark.parametrize("first", WAITS)
@pytest.mark.parametrize("second", WAITS)
def test_of_two_that_wait_for_each_other_one_is_told_so(first: str, second: str) -> None:
    futures = Futures()
    with WorkerPool(TWO) as pool:
        futures.known["a"] = pool.submit(futures.wait_for, WAITS[first], "b")
        futures.known["b"] = pool.submit(futures.wait_for, WAITS[second], "a")
        futures.there.set()
        errors = [each.exception(timeout=5) for each in futures.known.values()]
    # A result that is asked for raises what the other was told.
    assert any(isinstance(each, DeadlockError) for each in errors)


@pytest.mark.parametrize("how", WAITS)
def test_one_that_waits_for_itself_is_told_so(how: str) -> None:
    futures = Futures()
    with WorkerPool(TWO) as pool:
        futures.known["own"] = pool.submit(futures.wait_for, WAITS[how], "own")
        futures.there.set()
        assert isinstance(futures.known["own"].exception(timeout=5), DeadlockError)


@pytest.mark.parametrize("how", ["first", "as_completed"])
def test_a_wait_for_any_of_several_goes_on_while_one_of_them_can_end(how: str) -> None:
    futures, puppet = Futures(), Puppet()
    with WorkerPool(WorkerPoolConfig(max_workers=3, max_retries=0)) as pool:
        futures.known["free"] = pool.submit(puppet)
        # Of the two that are waited for here, one waits for this very task.
        first = (
            WAITS["first"] if how == "first" else lambda all_: next(futures_of.as_completed(all_))
        )
        futures.known["any"] = pool.submit(futures.wait_for, first, "free", "knotted")
        futures.known["knotted"] = pool.submit(futures.wait_for, WAITS["result"], "any")
        futures.there.set()
        puppet.tell("finish")
        assert futures.known["any"].result(timeout=5) == "done"
        assert futures.known["knotted"].result(timeout=5) == "done"


def test_a_wait_for_any_is_refused_when_none_of_them_can_end_but_after_it() -> None:
    futures = Futures()
    with WorkerPool(WorkerPoolConfig(max_workers=3, max_retries=0)) as pool:
        names = ("a", "b", "any")
        waits = (WAITS["wait"], "any"), (WAITS["result"], "any"), (WAITS["first"], "a", "b")
        for name, call in zip(names, waits, strict=True):
            futures.known[name] = pool.submit(futures.wait_for, *call)
        futures.there.set()
        errors = [each.exception(timeout=5) for each in futures.known.values()]
    assert any(isinstance(each, DeadlockError) for each in errors)


def test_what_other_executors_run_may_end_a_wait() -> None:
    futures, puppet = Futures(), Puppet()
    with WorkerPool(TWO) as pool, futures_of.ThreadPoolExecutor(1) as other:
        futures.known["foreign"] = other.submit(puppet)
        futures.known["own"] = pool.submit(futures.wait_for, WAITS["first"], "own", "foreign")
        futures.there.set()
        with pytest.raises(TimeoutError):
            futures.known["own"].result(timeout=0.05)
        puppet.tell("finish")
        assert futures.known["own"].result(timeout=5) == "done"


def test_a_wait_with_a_timeout_ends_by_itself() -> None:
    futures = Futures()
    with WorkerPool(TWO) as pool:
        short = partial(futures_of.wait, timeout=0.02, return_when=ALL_COMPLETED)
        futures.known["own"] = pool.submit(futures.wait_for, short, "own")
        futures.there.set()
        assert futures.known["own"].result(timeout=5) == "done"


def test_what_is_refused_is_not_tried_again() -> None:
    with WorkerPool(WorkerPoolConfig(max_workers=1, max_retries=3)) as pool:
        ids: list[str] = []
        ready = Puppet()
        pool.submit_task("first", ready)
        ids.append(pool.submit_task("own", lambda: pool.get_task_result(ids[0])))
        ready.tell("finish")
        own = pool.get_task_result(ids[0], timeout=0.9)  # the first retry would come after 1 s
        assert isinstance(own.error.__cause__, DeadlockError)
        assert own.metrics.retries_used == 0
        waits = pool.submit_task("puppet", ready)

        async def block() -> None:
            pool.get_task_result(waits)

        pool.resize(2)
        blocked = pool.get_task_result(pool.submit_task("block", block), timeout=0.9)
        ready.tell("finish")
        assert isinstance(blocked.error.__cause__, HostLoopError)


@pytest.mark.anyio
async def test_a_pool_on_the_hosts_loop_does_not_try_it_again_either(anyio_backend: Any) -> None:
    async with AsyncWorkerPool(WorkerPoolConfig(max_workers=1, max_retries=3)) as pool:
        ids: list[str] = []

        async def own() -> Any:
            return await pool.get_task_result(ids[0])

        ids.append(pool.submit_task("own", own))
        found = await pool.get_task_result(ids[0], timeout=0.9)
        assert isinstance(found.error.__cause__, DeadlockError)
        assert found.metrics.retries_used == 0


def test_a_wait_that_blocks_a_loop_is_warned_of_at_the_line_that_waits() -> None:
    async def block(pool: WorkerPool) -> None:
        task = pool.submit_task("puppet", puppet)
        with pytest.raises(WaitTimeoutError):
            pool.get_task_result(task, timeout=0.001)

    async def block_by_future(pool: WorkerPool) -> None:
        with pytest.raises(TimeoutError):
            pool.submit(puppet).result(timeout=0.001)

    for each in (block, block_by_future):
        puppet = Puppet()
        with WorkerPool(1) as pool, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asyncio.run(each(pool))
            puppet.tell("finish")
        assert [warning.filename for warning in caught] == [__file__]
