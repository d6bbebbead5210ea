"""Run a program under an order that a seed draws, on either loop, in virtual time.

Both loops promise little about who runs next, so a fault may need an order that comes once in a
thousand runs. Here the order is drawn, and the same seed draws the same one again, in this
process and in any other:

    run_trio(main, seed=7)
    run_asyncio(main, seed=7)

Both raise `DeadlockError` when everything waits for ever. `SeededOrder` is trio's half by itself,
for `trio.run(instruments=[...])`; `seeded_loop` is asyncio's, for a `loop_factory`.

What is drawn is the order of those that are ready at once. On trio that is the batch of one pass.
Trio itself sorts it by age and shuffles it where Hypothesis asked for that, and reverses every
second one where not; so it is asked, and handed our dice. No hook of an instrument could do it:
after the last one before a batch, `after_io_wait`, trio still adds the tasks whose deadlines have
passed, and then it reverses or does not.

On asyncio only the steps of tasks are moved. `call_soon` is documented to keep the order in which
it was called, and transports and done callbacks rely on that; but nobody was promised that one
task steps before another. So callbacks that are no steps stay in order among themselves, and so
do all those that one future has called. Timers that are due at the same instant fire in any order.

Threads, the garbage collector and sets that a program itself goes through are as they are: they
can make a difference that no seed repeats. A program that waits for a thread looks like one that
waits for ever. This file and `_clock` are the only ones that touch private attributes of a loop;
`tests/testing` fails by name when an upstream version changes one of them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Literal, Protocol, TypeVar, TypeVarTuple

import trio
from trio._core import _run
from trio.testing import MockClock

from anabranch.errors import DeadlockError
from anabranch.testing._clock import VirtualLoop, standstill
from anabranch.testing._unwaited import OnTrio, on_asyncio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Dice(Protocol):
    """Draw an order: of what is given, or of as many as are said."""

    def shuffle(self, x: Any, /) -> None: ...
    def lots(self, count: int, /) -> list[float]: ...


class _Seeded(random.Random):
    def lots(self, count: int) -> list[float]:
        return [self.random() for _ in range(count)]


def _dice(seed: int | Dice) -> Dice:
    return _Seeded(seed) if isinstance(seed, int) else seed


def run_trio(
    async_fn: Callable[[*Ts], Coroutine[Any, Any, T]],
    *args: *Ts,
    seed: int | Dice,
    instruments: Iterable[trio.abc.Instrument] = (),
) -> T:
    """Run a trio program in virtual time, under the order that ``seed`` draws."""
    watch, clock = _Watch(), MockClock(autojump_threshold=0)
    passing = OnTrio(clock)

    async def watched() -> T:
        watch.root = trio.lowlevel.current_task()
        try:
            with watch.scope:
                return await async_fn(*args)
        finally:
            watch.check()
            passing.unwaited.tell()  # here, where a warning may be an error
        raise AssertionError("nothing but a standstill cancels this scope")

    instruments = [SeededOrder(seed), watch, passing, *instruments]
    return trio.run(watched, clock=clock, instruments=instruments)


def run_asyncio(
    async_fn: Callable[[*Ts], Coroutine[Any, Any, T]],
    *args: *Ts,
    seed: int | Dice,
    task_factory: Callable[..., Any] | None = None,
) -> T:
    """Run an asyncio program in virtual time, under the order that ``seed`` draws.

    What callbacks raised, which asyncio would only log, is raised as a group at the end.
    """
    lost: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=partial(seeded_loop, seed, deadlock="raise")) as runner:
        runner.get_loop().set_task_factory(task_factory)
        runner.get_loop().set_exception_handler(lambda _, context: lost.append(context))
        result = runner.run(async_fn(*args))
    if lost:
        errors = [each.get("exception") or RuntimeError(each["message"]) for each in lost]
        raise BaseExceptionGroup("asyncio would have logged these errors only", errors)
    return result


# trio


class SeededOrder(trio.abc.Instrument):
    """Shuffle each batch of trio's run queue, whole, in the way that ``seed`` draws."""

    def __init__(self, seed: int | Dice) -> None:
        self._seed = seed

    def before_run(self) -> None:
        """Hand trio our dice, for this thread's run."""
        _DICE.seed_this_thread(self._seed)

    def after_run(self) -> None:
        """Give trio its own dice back."""
        _DICE.leave_this_thread()


class _Dice(random.Random):
    """Stand in for trio's dice, which all of its runs share; each thread has a seed or none."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seeded: dict[int, Dice] = {}
        self._theirs: tuple[random.Random, bool] | None = None

    def shuffle(self, x: Any) -> None:
        """Shuffle one batch of this thread's run."""
        seeded = self._seeded.get(threading.get_ident())
        if seeded is None:
            super().shuffle(x)
        else:
            seeded.shuffle(x)

    def seed_this_thread(self, seed: int | Dice) -> None:
        with self._lock:
            if self._theirs is None:
                self._theirs = (_run._r, _run._ALLOW_DETERMINISTIC_SCHEDULING)
                self._set(self, shuffles=True)
            self._seeded[threading.get_ident()] = _dice(seed)

    def leave_this_thread(self) -> None:
        with self._lock:
            del self._seeded[threading.get_ident()]
            if self._theirs is not None and not self._seeded:
                dice, shuffles = self._theirs
                self._set(dice, shuffles=shuffles)
                self._theirs = None

    def _set(self, dice: random.Random, *, shuffles: bool) -> None:
        _run._r = dice
        _run._ALLOW_DETERMINISTIC_SCHEDULING = shuffles  # type: ignore[misc]  # Final; trio's Hypothesis plugin sets it too


