"""Run a program in its surroundings, and compare the scheduler's account with the model's."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anabranch._runtime import current, on_trio
from anabranch._token import Held, wanted
from anabranch._work import Outcome, Status
from tests.leaks import new, tasks
from tests.properties import _programs as p
from tests.properties._interpreter import run_group
from tests.properties._model import Actor, BoomError, Domain, Run, Trace, World

OFF_BEAT = 0.25 + 1 / 4096  # no time that is drawn falls on these, so all is quiet then
LOOKS = 40
STOPPED = {Status.CANCELLED, Status.TIMED_OUT}


async def run_program(program: p.Program) -> World:
    """Run a program to its end; return its life, with ``faults`` that should be none."""
    runtime = current()
    clock = runtime.lowlevel.current_clock().current_time
    before = tasks()
    async with runtime.open_nursery() as nursery:
        pool = [runtime.CapacityLimiter(total) for total in program.pool]
        world = World(program, runtime, clock, nursery, pool)
        began = clock()
        nursery.start_soon(_move_limits, world)
        for neighbour in program.neighbours:
            nursery.start_soon(_be_neighbour, world, neighbour)
        nursery.start_soon(_look, world)
        await _Root(world).run()
        lasted, most = clock() - began, p.longest(program)
        world.claim(lasted <= most, f"it lasted {lasted:g} s, and {most:g} s of work was drawn")
        nursery.cancel_scope.cancel("the program has ended")
    left = new(before, tasks())
    world.claim(not left, f"tasks are left: {list(left.values())}")
    for run in world.runs:
        _check_run(run, world)
    for limiter in [*pool, *(each for run in world.runs for each in run.limiters)]:
        world.claim(not limiter.borrowed_tokens, f"tokens are not home: {limiter!r}")
    return world


async def _move_limits(world: World) -> None:
    for move in sorted(world.program.moves, key=lambda move: move.at):
        await world.runtime.sleep(max(0, move.at - world.clock()))
        world.pool[move.which].total_tokens = move.total
    await world.runtime.sleep(max(0, p.restored_at(world.program.moves) - world.clock()))
    for limiter in world.pool:
        limiter.total_tokens = max(1, limiter.total_tokens)


async def _be_neighbour(world: World, neighbour: p.Neighbour) -> None:
    limiter = world.pool[neighbour.which]
    await world.runtime.sleep(neighbour.at)
    async with limiter:
        world.outside[limiter] += 1
        try:
            await world.runtime.sleep(neighbour.seconds)
        finally:
            world.outside[limiter] -= 1


class _Root:
    """Open the root in a task of its own, which the program's end cancels from outside."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.end = world.program.end
        self.domain = Domain(world)
        self.ended = world.runtime.Event()
        self.native = False  # the task was cancelled, before it ended
        self.raised: BaseException | None = None

    async def run(self) -> None:
        """Run the tree; a cancellation from outside must come out of it."""
        world = self.world
        world.nursery.start_soon(self._open)
        await self.ended.wait()
        if not (self.native and self._is_only_cancel()) or world.host_swallowed:
            return
        world.claim(
            isinstance(self.raised, world.runtime.Cancelled | BoomError),
            f"the cancellation from outside was swallowed, and {self.raised!r} came out",
        )

    def _is_only_cancel(self) -> bool:
        """Tell whether nothing but the native cancellation has cancelled anything.

        anyio (4.16) forgets it otherwise: a scope that is left while the one around it is
        cancelled hands that its count of cancels, even if another task has entered that one.
        """
        now = self.world.clock()
        others = [each for each in self.world.domains if each is not self.domain]
        return not any(each.apart or each.deadline <= now for each in others)

    async def _open(self) -> None:
        world, domain, end = self.world, self.domain, self.end
        scope = world.runtime.CancelScope()
        if end is not None and end.how == "deadline":
            scope.deadline = domain.deadline = world.clock() + end.at
        elif end is not None:
            native = end.how == "task" and not on_trio()
            world.nursery.start_soon(self._cancel, scope, _this_task() if native else None)
        try:
            with scope:
                try:
                    await run_group(world.program.root, Actor(world, domain))
                except BaseException as error:
                    self.raised = error
                    raise
        except* BoomError:  # the root's block, or its feed
            pass
        finally:
            self.ended.set()

    async def _cancel(self, scope: Any, native: Any) -> None:
        assert self.end is not None
        await self.world.runtime.sleep(self.end.at)
        if self.ended.is_set():
            return
        self.domain.called = True
        if native is None:
            scope.cancel("outer")
        else:
            self.native = True
            native.cancel()


