"""See that virtual time jumps, and that it neither loses nor invents anything."""

from __future__ import annotations

import asyncio
import math
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import pytest

from anabranch.errors import DeadlockError
from anabranch.testing._clock import VirtualLoop

YEAR = 365 * 24 * 3600.0


def run(async_fn: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    with asyncio.Runner(loop_factory=partial(VirtualLoop, **options)) as runner:
        return runner.run(async_fn())


def now() -> float:
    return asyncio.get_running_loop().time()


async def a_year() -> float:
    await asyncio.sleep(YEAR)
    return now()


def test_time_starts_at_zero_and_a_year_passes_at_once() -> None:
    real = time.perf_counter()
    assert run(a_year) == YEAR
    assert time.perf_counter() - real < 60


def test_anyio_takes_it_as_a_loop_factory() -> None:
    assert anyio.run(a_year, backend_options={"loop_factory": VirtualLoop}) == YEAR


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has no loop_factory")
def test_asyncio_run_takes_it_as_a_loop_factory() -> None:
    assert asyncio.run(a_year(), loop_factory=VirtualLoop) == YEAR


@pytest.mark.parametrize("start", [0.0, 1e6, 1e9, 1e15])
def test_sleeps_end_in_order_and_when_they_are_due(start: float) -> None:
    async def main() -> list[float]:
        await asyncio.sleep(start)
        ends: list[float] = []

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(seconds)
            ends.append(now() - start)

        async with asyncio.TaskGroup() as group:
            for seconds in (3, 1, 2, 1):
                group.create_task(sleep(seconds))
        return ends

    assert run(main) == [1, 1, 2, 3]


def test_what_can_be_read_comes_before_a_timer() -> None:
    async def main() -> float:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            asyncio.get_running_loop().call_soon(theirs.send, b"x")
            async with asyncio.timeout(0.001):
                await asyncio.get_running_loop().sock_recv(ours, 1)
            return now()

    assert run(main) == 0


def test_no_wakeup_from_a_thread_is_lost() -> None:
    many = 2000

    async def main() -> int:
        loop, seen = asyncio.get_running_loop(), 0
        done = asyncio.Event()

        def count() -> None:
            nonlocal seen
            seen += 1
            if seen == many:
                done.set()

        def send() -> None:
            for _ in range(many // 2):
                loop.call_soon_threadsafe(count)

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        while not done.is_set():  # timers all the time, so that every look may jump
            await asyncio.sleep(1)
        for thread in threads:
            thread.join()
        return seen

    assert run(main) == many


def test_a_loop_without_a_timer_waits_for_a_thread() -> None:
    async def main() -> tuple[str, float]:
        return await anyio.to_thread.run_sync(lambda: (time.sleep(0.02), "came")[1]), now()

    assert run(main) == ("came", 0)


def test_a_timer_does_not_wait_for_a_thread() -> None:
    async def main() -> bool:
        with anyio.move_on_after(100) as scope:
            await anyio.to_thread.run_sync(time.sleep, 0.02, abandon_on_cancel=True)
        await anyio.to_thread.run_sync(lambda: None)  # the abandoned one may end meanwhile
        return scope.cancelled_caught

    assert run(main)


async def wait_for_nothing() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(math.inf), name="for ever")
        await asyncio.sleep(5)
        await asyncio.Event().wait()


def test_waiting_for_nothing_is_an_error_that_says_who_waits_where() -> None:
    with pytest.raises(DeadlockError, match="at 5 s everything waits") as caught:
        run(wait_for_nothing, deadlock="raise")
    assert "for ever: " in str(caught.value)
    assert f"{__file__}:" in str(caught.value)
    assert "in wait_for_nothing" in str(caught.value)


def test_a_deadlock_of_what_swallows_its_cancellation_ends_too() -> None:
    async def main() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run(main, deadlock="raise")


class Recorder:
    """An order that changes nothing and remembers what it was asked."""

    def __init__(self) -> None:
        self.ready: list[object] = []
        self.due: list[list[float]] = []

    def arrange(self, ready: deque[asyncio.Handle]) -> None:
        self.ready.append(ready)

    def arrange_due(self, timers: list[asyncio.TimerHandle]) -> None:
        self.due.append([timer.when() for timer in timers])


def test_an_order_is_asked_once_an_iteration_and_once_a_tie() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.sleep(seconds) for seconds in (1, 2, 2, 2, 3)))

    order = Recorder()
    run(main, order=order)
    assert order.due == [[2, 2, 2]]
    assert len(order.ready) > 3
