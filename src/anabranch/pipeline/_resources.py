"""Keep a run within memory and CPU: start nothing more, then cancel the least urgent, youngest.

Every tenth of a second this process and its descendants are read. Above a limit the gate of the run
holds back: one branch at a time may begin, so that a run which began above its limit, or whose
parents wait for their children, ends all the same. Memory that stays above its limit costs a
branch, and another one every few readings. CPU never does.

What is cancelled is a branch that does work, not the parent that waits for it; never a thread,
which would work on; and no branch that began above the limit, unless memory grew meanwhile: it
is not to blame, and one after another would be cancelled for what was there before them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import attrs

from anabranch._branch import Branch
from anabranch._host import Host
from anabranch._nursery import leave
from anabranch._scheduler import Scheduler
from anabranch._work import Status
from anabranch.events import LimitChanged
from anabranch.pipeline._gate import Gate
from anabranch.pipeline._least_urgent import at_work, can_be_stopped, least_urgent
from anabranch.pipeline._meter import Gauge, Reading, meter_of
from anabranch.pipeline._stopped import MEMORY_LIMIT, is_pressed
from anabranch.samplers._memory import MB

if TYPE_CHECKING:
    from anabranch.pipeline._config import ResourceLimits
    from anabranch.pipeline._node import Frame

log = logging.getLogger("anabranch")

PERIOD_S = 0.1
SHARE = 10  # a reading takes at most a tenth of the time, if need be by longer pauses
FIRST_S = 1.0  # how long a run waits for the first reading
GRACE = 3  # readings above the limit after the first, before a branch is cancelled, and each time
RESUME = 0.95  # of the limit: below it what was held back goes on
GROWTH = 1.05  # what a branch that began above the limit may add

_MEMORY, _CPU = MEMORY_LIMIT, "max_cpu_percent"


async def watched(
    walk: Callable[[], Awaitable[None]], limits: ResourceLimits, frame: Frame
) -> None:
    """Await ``walk``, which runs steps in ``frame``, under limits."""
    async with Resources(limits, frame.run.host) as resources:
        frame.rules, frame.gates = (*frame.rules, resources), (*frame.gates, resources.gate)
        await resources.ready()
        await walk()


@attrs.define(eq=False)
class Bound:
    """Compare readings with one limit; above it, hold back until they are clearly below.

    Attributes:
        over: how many readings in a row were above. holds: whether to start nothing more.
        figure: the last one that was known, if one was (`known`).
    """

    limit: float
    over: int = 0
    holds: bool = False
    figure: float = 0.0
    known: bool = False

    def see(self, figure: float) -> None:
        """Hear of a reading."""
        self.figure, self.known = figure, True
        if figure > self.limit:
            self.over += 1
            self.holds = True
        else:
            self.over = 0
            self.holds = self.holds and figure > RESUME * self.limit


class Resources:
    """Watch one run of a pipeline, nested ones included; hear of its steps as rules do.

    Attributes:
        gate: a limiter which each step of the run takes tokens of.
    """

    def __init__(self, limits: ResourceLimits, host: Host, gauge: Gauge | None = None) -> None:
        given = {_MEMORY: limits.max_memory_mb, _CPU: limits.max_cpu_percent}
        self.gate = Gate(host.runtime)
        self._bounds = {name: Bound(limit) for name, limit in given.items() if limit is not None}
        self._exact_above = RESUME * (limits.max_memory_mb or math.inf)
        self._host = host
        self._gauge = meter_of(host) if gauge is None else gauge
        self._open: dict[Scheduler, None] = {}
        self._held_by = ""  # which limit
        self._short_since = math.inf  # of memory
        self._innocent: Mapping[Branch, float] = {}  # begun above the limit, at which figure
        self._unknown: set[str] = set()  # what was said to be unknown
        self._readings = 0
        self._first: Any = host.runtime.Event()
        self._block: Any = host.runtime.open_nursery()
        self._scope = host.runtime.CancelScope()  # of the task that watches

    @property
    def cancels(self) -> bool:
        """Tell whether single branches may be cancelled by it."""
        return _MEMORY in self._bounds

    def opened(self, scheduler: Scheduler) -> None:
        """Hear that a step begins."""
        self._open[scheduler] = None

    def filled(self, scheduler: Scheduler) -> None:
        """Hear that its branches are queued."""

    def forbids(self, key: str) -> str:
        """Say why a branch must not begin: never, here."""
        return ""

    def heeds(self, branch: Branch) -> bool:
        """Tell whether anything follows from how a branch ended: nothing, here."""
        return False

    def closed(self, scheduler: Scheduler) -> None:
        """Hear that it has ended."""
        self._open.pop(scheduler, None)

    def ended(self, scheduler: Scheduler, branch: Branch) -> None:
        """Hear that a branch has ended, and count it if it was cancelled for its memory."""
        if branch.status is Status.CANCELLED and is_pressed(branch.reason):
            ledger = scheduler.ledger
            ledger.pressure = ledger.pressure or branch.reason

    async def __aenter__(self) -> Self:
        nursery = await self._block.__aenter__()
        nursery.start_soon(self._watch)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._scope.cancel(reason="the run has ended")
        return await leave(self._block, error, self._host.runtime)

    async def ready(self) -> None:
        """Wait for the first reading, but not for a machine that does not answer."""
        deadline = self._host.clock() + FIRST_S
        with self._host.runtime.CancelScope(deadline=deadline):
            await self._first.wait()

    async def _watch(self) -> None:
        clock, sleep = self._host.clock, self._host.runtime.sleep
        with self._scope:
            while True:
                began = clock()
                try:
                    reading = await self._gauge.read(self._exact_above)
                except Exception as error:  # of whatever reads: then it is unknown
                    reading = Reading(why=repr(error))
                self.see(reading)
                self._first.set()
                await sleep(max(PERIOD_S, (SHARE - 1) * (clock() - began)))

    def sample(self) -> Mapping[str, float | None]:
        """Tell, as a sampler does, how much of ``max_memory_mb`` is in use: a limit follows it."""
        memory = self._bounds.get(_MEMORY)
        if memory is None or not memory.known:
            return {}
        return {"memory_used": memory.figure * MB, "memory_total": memory.limit * MB}

    def see(self, reading: Reading) -> None:
        """Hear of a reading, and do what is to be done."""
        memory = self._bounds.get(_MEMORY)
        before = math.inf if memory is None or not self._readings else memory.figure
        self._readings += 1
        figures = {_MEMORY: reading.memory_mb, _CPU: reading.cpu_percent}
        for name, bound in self._bounds.items():
            figure = figures[name]
            if figure is None or math.isnan(figure):
                self._say_unknown(name, reading.why)
            else:
                bound.see(figure)
        self._hold()
        if memory is None or not memory.holds:
            self._short_since = math.inf
            return
        self._short_since = min(self._short_since, self._host.clock())
        self._acquit(min(before, memory.figure))
        if memory.over > GRACE and reading.memory_mb is not None:
            memory.over = 1
            self._cancel_one(memory.figure)

    def _hold(self) -> None:
        """Hold back, or let go on, and tell the steps' observers."""
        holding = next((name for name, bound in self._bounds.items() if bound.holds), "")
        total = 1 if holding else math.inf
        if total == self.gate.total_tokens:
            return
        words = self._words(holding or self._held_by)
        self._held_by = holding
        log.info("%s: %s", words, "starting nothing more" if holding else "going on")
        limits = [(scheduler.ledger, scheduler.ledger.limit()) for scheduler in self._open]
        self.gate.total_tokens = total
        for ledger, old in limits:
            known = zip(ledger.limiters, ledger.totals, strict=True)
            ledger.totals = [total if each is self.gate else last for each, last in known]
            new = ledger.limit()
            if new != old:
                ledger.emit(LimitChanged(ledger.clock(), ledger.step, old, new, words))

    def _words(self, name: str) -> str:
        bound = self._bounds[name]
        what, unit = ("memory", "MB") if name == _MEMORY else ("cpu", "%")
        whole = bound.limit == int(bound.limit)
        limit = f"{int(bound.limit) if whole else bound.limit:,}"
        figure = math.ceil(bound.figure) if bound.over else math.floor(bound.figure)
        return f"{what}: {figure:,} of {limit} {unit} ({name}=)"

    def _say_unknown(self, name: str, why: str) -> None:
        first = name == _CPU and self._readings == 1  # a difference needs two
        if not first and name not in self._unknown:
            self._unknown.add(name)
            log.warning("%s= limits nothing while the load is unknown%s", name, why and f": {why}")

    def _acquit(self, figure: float) -> None:
        """Note at which figure branches began that were let begin although it was too much."""
        began = [branch for _, branch in at_work(self._open, self.gate) if self._is_late(branch)]
        self._innocent = {branch: self._innocent.get(branch, figure) for branch in began}

    def _is_late(self, branch: Branch) -> bool:
        return branch.started_at is not None and branch.started_at >= self._short_since

    def _cancel_one(self, figure: float) -> None:
        """Cancel the least urgent, youngest of the branches that may be."""
        chosen = [
            (hand, branch)
            for hand, branch in at_work(self._open, self.gate)
            if can_be_stopped(hand, branch) and figure > GROWTH * self._innocent.get(branch, 0.0)
        ]
        found = least_urgent(self._open, chosen)
        if found is not None and found[0].cancel(self._words(_MEMORY)):
            log.warning("%s: cancelled branch %r", self._words(_MEMORY), found[1].key)
