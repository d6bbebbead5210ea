"""Run a drawn program, and keep beside the scheduler's account of it one of our own.

What is wrong is noted in ``World.faults``, not raised: an error in a branch is data.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import attrs

from anabranch._branch import ASYNC, Branch
from anabranch._runtime import Runtime, on_trio
from anabranch._scheduler import Scheduler
from anabranch._work import Job, Outcome
from anabranch.errors import SchedulerClosedError
from tests.properties import _programs as p

MARK: ContextVar[str] = ContextVar("mark", default="outside")


class BoomError(Exception):
    """The only error that a program raises."""


@attrs.define(eq=False)
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


@attrs.define(eq=False)
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


@attrs.define(eq=False)
class Actor:
    """One task, as far as it acts for a branch or a block: where it stands, what it has set."""

    world: World
    domain: Domain
    mark: str = "outside"
    trace: Trace | None = None
    run: Run | None = None  # whom it submits to and cancels in


@attrs.define(eq=False)
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


@attrs.define(eq=False)
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


async def run_branch(world: World, trace: Trace) -> str:
    """Be an async branch."""
    world.begin(trace)
    actor = Actor(world, trace.domain, trace.mark, trace, trace.run)
    try:
        await _perform_all(trace.spec.ops, actor)
    except BaseException as error:
        world.end(trace, _kind(error, world.runtime.Cancelled), error)
        raise
    world.end(trace, "returned")
    return trace.key


def run_plain(world: World, trace: Trace) -> str:
    """Be a plain function, called where it stands."""
    world.begin(trace)
    for op in trace.spec.ops:
        match op:
            case p.Hold(seconds):
                pass_time(world, seconds)
            case p.Mark():
                MARK.set(trace.key)
            case p.Fail():
                error = BoomError(trace.key)
                world.end(trace, "raised", error)
                raise error
    world.end(trace, "returned")
    return trace.key


def _kind(error: BaseException, cancelled: type[BaseException]) -> str:
    """Tell whether an error is a cancellation, something that was raised, or both in a group."""
    if isinstance(error, BaseExceptionGroup):
        kinds = {_kind(each, cancelled) for each in error.exceptions}
        return kinds.pop() if len(kinds) == 1 else "both"
    return "cancelled" if isinstance(error, cancelled) else "raised"


def pass_time(world: World, seconds: float) -> None:
    """Let the clock go on without a checkpoint, as a computation would."""
    host = world.runtime.lowlevel.current_clock() if on_trio() else asyncio.get_running_loop()
    host.jump(seconds)


async def _perform_all(ops: tuple[p.Op, ...], actor: Actor) -> None:
    for op in ops:
        await _perform(op, actor)
        seen = MARK.get()
        actor.world.claim(seen == actor.mark, f"{_name(actor)} sees {seen}, and not {actor.mark}")


def _name(actor: Actor) -> str:
    return actor.trace.key if actor.trace else "the program"


async def _perform(op: p.Op, actor: Actor) -> None:  # one line a case
    world = actor.world
    runtime = world.runtime
    match op:
        case p.Sleep(seconds):
            await runtime.sleep(seconds)
        case p.Checkpoints(count):
            for _ in range(count):
                await runtime.lowlevel.checkpoint()
        case p.Hold(seconds):
            pass_time(world, seconds)
        case p.Fail():
            raise BoomError(_name(actor))
        case p.Stubborn(seconds, after):
            await _be_stubborn(actor, seconds, after)
        case p.Untidy(seconds):
            try:
                await runtime.sleep(seconds)
            finally:
                raise BoomError(_name(actor))
        case p.Mark():
            actor.mark = f"{_name(actor)} {next(world.count)}"
            MARK.set(actor.mark)
        case p.Nest(group):
            await run_group(group, actor)
        case p.Children(groups):
            await _have_children(groups, actor)
        case p.Within(seconds, ops):
            await _stay_within(seconds, ops, actor)
        case _:
            _act(op, actor)


async def _be_stubborn(actor: Actor, seconds: float, after: float) -> None:
    runtime = actor.world.runtime
    try:
        await runtime.sleep(seconds)
    except runtime.Cancelled:
        if actor.trace is None:
            actor.world.host_swallowed = True
        with runtime.CancelScope(shield=True):
            await runtime.sleep(after)


async def _have_children(groups: tuple[p.Group, ...], actor: Actor) -> None:
    outer = actor.domain
    domain = Domain(actor.world, outer)

    async def be_child(group: p.Group) -> None:
        child = Actor(actor.world, domain, actor.mark, actor.trace, actor.run)
        try:
            await run_group(group, child)
        except BaseException:
            domain.called = True  # the nursery cancels the others
            domain.apart = not outer.cancelled()
            raise

    async with actor.world.runtime.open_nursery() as nursery:
        for group in groups:
            nursery.start_soon(be_child, group)


async def _stay_within(seconds: float, ops: tuple[p.Op, ...], actor: Actor) -> None:
    outer = actor.domain
    deadline = actor.world.clock() + seconds
    actor.domain = Domain(actor.world, outer, deadline=deadline)
    try:
        with actor.world.runtime.CancelScope(deadline=deadline):
            await _perform_all(ops, actor)
    finally:
        actor.domain = outer


def _act(op: p.Op, actor: Actor) -> None:
    """Do what needs no waiting, in one's scheduler."""
    run = actor.run
    if run is None:
        return
    match op:
        case p.Submit(job) if run.takes_jobs:
            submit(job, run, actor)
        case p.Cancel(glob, up):
            _cancel(glob, run.up if up and run.up else run)
        case p.Resize(total) if run.limiters:
            run.scheduler.limiter.total_tokens = total
        case p.Pause(seconds, total) if run.limiters:
            limiter = run.scheduler.limiter
            limiter.total_tokens = 0
            actor.world.nursery.start_soon(_resume, actor.world, limiter, seconds, total)


