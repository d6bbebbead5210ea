"""Move limits by what is seen: sampler, controller, limiter, as long as anything runs.

There is one regulator for each loop. It samples once for all limiters, in one task, which lives in
the nursery of something that is regulated, and moves on to another one's when that ends:
no task is without a nursery, and none is there when nothing runs.
Docs: docs/explanation/regulator.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from anabranch._counting import Counting, LimiterCounts
from anabranch._host import Host
from anabranch._load import Bounds
from anabranch._regulated import Listening, Regulated
from anabranch._ruling import Ruling
from anabranch._runtime import Runtime, keeps_real_time
from anabranch._sampling import Reading, Readings, Realness, Sample
from anabranch.abc import Controller, Limiter, Sampler
from anabranch.events import Event

FIRST_S: Final = 0.25  # what ends before has cost nothing, unless more waits after ...
HASTE_S: Final = 0.1  # ... as long, and so soon again while it is young and its law in a hurry
BRISK_S: Final = 0.05  # sooner still, while branches are short
YOUNG_S: Final = 2.0
PERIOD_S: Final = 1.0
NAP_S: Final = 0.5  # how long it sleeps at a time: by these sleeps the loop's lag is measured
LONGEST_LAG_S: Final = 10.0  # a laptop that was shut was no busy loop


class Place(Protocol):
    """Have a limit, and a nursery where the regulator may work; made for each step that waits.

    Attributes:
        due: when its limit is to be looked at. nursery: None where there is none any more.
    """

    due: float
    nursery: Any

    @property
    def limit(self) -> Regulated: ...  # what it is regulated by, made when it is first asked for
    def rest(self) -> object: ...  # end what has nothing left to do; called now and then


class Regulator:
    """Regulate the limiters of one loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._clock: Callable[[], float] = runtime.lowlevel.current_clock().current_time
        self._real = keeps_real_time()
        self._readings = Readings(runtime)
        self._places: dict[Place, None] = {}
        self._limits: dict[Place, Regulated] = {}  # of those that have been looked at
        self._at: Place | None = None  # in whose nursery the task is
        self._scope: Any = None
        self._naps, self._late = 0, 0.0
        self._turns = 0

    def add(self, place: Place) -> None:
        """Regulate one limiter more, a moment from now."""
        place.due = self._clock() + HASTE_S
        self._places[place] = None
        if self._at is None:
            self._move_to(place)

    def remove(self, place: Place) -> None:
        """Regulate it no more; called again it does nothing."""
        if place not in self._places:
            return
        del self._places[place]
        limit = self._limits.pop(place, None)
        if limit is not None:
            self._readings.leave(limit.listening.samplers)
        if self._at is place:
            self._scope.cancel(reason="what it regulates has ended")

    def _move_to(self, *places: Place) -> None:
        """Work in the nursery of the first of these that still takes tasks."""
        self._at = None
        for place in places:
            if place.nursery is None:
                continue
            # Most steps end before: until then it only waits, and costs as little as it can.
            self._realness = Realness(self._clock, self._real)
            self._scope = self._runtime.CancelScope(deadline=place.due)
            try:
                place.nursery.start_soon(self._work, place)
            except RuntimeError:  # it has closed, and its block has not been told yet
                place.nursery = None
                continue
            self._at = place
            return

    async def _work(self, place: Place) -> None:
        try:
            with self._scope:
                await self._runtime.sleep_forever()
            if place in self._places:
                with self._runtime.CancelScope() as self._scope:
                    await self._regulate(place)
        finally:
            place.nursery = None  # it ends, or is cancelled
            self._move_to(*self._places)

    async def _regulate(self, place: Place) -> None:
        self._naps, self._late = 1, min(LONGEST_LAG_S, max(0.0, self._clock() - place.due))
        while place in self._places:
            now = self._clock()
            due = min(each.due for each in self._places)
            if now < due:
                wake = now + min(NAP_S, due - now)
                await self._runtime.sleep(wake - now)
                self._naps += 1
                self._late += min(LONGEST_LAG_S, max(0.0, self._clock() - wake))
                place.rest()
                continue
            ready = [
                each for each in list(self._places) if each.due <= now and await self._is_due(each)
            ]
            if ready:
                await self._sample(ready, self._realness.look())

    async def _is_due(self, place: Place) -> bool:
        """Tell whether to look now; at first only if much waits, else a moment later."""
        limit = self._limit_of(place)  # which may have been another place's before
        is_new, limit.is_new = limit.is_new, False
        if not is_new or await limit.has_begun(HASTE_S, FIRST_S):
            return True
        place.due += FIRST_S - HASTE_S
        return False

    async def _sample(self, ready: Iterable[Place], real: bool) -> None:
        """Read once, and ask the law of each; of several one may grow, in turn."""
        limits = {each: self._limit_of(each) for each in ready}
        lag = self._late / self._naps if self._naps else None
        self._naps, self._late = 0, 0.0
        samples: dict[Reading, Sample] = {}
        for reading in {each.reading: None for each in limits.values()}:
            samples[reading] = {
                "loop_lag": lag,
                **_known(await reading.read(real=real, recent=True)),
            }
        in_use = sum(each.limiter.borrowed_tokens for each in self._limits.values())
        may_grow = True
        for place in sorted(limits, key=lambda each: limits[each].turn):
            limit = limits[place]
            if place in self._places:
                share = limit.limiter.borrowed_tokens / in_use if in_use else 1.0
                grew = await limit.look(samples[limit.reading], share, may_grow=may_grow, real=real)
                place.due = self._clock() + limit.again(PERIOD_S, BRISK_S, HASTE_S, YOUNG_S)
                if grew:
                    may_grow = False
                    self._turns += 1
                    limit.turn = self._turns

    def _limit_of(self, place: Place) -> Regulated:
        limit = self._limits.get(place)
        if limit is None:
            limit = self._limits[place] = place.limit
            limit.reading = self._readings.take(limit.listening.samplers)
        return limit


