"""Branches that tell what they saw, for the tests of the core."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from anabranch._scheduler import Scheduler
from anabranch._work import Job, Outcome

T = TypeVar("T")

LONGER = (0.1, 2.0, 20.0)  # seconds: deadlines to try, one after another


async def with_begun(run: Callable[[float, threading.Event], Awaitable[T]]) -> T:
    """Await ``run(seconds, begun)`` with a longer deadline each time, until its thread has begun.

    For deadlines that are to strike beside a thread: on a busy machine it may begin after them.
    """
    for seconds in LONGER:
        begun = threading.Event()
        result = await run(seconds, begun)
        if begun.is_set():
            return result
    raise AssertionError(f"no thread has begun within {LONGER[-1]:g} s")


class Watch:
    """Count how many run at once, and compare each start with the limit of that moment."""

    def __init__(self, limiter: Any = None) -> None:
        self.limiter = limiter
        self.running = 0
        self.peak = 0
        self.started: list[Any] = []
        self.above: list[tuple[int, float]] = []  # starts above the limit
        self._lock = threading.Lock()

    def begin(self, name: Any = None) -> None:
        with self._lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
            self.started.append(name)
            if self.limiter is not None and self.running > self.limiter.total_tokens:
                self.above.append((self.running, self.limiter.total_tokens))

    def end(self) -> None:
        with self._lock:
            self.running -= 1

    async def sleeps(self, name: Any = None, seconds: float = 0.01) -> Any:
        self.begin(name)
        try:
            await anyio.sleep(seconds)
        finally:
            self.end()
        return name


async def sleep(seconds: float, value: Any = None) -> Any:
    await anyio.sleep(seconds)
    return value


async def no_checkpoint(value: Any = None) -> Any:
    return value


async def fails(error: BaseException) -> None:
    await anyio.lowlevel.checkpoint()
    raise error


def submit(scheduler: Scheduler, key: str, fn: Any, *args: Any, **terms: Any) -> None:
    scheduler.submit(Job(key, fn, args, **terms))


async def read(scheduler: Scheduler) -> dict[str, Outcome]:
    """Read every outcome; a key that comes twice fails."""
    found: dict[str, Outcome] = {}
    last = -1
    async for outcome in scheduler.outcomes:
        assert outcome.key not in found, f"{outcome.key} has two outcomes"
        assert outcome.order > last
        last = outcome.order
        found[outcome.key] = outcome
    return found


def statuses(found: dict[str, Outcome]) -> dict[str, int]:
    return dict(Counter(str(outcome.status) for outcome in found.values()))
