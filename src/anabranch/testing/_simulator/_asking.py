"""Ask a law as the regulator does: first after a quarter of a second, then each second or sooner.

Where more waits it is first asked after a tenth of a second, and, for two seconds, so soon again if
it is in a hurry, or twice as soon while branches are short. Between two samples the limit at most
doubles.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from anabranch._load import Load
from anabranch.testing._simulator._senses import Sight, evenly

if TYPE_CHECKING:
    from anabranch.testing._simulator._world import World

FIRST: Final = 0.25
HASTE: Final = 0.1
BRISK: Final = 0.05
SHORT: Final = 0.4  # seconds of a branch
YOUNG: Final = 2.0
PERIOD: Final = 1.0
SOONEST: Final = 0.25
GROWTH: Final = 2
ENDLESS: Final = 1000  # branches that are seen to wait where there is no end of them

Law = Callable[[Load], tuple[int, float | None]]


@attrs.frozen
class Moment:
    """Say how it was at one second: ``rate`` is how many succeeded in the second before.

    ``cpu`` and ``memory`` are shares, of that second and at its end; ``downstream`` is how many
    calls are there for each that it can serve at full speed, None if there is none.
    """

    t: float
    limit: int
    in_use: int
    rate: float
    cpu: float
    memory: float
    downstream: float | None = None


class Asking:
    """Sample a world, ask a law, move the limit; and note each second how it was."""

    def __init__(self, world: World, law: Law, seed: int) -> None:
        self.moments: list[Moment] = []
        self._world = world
        self._law = law
        self._asleep = True
        self._woken = 0.0
        self._sight = Sight(world.scenario.senses, random.Random(f"{seed}/senses"))
        self._since = attrs.evolve(world.counts)
        self._busy = 0.0
        self._done = 0
        self._short = False

    def begin(self) -> None:
        """Note from now on."""
        self._world.at(PERIOD, self._note)

    def wake(self) -> None:
        """Hear that a branch is about to start."""
        if self._asleep:
            self._asleep = False
            self._sight.rest(self._world)
            self._woken = self._world.now
            self._world.at(self._world.now + HASTE, self._first)

    def load(self) -> Load:
        """Return what a regulator would see now, and count anew."""
        world, before = self._world, self._since
        counts = self._since = attrs.evolve(world.counts)
        load = Load(
            t=world.now,
            limit=world.limit,
            in_use=world.in_use,
            peak=world.peak,
            queued=ENDLESS if world.queued is None else world.queued,
            started=counts.started - before.started,
            finished=counts.succeeded - before.succeeded,
            failed=counts.failed - before.failed,
            rejected=counts.rejected - before.rejected,
            latencies=evenly(world.latencies),
            ages=evenly([world.now - each.began for each in world.running.values()]),
            **self._sight.read(world),
        )
        world.latencies = []
        world.peak = world.in_use
        return load

    def _first(self) -> None:
        queued, done = self._world.queued, self._world.counts.succeeded - self._since.succeeded
        if done and (queued is None or queued * HASTE > done * FIRST):
            self._sample()
        else:
            self._world.at(self._woken + FIRST, self._sample)

    def _sample(self) -> None:
        world, again = self._world, PERIOD
        for begin, end in world.scenario.senses.stuck:
            if begin <= world.now < end:
                world.at(end, self._sample)
                return
        load = self.load()
        wanted, sooner = self._law(load)
        if sooner is not None:
            again = max(SOONEST, min(sooner, PERIOD))
        limit = min(wanted, GROWTH * world.limit)
        if limit < wanted:
            again = SOONEST
        if limit != world.limit:
            world.resize(limit)
        young = world.now < self._woken + YOUNG
        ended = load.finished > 0
        longest = max((*load.latencies, *load.ages), default=SHORT)
        self._short = (ended or self._short) and longest < SHORT
        if again == SOONEST and young and load.queued and (ended or self._short):
            again = BRISK if self._short else HASTE
        if world.in_use or world.queued != 0 or not world.scenario.senses.rests:
            world.at(world.now + again, self._sample)
        else:
            self._asleep = True

    def _note(self) -> None:
        world, server = self._world, self._world.server
        world.cores.repace(world.now)
        done, busy = world.counts.succeeded, world.cores.busy
        moment = Moment(
            t=world.now,
            limit=world.limit,
            in_use=world.in_use,
            rate=(done - self._done) / PERIOD,
            cpu=(busy - self._busy) / PERIOD / world.scenario.machine.cores,
            memory=max(pool.used(world.now) / pool.total for pool in world.pools),
            downstream=None if server is None else server.sharing.count / server.knee,
        )
        self.moments.append(moment)
        self._done, self._busy = done, busy
        world.at(world.now + PERIOD, self._note)
