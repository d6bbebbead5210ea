"""Keep a second account of a program beside the scheduler's: who was accepted, ran, ended, and how.

What is wrong is noted in ``World.faults``, not raised: an error in a branch is data.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import attrs

from anabranch._runtime import Runtime
from anabranch._scheduler import Scheduler
from anabranch._work import Outcome
from tests.properties import _programs as p

MARK: ContextVar[str] = ContextVar("mark", default="outside")


class BoomError(Exception):
    """The only error that a program raises."""


@attrs.define(eq=False, repr=False)
class Domain:
    """Know what may have cancelled whom: a scope, as the model sees it."""

    world: World
    parent: Domain | None = None
    called: bool = False
    apart: bool = False  # called by something else than what is around it
    deadline: float = math.inf

    def cancelled(self) -> bool:
        struck = self.called or self.world.clock() >= self.deadline
        return struck or (self.parent is not None and self.parent.cancelled())

    def __attrs_post_init__(self) -> None:
        self.world.domains.append(self)


@attrs.define(eq=False, repr=False)
class Trace:
    """Keep what one branch itself knows of its life; numbers are those of the world's events."""

    key: str
    spec: p.Spec
    run: Run
    domain: Domain
    mark: str  # what the context variable was where the job was submitted
    accepted: int
    fed: bool = False
    started: int | None = None
    started_at: float = 0.0
    ended: int | None = None
    end: str = ""  # "returned", "raised", "cancelled", or "both" of the last two
    error: BaseException | None = None
    taken_off: bool = False  # the model cancelled it while it was queued
    lent: Counter[Any] = attrs.field(factory=Counter)
    lost: set[Any] = attrs.field(factory=set)  # lent, and maybe not taken back

    @property
    def queued(self) -> bool:
        return self.started is None and not self.taken_off

    def works_on(self, limiter: Any) -> bool:
        """Tell whether it runs, and holds a token of ``limiter`` while it does."""
        return (
            limiter in self.run.limiters
            and self.started is not None
            and self.ended is None
            and not self.lent[limiter]
            and limiter not in self.lost
        )

    @property
    def rank(self) -> tuple[int, int]:
        return -self.spec.priority, self.accepted


@attrs.define(eq=False, repr=False)
class Actor:
    """One task, as far as it acts for a branch or a block: where it stands, what it has set."""

    world: World
    domain: Domain
    mark: str = "outside"
    trace: Trace | None = None
    run: Run | None = None  # whom it submits to and cancels in

    def lend(self, limits: list[Any]) -> list[tuple[Trace, Any]]:
        """Note which tokens the opener and its ancestors give back for as long as it waits."""
        loan = []
        for limiter in {each for each in limits if not isinstance(each, int)}:
            trace = self.trace
            while trace is not None and limiter not in trace.run.limiters:
                trace = trace.run.opener.trace
            if trace is not None:
                trace.lent[limiter] += 1
                loan.append((trace, limiter))
        return loan


@attrs.define(eq=False, repr=False)
class Run:
    """Keep what became of one group: one scheduler's life."""

    group: p.Group
    opener: Actor
    domain: Domain
    scheduler: Scheduler
    up: Run | None = None
    limiters: list[Any] = attrs.field(factory=list)
    traces: dict[str, Trace] = attrs.field(factory=dict)
    read: list[Outcome] = attrs.field(factory=list)
    is_open: bool = False
    in_block: bool = True
    block_error: BaseException | None = None
    raised: BaseException | None = None

    @property
    def takes_jobs(self) -> bool:
        return not self.group.how.startswith("run")

    def opened(self) -> None:
        """Note that the scheduler is open."""
        self.limiters = list(self.scheduler.ledger.limiters)
        self.domain.deadline = self.scheduler.ledger.deadline
        self.is_open = True

    async def read_all(self, pauses: tuple[float, ...] = ()) -> None:
        """Read the outcomes there are; what was read is kept when this is cancelled."""
        left = list(pauses)
        async for outcome in self.scheduler.outcomes:
            self.read.append(outcome)
            if left:
                await self.opener.world.runtime.sleep(left.pop())

    def unread(self) -> int:
        """Count the fed outcomes that nobody has read yet."""
        return sum(t.fed and t.ended is not None for t in self.traces.values()) - sum(
            self.traces[outcome.key].fed for outcome in self.read
        )


@attrs.define(eq=False, repr=False)
class World:
    """Keep one program's life."""

    program: p.Program
    runtime: Runtime
    clock: Callable[[], float]
    nursery: Any
    pool: list[Any]
    count: Iterator[int] = attrs.field(factory=itertools.count)
    runs: list[Run] = attrs.field(factory=list)
    faults: list[str] = attrs.field(factory=list)
    domains: list[Domain] = attrs.field(factory=list)
    outside: Counter[Any] = attrs.field(factory=Counter)  # tokens that neighbours hold
    host_swallowed: bool = False  # a block, which is the host's own code, swallowed a cancellation

    def claim(self, holds: bool, says: str) -> None:
        if not holds:
            self.faults.append(f"at {self.clock():g} s: {says}")

    def traces(self) -> Iterator[Trace]:
        for run in self.runs:
            yield from run.traces.values()

    def accept(self, spec: p.Spec, run: Run, mark: str) -> Trace:
        """Name a job, and count it as accepted."""
        number = next(self.count)
        key = f"{spec.letter}{number}"
        domain = Domain(self, run.domain)
        run.traces[key] = trace = Trace(key, spec, run, domain, mark, number)
        return trace

    def begin(self, trace: Trace) -> None:
        """Note that a branch starts, and see whether it may."""
        run = trace.run
        self.claim(trace.started is None, f"{trace.key} starts twice")
        self.claim(not trace.taken_off, f"{trace.key} starts, and was cancelled while queued")
        self.claim(run.is_open, f"{trace.key} starts, and its scheduler's block was left")
        waiting = [each.rank for each in run.traces.values() if each.queued]
        self.claim(trace.rank <= min(waiting, default=trace.rank), f"{trace.key} is not the first")
        trace.started, trace.started_at = next(self.count), self.clock()
        if trace.spec.timeout is not None:
            trace.domain.deadline = trace.started_at + trace.spec.timeout
        for limiter in run.limiters:
            total, borrowed = limiter.total_tokens, limiter.borrowed_tokens
            self.claim(borrowed <= total, f"{trace.key} starts with {borrowed} of {total} borrowed")
            working = sum(each.works_on(limiter) for each in self.traces())
            working += self.outside[limiter]
            self.claim(working <= total, f"{trace.key} starts as the {working}th of {total}")
        self.claim(MARK.get() == trace.mark, f"{trace.key} starts in {MARK.get()}'s context")

    def end(self, trace: Trace, how: str, error: BaseException | None = None) -> None:
        """Note how a branch ended, as it saw that itself."""
        trace.ended, trace.end, trace.error = next(self.count), how, error
