"""Let a scenario happen, event by event, under a limit that a law may move.

Four things can be next: a branch is done with the cores or with the downstream, a memory is full,
or a time has come. What the neighbours do and how a memory thrashes is followed ten times a second.
A branch that is killed keeps its token for half a second, until somebody has noticed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import accumulate
from operator import attrgetter
from typing import Final, NoReturn

import attrs

from anabranch._load import Load
from anabranch.testing._simulator._branches import CALL, CPU, Branch
from anabranch.testing._simulator._courses import at, memory_of, threads_of
from anabranch.testing._simulator._pool import Pool
from anabranch.testing._simulator._senses import Sight, evenly
from anabranch.testing._simulator._stations import Cores, Server
from anabranch.testing._simulator._words import Phase, Scenario

TICK: Final = 0.1
PERIOD: Final = 1.0
SOONEST: Final = 0.25
REAPED: Final = 0.5
ENDLESS: Final = 1000  # branches that are seen to wait where there is no end of them
LOST: Final = 0.25  # what a branch lost by overload costs of one that succeeded

Law = Callable[[Load], tuple[int, float | None]]


@attrs.define(eq=False)
class Counts:
    """Count branches, all along or since a sample."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    refused: int = 0
    killed: int = 0
    dropped: int = 0


@attrs.frozen
class Moment:
    """Say how it was at one second: ``rate`` is how many succeeded in the second before."""

    t: float
    limit: int
    in_use: int
    rate: float
    cpu: float
    memory: float