def _known(sample: Sample) -> dict[str, float]:
    return {name: value for name, value in sample.items() if value is not None}


@asynccontextmanager
async def regulated(
    host: Host,
    limiter: Limiter,
    controller: Controller,
    bounds: Bounds,
    counts: Counting | None = None,
    emit: Callable[[Event], object] | None = None,
    *,
    samplers: Sequence[Sampler] | None = None,
    step: str = "",
) -> AsyncIterator[Regulated]:
    """Regulate ``limiter`` while the block runs, which gets what tells of it.

    Args:
        host: of the running loop. limiter: one of its, whose ``total_tokens`` nobody else sets.
        controller: a law; what it decides must be within ``bounds``, whose initial limit is set.
        counts: what the law is told of branches; None for what the limiter itself tells.
        emit: is called in the loop with a LimitChanged for each change, a LoadSampled for each
            sample, a ControllerFailed when the law is put in shadow.
        samplers: instead of those of the machine. step: of the events.
    """
    regulator = host.part(Regulator)
    limiter.total_tokens = bounds.initial
    limit = Regulated(
        limiter,
        Ruling(controller, bounds),
        LimiterCounts(limiter) if counts is None else counts,
        emit,
        Listening(samplers=None if samplers is None else tuple(samplers)),
        clock=host.clock,
        step=step,
    )
    async with host.runtime.open_nursery() as nursery:
        block = _Block(limit, nursery)
        regulator.add(block)
        try:
            yield limit
        finally:
            regulator.remove(block)


class _Block:
    """Be the place of a limiter that is regulated while a block runs."""

    due = 0.0

    def __init__(self, limit: Regulated, nursery: Any) -> None:
        self.limit = limit
        self.nursery = nursery

    def rest(self) -> None:
        """Go on: the block ends it."""