async def _resume(world: World, limiter: Any, seconds: float, total: int) -> None:
    await world.runtime.sleep(seconds)
    limiter.total_tokens = total


def job_of(trace: Trace, world: World) -> Job:
    """Make the job of a branch that the model has accepted."""
    spec = trace.spec
    return Job(
        trace.key,
        run_plain if spec.plain else run_branch,
        (world, trace),
        priority=spec.priority,
        timeout=spec.timeout,
        lane="inline" if spec.plain else "auto",
    )


def submit(spec: p.Spec, run: Run, actor: Actor) -> None:
    """Submit the copies of a job; a closed scheduler takes none."""
    world = actor.world
    for _ in range(spec.copies):
        trace = world.accept(spec, run, actor.mark)
        try:
            run.scheduler.submit(job_of(trace, world))
        except SchedulerClosedError:
            del run.traces[trace.key]
            world.claim(run.domain.cancelled(), f"{trace.key} was refused without a reason")


def _cancel(glob: str, run: Run) -> None:
    if run.group.how == "run_bare" or not run.is_open:
        return
    world = run.opener.world
    chosen = {t.key for t in run.traces.values() if t.ended is None and _matches(glob, t.key)}
    running = {key for key in chosen if run.traces[key].started is not None}
    queued = {key for key in chosen if run.traces[key].queued}
    stopped = bool(run.scheduler.ledger.stopped)
    told = run.scheduler.cancel(glob, reason="drawn")
    most = len(chosen)
    world.claim(told <= most, f"cancel({glob!r}) says {told}, and there were {most}")
    if not run.domain.cancelled() and not stopped:
        world.claim(told >= len(queued), f"cancel({glob!r}) says {told} of {len(queued)} queued")
    for key in queued:
        run.traces[key].taken_off = True
    for key in running:
        run.traces[key].domain.called = run.traces[key].domain.apart = True


def _matches(glob: str, key: str) -> bool:
    return glob in ("*", "**") or key[0] == glob[0] or (glob == "?1" and key[1:] == "1")