class World:
    """Run a scenario once.

    Attributes:
        good: goodput of each second. moments: how it was at each, where a law is asked.
    """

    def __init__(self, scenario: Scenario, seed: int, limit: int, law: Law | None = None) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.limit = limit
        self.counts = Counts()
        self.running: dict[int, Branch] = {}
        self.in_use = 0
        self.good = [0.0] * math.ceil(scenario.seconds)
        self.moments: list[Moment] = []
        machine = scenario.machine
        self.cores = Cores(machine.cores, machine.switching)
        self.server = None if scenario.downstream is None else Server(scenario.downstream)
        self.memory = Pool(machine.memory, machine.taken * machine.memory, attrgetter("memory"))
        self.gpu = None
        if machine.gpu_memory is not None:
            taken = machine.gpu_taken * machine.gpu_memory
            self.gpu = Pool(machine.gpu_memory, taken, attrgetter("gpu_memory"))
        self._pools = [self.memory] if self.gpu is None else [self.memory, self.gpu]
        self._law = law
        self._branches = random.Random(f"{seed}/branches")
        self._sight = Sight(scenario.senses, random.Random(f"{seed}/senses"))
        self._timers: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0
        self._phase: Phase = scenario.phases[0]
        self._queued: int | None = 0
        self._asleep = True
        self._since = Counts()
        self._peak = 0
        self._latencies: list[float] = []
        self._busy = 0.0
        self._last = 0

    def run(self) -> None:
        """Let it happen to its end."""
        for begin, phase in zip(
            accumulate((each.seconds for each in self.scenario.phases), initial=0.0),
            self.scenario.phases,
            strict=False,
        ):
            self._at(begin, self._begin, phase)
        if self._varies():
            self._at(0.0, self._tick)
        if self._law is not None:
            self._at(PERIOD, self._note)
        end = self.scenario.seconds
        while self._step(end):
            pass
        self.now = end

    def _step(self, end: float) -> bool:
        """Let the next thing happen; False if that is after the end."""
        timers = self._timers
        due, who = (timers[0][0], 0) if timers else (math.inf, 0)
        cores, server = self.cores, self.server
        if cores.sharing.due < due:
            due, who = cores.sharing.due, 1
        if server is not None and server.sharing.due < due:
            due, who = server.sharing.due, 2
        full = None
        for pool in self._pools:
            if pool.due < due:
                due, who, full = pool.due, 3, pool
        if due >= end:
            return False
        self.now = due
        if who == 0:
            _, _, fn, args = heappop(timers)
            fn(*args)
        elif who == 1:
            branch = cores.sharing.take()
            cores.repace(due)
            self._forward(branch)
        elif who == 2 and server is not None:
            branch = server.sharing.take()
            server.repace(due)
            self._forward(branch)
        elif full is not None:
            self._kill(full.heaviest(due))
        return True

    def _at(self, when: float, fn: Callable[..., None], *args: object) -> None:
        self._order += 1
        heappush(self._timers, (when, self._order, fn, args))

    # Branches

    def _admit(self) -> None:
        while self.in_use < self.limit and (self._queued is None or self._queued > 0):
            if self._queued is not None:
                self._queued -= 1
            self._start()

    def _start(self) -> None:
        if self._asleep and self._law is not None:
            self._asleep = False
            self._sight.rest(self)
            self._at(self.now + PERIOD, self._sample)
        branch = Branch(self.counts.started, self.now, self._phase.work, self._branches)
        self.counts.started += 1
        self.running[branch.index] = branch
        self.in_use += 1
        self._peak = max(self._peak, self.in_use)
        for pool in self._pools:
            for when in pool.add(self.now, branch):
                self._at(when, self._turn, pool, branch)
        self._forward(branch)

    def _forward(self, branch: Branch) -> None:
        if branch.index not in self.running:
            return  # killed while it waited
        if not branch.left:
            self._end(branch, failed=branch.fails)
            return
        kind, demand = branch.left.pop()
        if kind == CPU:
            self.cores.sharing.add(self.now, demand, branch)
            self.cores.repace(self.now)
        elif kind == CALL:
            self._call(branch, demand)
        else:
            self._at(self.now + demand, self._forward, branch)

    def _call(self, branch: Branch, demand: float) -> None:
        server, downstream = self.server, self.scenario.downstream
        if server is None or downstream is None:
            unreachable()
        if server.out:
            self._at(self.now + downstream.refusal, self._fail, branch, False, False)
        elif server.refuses:
            self._at(self.now + downstream.refusal, self._fail, branch, downstream.says, True)
        else:
            server.sharing.add(self.now, demand, branch)
            server.repace(self.now)

    def _fail(self, branch: Branch, rejected: bool, lost: bool) -> None:
        if branch.index in self.running:
            self.counts.refused += lost
            self._end(branch, failed=True, rejected=rejected, lost=lost)

    def _kill(self, branch: Branch) -> None:
        del self.running[branch.index]
        self.counts.killed += 1
        for pool in self._pools:
            pool.drop(self.now, branch)
        for place in (self.cores, self.server):
            if place is not None and branch.place is place.sharing:
                place.sharing.drop(branch)
                place.repace(self.now)
        self._at(self.now + REAPED, self._reaped)

    def _reaped(self) -> None:
        self._left(failed=True, rejected=False, lost=True)

    def _end(
        self, branch: Branch, *, failed: bool, rejected: bool = False, lost: bool = False
    ) -> None:
        del self.running[branch.index]
        for pool in self._pools:
            pool.drop(self.now, branch)
        if not failed:
            self._latencies.append(self.now - branch.began)
        self._left(failed=failed, rejected=rejected, lost=lost)

    def _left(self, *, failed: bool, rejected: bool, lost: bool) -> None:
        counts = self.counts
        counts.succeeded += not failed
        counts.failed += failed
        counts.rejected += rejected
        self.good[int(self.now)] += (0.0 if failed else 1.0) - (LOST if lost else 0.0)
        self.in_use -= 1
        self._admit()

    # What comes by itself

    def _turn(self, pool: Pool, branch: Branch) -> None:
        pool.turn(self.now, branch)

    def _begin(self, phase: Phase) -> None:
        self.counts.dropped += self._queued or 0
        self._phase, self._queued = phase, phase.supply
        self._admit()

    def _varies(self) -> bool:
        scenario, works = self.scenario, [phase.work for phase in self.scenario.phases]
        down = scenario.downstream
        return (
            bool(scenario.neighbours)
            or any(work.memory or work.gpu_memory for work in works)
            or (down is not None and bool(down.capacity or down.speed or down.outages))
        )

    def _tick(self) -> None:
        now, scenario, memory = self.now, self.scenario, self.memory
        self.cores.threads = threads_of(scenario.neighbours, now)
        share = scenario.machine.taken + memory_of(scenario.neighbours, now)
        if share * memory.total != memory.others:
            memory.others = share * memory.total
            memory.look(now)
        self.cores.slow = memory.speed(now)
        memory.pressed += TICK * (1 - self.cores.slow)
        self.cores.repace(now)
        if self.server is not None and scenario.downstream is not None:
            downstream = scenario.downstream
            self.server.knee = max(1.0, downstream.knee * at(downstream.capacity, now, 1.0))
            self.server.speed = at(downstream.speed, now, 1.0)
            self.server.out = any(begin <= now < end for begin, end in downstream.outages)
            self.server.repace(now)
        self._at(now + TICK, self._tick)

    def _sample(self) -> None:
        for begin, end in self.scenario.senses.stuck:
            if begin <= self.now < end:
                self._at(end, self._sample)
                return
        if self._law is None:
            unreachable()
        limit, again = self._law(self.load())
        if limit != self.limit:
            self.limit = limit
            self._admit()
        if self.in_use or self._queued != 0:
            self._at(self.now + max(SOONEST, min(again or PERIOD, PERIOD)), self._sample)
        else:
            self._asleep = True

    def load(self) -> Load:
        """Return what a regulator would see now, and count anew."""
        counts, before = self.counts, self._since
        killed_too = counts.failed - before.failed
        ages = [self.now - each.began for each in self.running.values()]
        load = Load(
            t=self.now,
            limit=self.limit,
            in_use=self.in_use,
            peak=self._peak,
            queued=ENDLESS if self._queued is None else self._queued,
            started=counts.started - before.started,
            finished=counts.succeeded - before.succeeded,
            failed=killed_too,
            rejected=counts.rejected - before.rejected,
            latencies=evenly(self._latencies),
            ages=evenly(ages),
            **self._sight.read(self),
        )
        self._since = attrs.evolve(counts)
        self._latencies = []
        self._peak = self.in_use
        return load

    def _note(self) -> None:
        self.cores.repace(self.now)
        done, busy = self.counts.succeeded, self.cores.busy
        self.moments.append(
            Moment(
                t=self.now,
                limit=self.limit,
                in_use=self.in_use,
                rate=(done - self._last) / PERIOD,
                cpu=(busy - self._busy) / PERIOD / self.scenario.machine.cores,
                memory=max(pool.used(self.now) / pool.total for pool in self._pools),
            )
        )
        self._last, self._busy = done, busy
        self._at(self.now + PERIOD, self._note)


def unreachable() -> NoReturn:
    """Say that a scenario was checked, so this cannot be."""
    raise AssertionError("a scenario without a downstream has no calls")
