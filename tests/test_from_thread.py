"""A thread of a branch that calls into the loop while its step is cancelled: nothing hangs.

A thread that is waited for has its calls cancelled, whenever they begin. An abandoned one does
with the loop what the host lets it: its calls run, or are cancelled, and its tokens come home.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest
import sniffio
import trio

from anabranch import Pipeline, Step
from anabranch._host import current_host
from anabranch.lanes._thread import io_lane
from tests.branches import LONGER, with_begun

pytestmark = [pytest.mark.real_clock]
CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError, trio.Cancelled)
each_words = pytest.mark.parametrize("words", ["anyio's", "the loop's own"])
each_moment = pytest.mark.parametrize("moment", ["before", "after"])


class Caller:
    """Be the plain function of a branch that calls into the loop, and note what came of it."""

    def __init__(self, words: str, moment: str) -> None:
        on_trio = sniffio.current_async_library() == "trio"
        own = words == "the loop's own" and on_trio
        self.module: Any = trio.from_thread if own else anyio.from_thread
        self.moment = moment
        self.begun = threading.Event()
        self.struck = threading.Event()
        self.release = anyio.Event()
        self.seen: list[str] = []

    def __call__(self, data: Any) -> None:
        if self.moment == "after":
            self.begun.set()
            self.struck.wait(60)
        self.note(lambda: self.module.run(self.waits))

    def note(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except CANCELLED:
            self.seen.append("cancelled")
            raise
        self.seen.append("returned")

    async def waits(self) -> None:
        self.begun.set()
        await self.release.wait()

    async def let_go(self) -> None:
        """End the call after all: where it should have been cancelled, a test fails, and ends."""
        await anyio.sleep(10)
        self.release.set()

    async def strike(self, cancel: Callable[[], object]) -> None:
        """Cancel once the thread has begun."""
        while not self.begun.is_set():
            await anyio.sleep(0.001)
        cancel()
        self.struck.set()


class Checker(Caller):
    """Ask again and again whether it is cancelled."""

    def __call__(self, data: Any) -> None:
        self.begun.set()
        self.note(self.ask)

    def ask(self) -> None:
        while not self.struck.wait(0.001):
            self.module.check_cancelled()
        for _ in range(1000):
            self.module.check_cancelled()
            threading.Event().wait(0.001)


def pipeline_of(fn: Any, limiter: Any, on_cancel: str, **options: Any) -> Pipeline[Any, Any]:
    steps = {"a": Step("a", fn, on_cancel=on_cancel)}
    return Pipeline([Step.parallel("p", steps, max_concurrency=limiter, **options)])


async def until_home(limiter: Any) -> None:
    """Wait until no thread of the loop holds anything."""
    lane = io_lane(current_host())
    with anyio.fail_after(10):
        while limiter.borrowed_tokens or lane.limiter.borrowed_tokens or lane.abandoned:
            await anyio.sleep(0.001)


async def run_and_strike(caller: Caller, limiter: Any, on_cancel: str) -> None:
    """Run a step with the caller as its branch, and cancel it from outside."""
    async with anyio.create_task_group() as group:
        group.start_soon(caller.let_go)
        with anyio.CancelScope() as scope:
            group.start_soon(caller.strike, scope.cancel)
            await pipeline_of(caller, limiter, on_cancel, timeout=None).run(1)
        group.cancel_scope.cancel()
    assert scope.cancelled_caught


@each_words
@each_moment
async def test_a_thread_that_is_waited_for_is_cancelled_in_its_call(
    words: str, moment: str, all_home: Any
) -> None:
    limiter = all_home(current_host().runtime.CapacityLimiter(2))
    caller = Caller(words, moment)
    await run_and_strike(caller, limiter, "wait")
    assert caller.seen == ["cancelled"]
    assert limiter.borrowed_tokens == 0
    assert io_lane(current_host()).limiter.borrowed_tokens == 0


@each_words
@each_moment
async def test_an_abandoned_thread_ends_with_its_call(
    words: str, moment: str, all_home: Any
) -> None:
    limiter = all_home(current_host().runtime.CapacityLimiter(2))
    caller = Caller(words, moment)
    await run_and_strike(caller, limiter, "abandon")
    caller.release.set()
    await until_home(limiter)
    assert len(caller.seen) == 1


@each_words
@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_a_thread_that_asks_hears_that_it_is_cancelled(
    words: str, on_cancel: str, all_home: Any
) -> None:
    limiter = all_home(current_host().runtime.CapacityLimiter(2))
    checker = Checker(words, "before")
    await run_and_strike(checker, limiter, on_cancel)
    await until_home(limiter)
    assert checker.seen == ["cancelled"]


@each_moment
@pytest.mark.parametrize(("on_cancel", "status"), [("wait", "cancelled"), ("abandon", "abandoned")])
async def test_the_deadline_of_the_step_says_so_in_the_result(
    moment: str, on_cancel: str, status: str, all_home: Any
) -> None:
    limiter = all_home(current_host().runtime.CapacityLimiter(2))

    async def attempt(seconds: float, begun: threading.Event) -> tuple[float, Any]:
        caller = Caller("anyio's", moment)
        caller.begun = begun

        async def later() -> None:
            await anyio.sleep(seconds + 0.05)
            caller.struck.set()
            await caller.let_go()

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            result = await pipeline_of(caller, limiter, on_cancel, timeout=seconds).run(1)
            caller.struck.set()
            group.cancel_scope.cancel()
        caller.release.set()
        await until_home(limiter)
        return seconds, result.step_history[0].branches["a"]

    seconds, branch = await with_begun(attempt)
    assert (branch.status, branch.reason) == (status, f"deadline: {seconds:g} s (timeout=)")


@each_moment
@pytest.mark.asyncio_only
@pytest.mark.parametrize("on_cancel", ["wait", "abandon"])
async def test_a_native_cancellation_reaches_the_call_of_a_thread_that_is_waited_for(
    moment: str, on_cancel: str, all_home: Any
) -> None:
    limiter = all_home(current_host().runtime.CapacityLimiter(2))
    caller = Caller("anyio's", moment)
    run = asyncio.ensure_future(pipeline_of(caller, limiter, on_cancel, timeout=None).run(1))
    async with anyio.create_task_group() as group:
        group.start_soon(caller.let_go)
        await caller.strike(run.cancel)
        await asyncio.wait([run])
        group.cancel_scope.cancel()
    assert run.cancelled()
    assert (caller.seen == ["cancelled"]) == (on_cancel == "wait")
    caller.release.set()
    await until_home(limiter)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize("sync", [True, False])
def test_a_thread_that_outlives_its_loop_gets_an_error(loop: str, sync: bool) -> None:
    for seconds in LONGER:
        begun = threading.Event()
        status, seen = outlive_the_loop(loop, sync, seconds, begun)
        if begun.is_set():
            break
    assert status == "abandoned"
    assert seen == ["RunFinishedError"]


def outlive_the_loop(
    loop: str, sync: bool, seconds: float, begun: threading.Event
) -> tuple[str, list[str]]:
    """Have a thread call into a loop that has ended; return what came of both."""
    over, ended, seen = threading.Event(), threading.Event(), []

    def calls_late(data: Any) -> None:
        begun.set()
        over.wait(60)
        try:
            if sync:
                anyio.from_thread.run_sync(int)
            else:
                anyio.from_thread.run(anyio.sleep, 0)
        except Exception as error:
            seen.append(type(error).__name__)
        ended.set()

    result = Pipeline([Step.parallel({"a": calls_late}, timeout=seconds)]).run_sync(1, loop=loop)
    over.set()
    assert ended.wait(10) or not begun.is_set()
    return str(result.step_history[0].branches["a"].status), seen
