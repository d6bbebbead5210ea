"""Say that virtual time has passed over calls in threads, which it does not wait for.

A deadline that strikes there says nothing of the call: an hour has passed in no time. What is
counted is what the engine runs in threads, scripts and processes among it, and what the program
has given to the threads of trio, of anyio or of asyncio.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable
from typing import Any, cast

import anyio.to_thread
import trio
from sniffio import current_async_library_cvar
from trio.testing import MockClock

from anabranch import _anyio
from anabranch._host import host_of
from anabranch._runtime import Runtime
from anabranch.abc import Limiter
from anabranch.lanes._process import cpu_limiter
from anabranch.lanes._room import ROOM
from anabranch.lanes._thread import io_lane
from anabranch.testing._clock import standstill
from anabranch.testing._leaks import trio_tasks
from anabranch.testing._standing import Standing


class VirtualTimeWarning(UserWarning):
    """Say that virtual time has passed while calls ran in threads; it waits for none of them."""


class Unwaited:
    """Watch one loop's virtual time, and tell once if it has passed over calls in threads.

    Args:
        runtime: the loop's. default: returns its own limiter of threads.
        library: what sniffio is to answer, which is asked outside of all tasks.
    """

    def __init__(self, runtime: Runtime, default: Callable[[], Limiter], library: str) -> None:
        self.given = 0  # calls of the loop's own executor, asyncio's, that have not ended
        self._runtime = runtime
        self._default = default
        self._library = library
        self._words = ""
        self._told = False
        self.standing: Standing | None = None  # the test that is to be ended where all waits

    def count(self) -> int:
        """Return how many calls run in threads now."""
        if threading.active_count() == 1:  # usually so, and the answer is asked at each jump
            return 0
        token = current_async_library_cvar.set(self._library)
        try:
            host = host_of(self._runtime)
            limiters = [self._default()]
            if host is not None:
                limiters += [io_lane(host).limiter, host.part(cpu_limiter)]
        finally:
            current_async_library_cvar.reset(token)
        return self.given + ROOM.running + sum(each.borrowed_tokens for each in limiters)

    def passed(self, before: float, now: float, calls: int) -> None:
        """Hear that so many calls ran while time went from one moment to another, in seconds."""
        if calls and now > before and not self._words:
            self._words = (
                f"virtual time went from {before:g} s to {now:g} s while {calls} "
                f"call{'s' * (calls > 1)} ran in threads, and it waits for none of them: what a "
                f"deadline or a sleep says there is not so. Use async functions, or real time: "
                f'anyio.run without virtual_time, or the mark anabranch(clock="real")'
            )

    def stands_still(self, words: Callable[[], str], descriptors: int) -> bool:
        """Hear that nothing is left to go on, and end the test if nothing outside could wake it."""
        standing = self.standing
        if standing is None or descriptors or self.count() or not standing.looks():
            return False
        standing.end(words())
        return True

    def tell(self) -> None:
        """Warn of it, once."""
        if self._words and not self._told:
            self._told = True
            warnings.warn(VirtualTimeWarning(self._words), stacklevel=2)


def on_asyncio(standing: Standing | None = None) -> Unwaited:
    """Return what watches a loop of asyncio."""
    threads = anyio.to_thread.current_default_thread_limiter
    unwaited = Unwaited(cast(Runtime, _anyio), threads, "asyncio")
    unwaited.standing = standing
    return unwaited


class OnTrio(trio.abc.Instrument):
    """Watch the jumps of a run of trio under a clock."""

    def __init__(self, clock: MockClock, standing: Standing | None = None) -> None:
        threads = trio.to_thread.current_default_thread_limiter
        self.unwaited = Unwaited(cast(Runtime, trio), threads, "trio")
        self.unwaited.standing = standing
        self._clock = clock
        self._seen = (0.0, 0)

    def before_io_wait(self, timeout: float) -> None:
        """See how far time has jumped since the loop last waited, and who works now."""
        del timeout
        unwaited, now = self.unwaited, self._clock.current_time()
        unwaited.passed(self._seen[0], now, self._seen[1])
        self._seen = (now, unwaited.count())

    def after_io_wait(self, timeout: float) -> None:
        """See whether this look at the descriptors woke nobody, and nothing is left that could."""
        del timeout
        if self.unwaited.standing is None:
            return
        now = trio.lowlevel.current_statistics()
        if now.tasks_runnable or now.run_sync_soon_queue_size:
            return
        if now.seconds_to_next_deadline == math.inf:
            waits: Any = now.io_statistics  # of a kind for each system
            descriptors = max(0, getattr(waits, "tasks_waiting_read", 0) - 1)  # but the loop's own
            descriptors += getattr(waits, "tasks_waiting_write", 0)
            self.unwaited.stands_still(self._standstill, descriptors)

    def _standstill(self) -> str:
        own = ("<init>", "<TrioToken")  # trio's: they wait as long as it runs
        waiting = [(t.name, t.coro) for t in trio_tasks() if not t.name.startswith(own)]
        return standstill(self._clock.current_time(), waiting)

    def after_run(self) -> None:
        """Tell of it at the end, unless whoever began the run has told."""
        self.unwaited.tell()