def _this_task() -> Any:
    import asyncio

    return asyncio.current_task()


async def _look(world: World) -> None:
    """See, whenever all is quiet, that no token is free while a branch waits for it."""
    for _ in range(LOOKS):
        due = (world.clock() // 0.5 + 1) * 0.5 + OFF_BEAT
        await world.runtime.sleep(due - world.clock())
        if world.clock() != due:
            continue  # somebody held the loop, so this may be in the middle of anything
        for run in world.runs:
            if run.is_open and not run.domain.cancelled():
                waiting = [branch.key for branch in run.scheduler.ledger.queue.waiting()]
                # What its parents have lent and lack must be there as well, or they would work
                # without it (docs/explanation/hand.md).
                needed = [*run.limiters, *_lacking(run.scheduler.ledger.parent)]
                free = all(each.borrowed_tokens < each.total_tokens for each in needed)
                world.claim(not (waiting and free), f"{waiting} wait, and tokens are free")


def _lacking(held: Held | None) -> list[Any]:
    return [] if held is None else [limiter for _, limiter in wanted((), held)]


def _check_run(run: Run, world: World) -> None:
    outcomes = {outcome.key: outcome for outcome in run.read}
    twice = [key for key, n in Counter(outcome.key for outcome in run.read).items() if n > 1]
    world.claim(not twice, f"two outcomes: {twice}")
    world.claim([o.order for o in run.read] == list(range(len(run.read))), "orders have gaps")
    strange = outcomes.keys() - run.traces.keys()
    world.claim(not strange, f"outcomes of nothing: {strange}")
    for key, trace in run.traces.items():
        refused = trace.fed and trace.started is None and run.domain.cancelled()
        world.claim(key in outcomes or refused, f"no outcome: {key}, {trace.end or 'not ended'}")
        if key in outcomes:
            _check_outcome(outcomes[key], trace, world)
    ends = [run.traces[key].ended for key in outcomes if key in run.traces]
    seen = [end for end in ends if end is not None]
    world.claim(seen == sorted(seen), "outcomes are not in the order of completion")
    if run.block_error is not None and isinstance(run.block_error, BoomError):
        kept = run.block_error in _leaves(run.raised)
        world.claim(kept, f"the block raised {run.block_error!r}, and {run.raised!r} came out")


def _leaves(error: BaseException | None) -> list[BaseException | None]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def _check_outcome(outcome: Outcome, trace: Trace, world: World) -> None:
    """Compare how a branch ended with what it knows itself."""
    allowed = _allowed(trace)
    world.claim(outcome.status in allowed, f"{outcome!r}, but it {trace.end or 'never started'}")
    begun = trace.started is not None
    world.claim(outcome.attempts == begun, f"{outcome!r}, but begun is {begun}")
    value = trace.key if outcome.status is Status.SUCCEEDED else None
    world.claim(outcome.value == value, f"{outcome!r}, but its value is {value!r}")
    world.claim(bool(outcome.reason) == (outcome.status in STOPPED), f"{outcome!r}: the reason")
    world.claim(
        trace.end not in ("raised", "both") or _has_errors(outcome, trace),
        f"{outcome!r} lost {trace.error!r}",
    )
    world.claim(0 <= outcome.queued_s < math.inf, f"{outcome!r}: queued_s")
    world.claim(0 <= outcome.ran_s < math.inf, f"{outcome!r}: ran_s")


def _allowed(trace: Trace) -> set[Status]:
    """Return how a branch may have ended."""
    stopped = set(STOPPED) if trace.spec.timeout is not None else {Status.CANCELLED}
    match trace.end:
        case "returned":
            return {Status.SUCCEEDED}
        case "raised":
            return {Status.FAILED} | (stopped if trace.domain.cancelled() else set())
        case "both":
            return stopped if trace.domain.cancelled() else set()
        case "cancelled":
            return stopped if trace.domain.cancelled() else set()
    return {Status.CANCELLED} if trace.taken_off or trace.domain.cancelled() else set()


def _has_errors(outcome: Outcome, trace: Trace) -> bool:
    ours = {id(leaf) for leaf in _leaves(trace.error) if isinstance(leaf, BoomError)}
    return ours <= {id(leaf) for leaf in _leaves(outcome.error)}


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Raise in a program that goes round and round without its time passing."""

    def ring(*_: Any) -> None:
        raise AssertionError(f"the program spins: {seconds} s of real time have passed")

    if not hasattr(signal, "SIGALRM"):  # Windows: pytest's faulthandler_timeout must do
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again: a branch may take it for its own
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
