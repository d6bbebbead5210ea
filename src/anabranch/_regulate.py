"""Move limits by what is seen: sampler, controller, limiter, as long as anything runs.

There is one regulator for each loop. It samples once for all limiters, in one task, which lives in
the nursery of something that is regulated, and moves on to another one's when that ends:
no task is without a nursery, and none is there when nothing runs.
Docs: docs/explanation/regulator.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from anabranch._counting import Counting, LimiterCounts
from anabranch._host import Host
from anabranch._load import Bounds
from anabranch._regulated import Listening, Regulated
from anabranch._ruling import Ruling
from anabranch._runtime import Runtime
from anabranch._sampling import Reading, Readings, Realness, Sample
from anabranch.abc import Controller, Limiter, Sampler
from anabranch.events import Event

FIRST_S: Final = 0.25  # what ends before has cost nothing
PERIOD_S: Final = 1.0
NAP_S: Final = 0.25  # how long it sleeps at a time: by these sleeps the loop's lag is measured
LONGEST_LAG_S: Final = 10.0  # a laptop that was shut was no busy loop


class Regulator:
    """Regulate the limiters of one loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._clock: Callable[[], float] = runtime.lowlevel.current_clock().current_time
        self._readings = Readings(runtime)
        self._all: dict[Regulated, None] = {}
        self._place: Regulated | None = None  # in whose nursery the task is
        self._scope: Any = None
        self._naps, self._late = 0, 0.0
        self._turns = 0

    def add(self, each: Regulated) -> None:
        """Regulate one limiter more; its nursery is open."""
        each.reading = self._readings.take(each.listening.samplers)
        each.due = self._clock() + FIRST_S
        self._all[each] = None
        self._find_place()

    def remove(self, each: Regulated) -> None:
        """Regulate it no more; called again it does nothing."""
        if each not in self._all:
            return
        del self._all[each]
        self._readings.leave(each.listening.samplers)
        if self._place is each:
            self._scope.cancel(reason="what it regulates has ended")

    def _find_place(self) -> None:
        if self._place is None:
            self._place = next((each for each in self._all if each.nursery is not None), None)
            if self._place is not None:
                self._scope = self._runtime.CancelScope()
                self._place.nursery.start_soon(self._work, self._place)

    async def _work(self, place: Regulated) -> None:
        try:
            with self._scope:
                await self._regulate(place)
        finally:
            self._place = None
            place.nursery = None  # it ends, or is cancelled
            self._find_place()

    async def _regulate(self, place: Regulated) -> None:
        realness = Realness(self._clock)
        while place in self._all:
            now = self._clock()
            due = min(each.due for each in self._all)
            if now < due:
                wake = now + min(NAP_S, due - now)
                await self._runtime.sleep(wake - now)
                self._naps += 1
                self._late += min(LONGEST_LAG_S, max(0.0, self._clock() - wake))
                place.rest()
                continue
            await self._sample([each for each in self._all if each.due <= now], realness.look())

    async def _sample(self, ready: Iterable[Regulated], real: bool) -> None:
        """Read once, and ask the law of each; of several one may grow, in turn."""
        ready = sorted(ready, key=lambda each: each.turn)
        lag = self._late / self._naps if self._naps else None
        self._naps, self._late = 0, 0.0
        samples: dict[Reading, Sample] = {}
        for reading in {each.reading: None for each in ready}:
            samples[reading] = {"loop_lag": lag, **_known(await reading.read(real=real))}
        in_use = sum(each.limiter.borrowed_tokens for each in self._all)
        may_grow = True
        for each in ready:
            if each in self._all:
                share = each.limiter.borrowed_tokens / in_use if in_use else 1.0
                grew = await each.look(samples[each.reading], share, may_grow=may_grow)
                each.due = self._clock() + each.again(PERIOD_S)
                if grew:
                    may_grow = False
                    self._turns += 1
                    each.turn = self._turns


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
    each = Regulated(
        limiter,
        Ruling(controller, bounds),
        LimiterCounts(limiter) if counts is None else counts,
        emit,
        Listening(samplers=None if samplers is None else tuple(samplers)),
        clock=host.clock,
        step=step,
    )
    async with host.runtime.open_nursery() as each.nursery:
        regulator.add(each)
        try:
            yield each
        finally:
            regulator.remove(each)