async def run_group(group: p.Group, actor: Actor) -> None:
    """Open a scheduler as the group says, and leave it; its outcomes are read by then."""
    world = actor.world
    limits = [world.pool[-1 - limit] if limit < 0 else limit for limit in group.limits]
    bare = group.how.startswith("run")
    scheduler = Scheduler(
        limits, timeout=group.timeout, reads=not bare, leases=group.how != "run_bare"
    )
    run = Run(group, actor, Domain(world, actor.domain), scheduler, actor.run)
    world.runs.append(run)
    loan = _lend(limits, actor)
    try:
        await (_run_all(run) if bare else _run_block(run))
    except BaseException as error:
        run.raised = error
        raise
    finally:
        run.is_open = False
        for trace, limiter in loan:
            trace.lent[limiter] -= 1
            if run.raised is not None:
                trace.lost.add(limiter)
        if not bare:
            with world.runtime.CancelScope(shield=True):
                await run.read_all()


def _lend(limits: list[Any], actor: Actor) -> list[tuple[Trace, Any]]:
    """Note which tokens the opener and its ancestors give back for as long as it waits."""
    loan = []
    for limiter in {each for each in limits if not isinstance(each, int)}:
        trace = actor.trace
        while trace is not None and limiter not in trace.run.limiters:
            trace = trace.run.opener.trace
        if trace is not None:
            trace.lent[limiter] += 1
            loan.append((trace, limiter))
    return loan


def opened(run: Run) -> None:
    """Note that the scheduler is open."""
    run.limiters = list(run.scheduler.ledger.limiters)
    run.domain.deadline = run.scheduler.ledger.deadline
    run.is_open = True


async def _run_all(run: Run) -> None:
    world, actor = run.opener.world, run.opener
    specs = [spec for spec in run.group.jobs for _ in range(spec.copies)]
    traces = [world.accept(spec, run, actor.mark) for spec in specs]
    now = world.clock()

    async def body(trace: Trace) -> str:
        if not run.is_open:
            opened(run)
        return await run_branch(world, trace)

    branches = [
        Branch(trace.key, ASYNC, body, (trace,), now, timeout=trace.spec.timeout)
        for trace in traces
    ]
    if run.group.timeout is not None:
        run.domain.deadline = now + run.group.timeout
    try:
        await run.scheduler.run_all(branches)
    finally:
        ledger = run.scheduler.ledger
        run.read += [branch.outcome(n) for n, branch in enumerate(ledger.ended)]


async def _run_block(run: Run) -> None:
    actor, group = run.opener, run.group
    outer, above = actor.domain, actor.run
    try:
        async with run.scheduler as scheduler:
            opened(run)
            actor.domain, actor.run = run.domain, run
            for spec in group.jobs:
                submit(spec, run, actor)
            for feed in group.feeds:
                scheduler.feed(_feed(feed, run, actor.mark))
            try:
                await _perform_all(group.block, actor)
                if group.how == "dawdles":
                    await run.read_all(p.DAWDLES)
                elif group.how == "reads":
                    await run.read_all()
            except BaseException as error:
                run.block_error = error
                run.domain.called = True
                run.domain.apart = isinstance(error, BoomError)
                raise
            finally:
                run.in_block = False
    finally:
        actor.domain, actor.run = outer, above


def _feed(feed: p.Feed, run: Run, mark: str) -> Any:
    world = run.opener.world

    def next_job(spec: p.Spec) -> Job:
        world.claim(MARK.get() == mark, f"a feed is pulled in {MARK.get()}'s context")
        trace = world.accept(spec, run, mark)
        trace.fed = True
        return job_of(trace, world)

    def end() -> None:
        if feed.fails:
            run.domain.called = run.domain.apart = True
            raise BoomError("feed")

    specs = [spec for spec in feed.jobs for _ in range(spec.copies)]

    def plain() -> Iterator[Job]:
        for spec in specs:
            limit = min(limiter.total_tokens for limiter in run.limiters)
            kept = run.unread() if run.in_block else 0
            world.claim(kept < 2 * limit, f"pulled with {kept} unread at a limit of {limit}")
            yield next_job(spec)
        end()

    async def paced() -> AsyncIterator[Job]:
        for spec in specs:
            await world.runtime.sleep(feed.pause or 0)
            yield next_job(spec)
        end()

    return plain() if feed.pause is None else paced()
