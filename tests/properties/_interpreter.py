"""Run a drawn program: what each branch, block and feed does."""

from __future__ import annotations

import asyncio
from typing import Any

from anabranch._branch import ASYNC, Branch
from anabranch._runtime import on_trio
from anabranch._scheduler import Scheduler
from anabranch._work import Job
from anabranch.errors import SchedulerClosedError
from tests.properties import _programs as p
from tests.properties._feeding import feed_of
from tests.properties._model import MARK, Actor, BoomError, Domain, Run, Trace, World


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
    loan = actor.lend(limits)
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
            await _read_shielded(run)


async def _read_shielded(run: Run) -> None:
    """Read what is left; a native cancellation knows no shield, and goes on afterwards."""
    runtime, late = run.opener.world.runtime, None
    while True:
        try:
            with runtime.CancelScope(shield=True):
                await run.read_all()
            break
        except runtime.Cancelled as error:
            late = error
    if late is not None:
        raise late


async def _run_all(run: Run) -> None:
    world, actor = run.opener.world, run.opener
    specs = [spec for spec in run.group.jobs for _ in range(spec.copies)]
    traces = [world.accept(spec, run, actor.mark) for spec in specs]
    now = world.clock()

    async def body(trace: Trace) -> str:
        if not run.is_open:
            run.opened()
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
            run.opened()
            actor.domain, actor.run = run.domain, run
            for spec in group.jobs:
                submit(spec, run, actor)
            for feed in group.feeds:
                scheduler.feed(feed_of(feed, run, actor.mark, job_of))
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
