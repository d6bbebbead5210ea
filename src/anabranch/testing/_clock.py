"""Give asyncio the virtual time which trio has in `trio.testing.MockClock`.

`VirtualLoop` starts at 0.0 and jumps to its next timer whenever nothing is ready and no
descriptor can be read, so an hour of sleeping costs nothing. It is made like any loop:

    asyncio.Runner(loop_factory=VirtualLoop)                                # 3.11
    asyncio.run(main(), loop_factory=VirtualLoop)                           # 3.12 and later
    anyio.run(main, backend_options={"loop_factory": VirtualLoop})

Like trio's autojump it does not wait for threads or for other processes: while one works and a
timer stands, the timer wins. What a thread sends with `call_soon_threadsafe` is never lost,
though: it arrives at whatever time it is then.

This file and `_schedules` are the only ones that touch private attributes of a loop;
`tests/testing` fails by name when an upstream version changes one of them.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any, Literal, Protocol, TypeVar, TypeVarTuple

from anabranch._stubborn import frames_of, lines_of
from anabranch.errors import DeadlockError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE_S = 0.1
_RESOLUTION = time.get_clock_info("monotonic").resolution
_LOOPS = {"anyio", "asyncio", "trio"}


class Order(Protocol):
    """Rearrange in place what may run in any order."""

    def arrange(self, ready: deque[asyncio.Handle]) -> None:
        """Rearrange the callbacks that are about to run; called once an iteration."""

    def arrange_due(self, timers: list[asyncio.TimerHandle]) -> None:
        """Rearrange the timers that are due at one and the same time."""


class Unwaited(Protocol):
    """Hear of jumps, and of calls that were given to the loop's executor."""

    given: int

    def count(self) -> int:
        """Return how many calls run in threads now."""

    def passed(self, before: float, now: float, calls: int) -> None:
        """Hear that so many calls ran while time went from one moment to another."""

    def stands_still(self, words: Callable[[], str], descriptors: int) -> bool:
        """Hear that nothing is left to go on; return whether that was changed.

        Args:
            words: says who waits where. descriptors: so many are waited for.
        """

    def tell(self) -> None:
        """Hear that the loop has ended."""


class _JumpingSelector(selectors.DefaultSelector):
    """Look at the descriptors without waiting, and let the loop's time pass instead."""

    def __init__(self) -> None:
        super().__init__()
        self.pass_time: Callable[[], bool] = bool
        self.patience: float | None = None  # seconds of real time, then it is asked again

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; block for ever only where time cannot be moved."""
        events = super().select(0)
        # A thread's wakeup which comes between this look and the next is not lost: its
        # callback is in the loop's queue already, and its byte makes the next look return.
        if events or (timeout is not None and timeout <= 0) or self.pass_time():
            return events
        return super().select(self.patience)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Run an asyncio program in virtual time, in an order of ready callbacks that may be drawn.

    Args:
        order: Draws the order of what may run in any; first come first served without.
        deadlock: What to do when everything waits and there is no timer. A thread or a process
            may still send something, so ``"wait"`` is the default; ``"raise"`` is for programs
            that have neither, and raises `DeadlockError` with the line where each task sits.
        unwaited: Hears of jumps, to say what they passed over, and of a standstill.
    """

    def __init__(
        self,
        *,
        order: Order | None = None,
        deadlock: Literal["wait", "raise"] = "wait",
        unwaited: Unwaited | None = None,
    ) -> None:
        self._now = 0.0
        self._unwaited = unwaited
        self._order = order
        self._deadlock = deadlock
        self._jumping = selector = _JumpingSelector()
        super().__init__(selector)
        selector.pass_time = self._pass_time
        selector.patience = None if unwaited is None else PATIENCE_S

    def time(self) -> float:
        """Return the virtual time, in seconds since the loop was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass while the program computes, as `MockClock.jump` does."""
        self._now += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a function in a thread, and know that it runs there."""
        future = super().run_in_executor(executor, func, *args)
        if self._unwaited is not None:
            self._unwaited.given += 1
            future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        if self._unwaited is not None:
            self._unwaited.given -= 1

    def close(self) -> None:
        """Close the loop, and tell what its time has passed over."""
        super().close()
        if self._unwaited is not None:
            self._unwaited.tell()

    def _pass_time(self) -> bool:
        due = self._next_timer()
        if due == math.inf:
            if self._deadlock == "raise":
                raise DeadlockError(self._standstill())
            others = len(self._jumping.get_map()) - 1  # than the one that wakes the loop
            known = self._unwaited
            return known is not None and known.stands_still(self._standstill, others)
        # Only what is due *before* now and a resolution is run; far from zero the two are one
        # number, and the loop would stand still (as a real one does after 97 days).
        self._clock_resolution = max(_RESOLUTION, math.ulp(due))
        before, self._now = self._now, max(self._now, due)
        if self._unwaited is not None:
            self._unwaited.passed(before, self._now, self._unwaited.count())
        if self._order is not None:
            self._arrange_due(self._order, due)
        return True

    def _standstill(self) -> str:
        tasks = [(each.get_name(), each.get_coro()) for each in asyncio.all_tasks(self)]
        return standstill(self._now, tasks)

    def _timers(self) -> list[asyncio.TimerHandle]:
        return self._scheduled  # type: ignore[attr-defined,no-any-return]  # private to asyncio

    def _next_timer(self) -> float:
        timers = self._timers()
        return timers[0].when() if timers else math.inf

    def _arrange_due(self, order: Order, due: float) -> None:
        # Equals may change places in a heap, and a real clock would have told them apart.
        timers = self._timers()
        places = [at for at, timer in enumerate(timers) if timer.when() == due]
        if len(places) > 1:
            equals = [timers[at] for at in places]
            order.arrange_due(equals)
            for at, timer in zip(places, equals, strict=True):
                timers[at] = timer

    def _process_events(self, events: list[Any]) -> None:
        # The last hook before the callbacks run: what can be read has been queued by now. Timers
        # that are due have not, but they run no step of a program, they only make one ready.
        super()._process_events(events)  # type: ignore[misc]  # private to asyncio
        if self._order is not None:
            self._order.arrange(self._ready)  # type: ignore[attr-defined]  # private to asyncio


def where(coro: object) -> str:
    """Name the line at which a suspended coroutine waits: the innermost that is not a loop's."""
    frames = frames_of(coro)
    for line in (lines_of(frames, but=_LOOPS) or lines_of(frames))[-1:]:
        return line
    return "no frame"


def standstill(now: float, waiting: Iterable[tuple[str, object]]) -> str:
    """Say who waits where, when all wait for ever."""
    lines = sorted(f"  {name}: {where(coro)}" for name, coro in waiting)
    head = (
        f"at {now:g} s everything waits, and no timer is left that could wake one "
        f"(threads and processes are not waited for):"
    )
    return "\n".join([head, *lines])