_DICE = _Dice()


class _Watch(trio.abc.Instrument):
    """See that everything waits for ever, where MockClock would look again and again."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.root: trio.lowlevel.Task | None = None
        self._seen = ""

    def check(self) -> None:
        """Raise what was seen; the program had no more to do with it than to wait."""
        if self._seen:
            raise DeadlockError(self._seen)

    def after_io_wait(self, timeout: float) -> None:
        """Cancel the program when this look at the descriptors woke nobody, and none is left."""
        runner = _run.GLOBAL_RUN_CONTEXT.runner
        if runner.runq or runner.waiting_for_idle or runner.deadlines.next_deadline() < math.inf:
            return
        # An instrument cannot raise: trio would log that and go on without it.
        tasks = self._tasks()
        if self._seen:  # it was cancelled before, so shields keep the rest of it waiting
            for each in tasks:
                _break_shields(each)
        else:
            names = [(each.name, each.coro) for each in tasks]
            self._seen = standstill(runner.clock.current_time(), names)
        self.scope.cancel("standstill")

    def _tasks(self) -> list[trio.lowlevel.Task]:
        found = [self.root] if self.root else []
        for each in found:
            found += [child for nursery in each.child_nurseries for child in nursery.child_tasks]
        return found


def _break_shields(each: trio.lowlevel.Task) -> None:
    status: _run.CancelStatus | None = each._cancel_status
    while status is not None:
        status._scope.shield = False
        status = status._parent


# asyncio


def seeded_loop(seed: int | Dice, *, deadlock: Literal["wait", "raise"] = "wait") -> VirtualLoop:
    """Make a virtual loop whose tasks step in the order that ``seed`` draws."""
    return VirtualLoop(order=_SeededSteps(seed), deadlock=deadlock, unwaited=on_asyncio())


class _SeededSteps:
    """Draw the order of the steps that are ready; other callbacks keep theirs, but for ties."""

    def __init__(self, seed: int | Dice) -> None:
        self._dice = _dice(seed)
        self._count = itertools.count()
        self._ages: weakref.WeakKeyDictionary[asyncio.Task[Any], int] = weakref.WeakKeyDictionary()

    def arrange_due(self, timers: list[asyncio.TimerHandle]) -> None:
        """Shuffle a tie: a sleep that ends when a deadline strikes, and who wins."""
        self._dice.shuffle(timers)

    def arrange(self, ready: deque[asyncio.Handle]) -> None:
        """Rearrange the queue; what a thread appends meanwhile stays behind it."""
        batch = [ready.popleft() for _ in range(len(ready))]
        ages = [self._age(handle) for handle in batch]
        if len(batch) > 1 and any(age is not None for age in ages):
            batch = [batch[at] for at in self._draw(ages, _followers(batch, ages))]
        ready.extendleft(reversed(batch))

    def _age(self, handle: asyncio.Handle) -> int | None:
        """Number the tasks as they are first seen, which is the order of their making."""
        callback = handle._callback  # type: ignore[attr-defined]  # private to asyncio
        owner = getattr(callback, "__self__", None)
        if not isinstance(owner, asyncio.Task):
            return None
        if hasattr(asyncio.Task, getattr(callback, "__name__", "")):
            return None  # `loop.call_soon(task.cancel)` and the like: a call, not a step
        if owner not in self._ages:
            self._ages[owner] = next(self._count)
        return self._ages[owner]

    def _draw(self, ages: list[int | None], followers: list[list[int]]) -> list[int]:
        # Tasks often become ready in the order of a set, which is that of their addresses; so
        # lots are drawn by age, and whoever has the lowest and waits for nobody goes next.
        by_age = sorted(range(len(ages)), key=lambda at: math.inf if (a := ages[at]) is None else a)
        lots = dict(zip(by_age, self._dice.lots(len(by_age)), strict=True))
        waits_for = [0] * len(ages)
        for at in itertools.chain.from_iterable(followers):
            waits_for[at] += 1
        free = [(lots[at], at) for at in by_age if not waits_for[at]]
        heapq.heapify(free)
        order: list[int] = []
        while free:
            order.append(heapq.heappop(free)[1])
            for at in followers[order[-1]]:
                waits_for[at] -= 1
                if not waits_for[at]:
                    heapq.heappush(free, (lots[at], at))
        return order


def _followers(batch: list[asyncio.Handle], ages: list[int | None]) -> list[list[int]]:
    """Say for each callback which ones may only come after it."""
    followers: list[list[int]] = [[] for _ in batch]
    last: dict[object, int] = {}
    for at, (handle, age) in enumerate(zip(batch, ages, strict=True)):
        lines = {id(arg) for arg in _futures(handle)}
        if age is None:
            lines.add(0)
        for line in lines:
            if line in last:
                followers[last[line]].append(at)
            last[line] = at
    return followers


def _futures(handle: asyncio.Handle) -> list[asyncio.Future[Any]]:
    return [arg for arg in handle._args or () if isinstance(arg, asyncio.Future)]
