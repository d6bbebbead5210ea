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
from operator import attrgetter
from typing import Final

import attrs

from anabranch.testing._simulator._asking import Asking, Law
from anabranch.testing._simulator._branches import CALL, CPU, Branch
from anabranch.testing._simulator._courses import at, memory_of, threads_of
from anabranch.testing._simulator._pool import Pool
from anabranch.testing._simulator._stations import Cores, Server
from anabranch.testing._simulator._words import Machine, Phase, Scenario

TICK: Final = 0.1
REAPED: Final = 0.5
LOST: Final = 0.25  # what a branch lost by overload costs of one that succeeded


@attrs.define
class Counts:
    """Count branches from the beginning.

    ``failed`` are all that ended and did not succeed; ``rejected`` those of them that said so,
    ``refused`` those that found the downstream full, ``killed`` those that memory has cost;
    ``dropped`` never started.
    """

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    refused: int = 0
    killed: int = 0
    dropped: int = 0


class World:
    """Run a scenario once.

    Attributes:
        good: goodput of each second. killed: how many memory has killed in each.
        running: the branches that do, by their number.
        in_use: tokens; peak: the most of them since somebody looked; queued: None for no end.
        latencies: run times since somebody looked. asking: asks the law, if there is one.
    """

    def __init__(self, scenario: Scenario, seed: int, limit: int, law: Law | None = None) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.limit = limit
        self.counts = Counts()
        self.running: dict[int, Branch] = {}
        self.in_use = self.peak = 0
        self.queued: int | None = 0
        self.latencies: list[float] = []
        self.good = [0.0] * math.ceil(scenario.seconds)
        self.killed = [0] * len(self.good)
        machine = scenario.machine
        self.cores = Cores(machine.cores, machine.switching)
        self.server = None if scenario.downstream is None else Server(scenario.downstream)
        self.memory = Pool(machine.memory, machine.taken * machine.memory, attrgetter("memory"))
        self.gpu = _gpu(machine)
        self.pools = [self.memory] if self.gpu is None else [self.memory, self.gpu]
        self._timers: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = 0
        self._phase: Phase = scenario.phases[0]
        self._branches = random.Random(f"{seed}/branches")
        self.asking = None if law is None else Asking(self, law, seed)

    def run(self) -> None:
        """Let it happen to its end."""
        begin = 0.0
        for phase in self.scenario.phases:
            self.at(begin, self._begin, phase)
            begin += phase.seconds
        if self._varies():
            self._tick()
        if self.asking is not None:
            self.asking.begin()
        end = self.scenario.seconds
        while self._step(end):
            pass
        self.now = end

    def at(self, when: float, fn: Callable[..., None], *args: object) -> None:
        """Let something happen at a time; of two things at one time the first told is first."""
        self._order += 1
        heappush(self._timers, (when, self._order, fn, args))

    def resize(self, limit: int) -> None:
        """Set the limit; what runs goes on."""
        self.limit = limit
        self._admit()

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
        for pool in self.pools:
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

    # Branches

    def _admit(self) -> None:
        while self.in_use < self.limit and (self.queued is None or self.queued > 0):
            if self.queued is not None:
                self.queued -= 1
            self._start()

    def _start(self) -> None:
        if self.asking is not None:
            self.asking.wake()
        branch = Branch(self.counts.started, self.now, self._phase.work, self._branches)
        self.counts.started += 1
        self.running[branch.index] = branch
        self.in_use += 1
        self.peak = max(self.peak, self.in_use)
        for pool in self.pools:
            for when in pool.add(self.now, branch):
                self.at(when, self._turn, pool, branch)
        self._forward(branch)

    def _forward(self, branch: Branch) -> None:
        """Let a branch do what is next, if it was not killed while it waited."""
        if branch.index not in self.running:
            return
        if not branch.left:
            self._end(branch, failed=branch.fails)
            return
        kind, demand = branch.left.pop()
        if kind == CPU:
            self.cores.sharing.add(self.now, demand, branch)
            self.cores.repace(self.now)
        elif kind == CALL and self.server is not None:
            self._call(self.server, branch, demand)
        else:
            self.at(self.now + demand, self._forward, branch)

    def _call(self, server: Server, branch: Branch, demand: float) -> None:
        if server.out or server.is_full:
            refused = not server.out
            self.at(self.now + server.refusal, self._fail, branch, refused, refused and server.says)
        else:
            server.sharing.add(self.now, demand, branch)
            server.repace(self.now)

    def _fail(self, branch: Branch, refused: bool, rejected: bool) -> None:
        if branch.index in self.running:
            self.counts.refused += refused
            self.counts.rejected += rejected
            self._end(branch, failed=True, lost=refused)

    def _turn(self, pool: Pool, branch: Branch) -> None:
        pool.turn(self.now, branch)

    def _kill(self, branch: Branch) -> None:
        del self.running[branch.index]
        self.counts.killed += 1
        self.killed[int(self.now)] += 1
        for pool in self.pools:
            pool.drop(self.now, branch)
        for place in (self.cores, self.server):
            if place is not None and branch.place is place.sharing:
                place.sharing.drop(branch)
                place.repace(self.now)
        self.at(self.now + REAPED, self._leave, True, True)

    def _end(self, branch: Branch, *, failed: bool, lost: bool = False) -> None:
        del self.running[branch.index]
        for pool in self.pools:
            pool.drop(self.now, branch)
        if not failed:
            self.latencies.append(self.now - branch.began)
        self._leave(failed, lost)

    def _leave(self, failed: bool, lost: bool) -> None:
        self.counts.succeeded += not failed
        self.counts.failed += failed
        self.good[int(self.now)] += (0.0 if failed else 1.0) - (LOST if lost else 0.0)
        self.in_use -= 1
        self._admit()

    # What comes by itself

    def _begin(self, phase: Phase) -> None:
        self.counts.dropped += self.queued or 0
        self._phase, self.queued = phase, phase.supply
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
        self.at(now + TICK, self._tick)


def _gpu(machine: Machine) -> Pool | None:
    if machine.gpu_memory is None:
        return None
    taken = machine.gpu_taken * machine.gpu_memory
    return Pool(machine.gpu_memory, taken, attrgetter("gpu_memory"))
