"""Run a drawn tree in its surroundings: limits that move, cuts, a cancellation from outside."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs

from anabranch._runtime import current, on_trio
from anabranch._work import Outcome
from anabranch.pipeline import PipelineResult
from tests.leaks import new, tasks
from tests.properties import _step_trees as t
from tests.properties._programs import restored_at
from tests.properties._tree_checks import check_places, check_run
from tests.properties._tree_nodes import Builder
from tests.properties._tree_world import MARK, PLACE, Said, World

LATE = 1.0
SLACK = 0.25  # who waits for several limiters at once leaves the queues for milliseconds


async def run_tree(tree: t.Tree) -> World:
    """Run a tree to its end; return its life, with ``faults`` that should be none."""
    runtime = current()
    clock = runtime.lowlevel.current_clock().current_time
    before = tasks()
    async with runtime.open_nursery() as nursery:
        world = World(tree, runtime, clock, [runtime.CapacityLimiter(n) for n in tree.pool])
        began = clock()
        nursery.start_soon(_move_limits, world)
        trip = _Trip(world, nursery, Builder(world).root(tree.root))
        nursery.start_soon(trip.run)
        await trip.ended.wait()
        lasted, most = clock() - began, _most(tree)
        world.claim(lasted <= most, f"it lasted {lasted:g} s, and {most:g} s of work was drawn")
        for limiter in world.pool:
            world.claim(not limiter.borrowed_tokens, f"tokens are not home: {limiter!r}")
        nursery.cancel_scope.cancel("the tree has ended")
    left = new(before, tasks())
    world.claim(not left, f"tasks are left: {list(left.values())}")
    check_places(world)
    if trip.result is not None:
        check_run(world, trip.result, trip.read)
    return world


def _most(tree: t.Tree) -> float:
    return t.longest(tree.root) + max(0, restored_at(tree.moves)) + LATE + SLACK


async def _move_limits(world: World) -> None:
    moves = world.tree.moves
    for move in sorted(moves, key=lambda move: move.at):
        await world.runtime.sleep(max(0, move.at - world.clock()))
        world.pool[move.which].total_tokens = move.total
    await world.runtime.sleep(max(0, restored_at(moves) - world.clock()))
    for limiter in world.pool:
        limiter.total_tokens = max(1, limiter.total_tokens)


@attrs.define(eq=False, repr=False)
class _Trip:
    """Run the pipeline in a task of its own, which may be cancelled from outside."""

    world: World
    nursery: Any
    line: Any
    ended: Any = attrs.field(init=False)
    result: PipelineResult[Any] | None = None
    raised: BaseException | None = None
    read: list[Outcome] | None = None
    native: bool = False

    def __attrs_post_init__(self) -> None:
        self.ended = self.world.runtime.Event()

    async def run(self) -> None:
        world, end = self.world, self.world.tree.end
        scope = world.runtime.CancelScope()
        root = world.root()
        PLACE.set(root)
        MARK.set(root)
        root.mark = root
        if end is not None:
            self._prepare(scope, end)
        try:
            with scope:
                await self._run()
                self._check_ended()
                await world.runtime.lowlevel.checkpoint()
            if self.raised is not None:
                world.claim(bool(scope.cancelled_caught), f"{self.raised!r} was swallowed")
        finally:
            self.ended.set()

    async def _run(self) -> None:
        world = self.world
        try:
            await (self._follow() if world.tree.live else self._wait())
        except BaseException as error:
            self.raised = error
            ours = _is_cancel(error, world.runtime.Cancelled) and self._was_cancelled()
            world.claim(ours, f"it raised {error!r}")
            self._check_ended()
            raise

    def _prepare(self, scope: Any, end: Any) -> None:
        world = self.world
        at = world.clock() + end.at
        if end.how == "deadline":
            scope.deadline = world.cancelled_at = at
        else:
            self.native = end.how == "task" and not on_trio()
            this = asyncio.current_task() if self.native else None
            self.nursery.start_soon(self._cancel, scope, at, this)

    async def _cancel(self, scope: Any, at: float, native: Any) -> None:
        await self.world.runtime.sleep(max(0, at - self.world.clock()))
        if not self.ended.is_set():
            self.world.cancelled_at = self.world.clock()
            if native is None:
                scope.cancel("outer")
            else:
                self.world.cancelled_natively()
                native.cancel()

    def _was_cancelled(self) -> bool:
        at = self.world.cancelled_at
        return at is not None and at <= self.world.clock()

    def _check_ended(self) -> None:
        """See, the moment that the run is over, that nothing of it runs."""
        world = self.world
        world.over = True
        labels = [life.leaf.label for life in world.active]
        world.claim(not labels, f"the run is over, and these run: {labels}")
        now, at = world.clock(), world.cancelled_at
        if self.result is None or at is None or at >= now or world.serial_swallowed:
            return
        tree = world.tree
        alone = not tree.cuts and tree.timeout is None and not _times_out(tree)
        if alone or not self.native:  # anyio forgets a native cancel that meets a scope's
            world.claim(False, f"cancelled at {at:g} s, and a result came out: {self.result!r}")

    def _terms(self) -> dict[str, Any]:
        tree = self.world.tree
        limiter = None if tree.handed is None else self.world.pool[tree.handed]
        return {"context": {"marks": []}, "limiter": limiter, "timeout": tree.timeout}

    async def _wait(self) -> None:
        self.result = await self.line.run(Said("data"), **self._terms())

    async def _follow(self) -> None:
        world, reading = self.world, self.world.tree.reading
        run = self.line.open(Said("data"), **self._terms())
        async with run:
            for cut in world.tree.cuts:
                self.nursery.start_soon(self._cut, run, cut)
            if reading == "late":
                await world.runtime.sleep(LATE)
            if reading != "none":
                self.read = []
                async for outcome in run.outcomes:
                    self.read.append(outcome)
        self.result = run.result

    async def _cut(self, run: Any, cut: t.Cut) -> None:
        await self.world.runtime.sleep(max(0, cut.at - self.world.clock()))
        if not self.world.over:
            told = run.cancel(cut.glob, reason="drawn")
            self.world.claim(told >= 0, f"cancel({cut.glob!r}) says {told}")


def _is_cancel(error: BaseException, cancelled: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):  # trio's own nurseries raise such
        return all(_is_cancel(each, cancelled) for each in error.exceptions)
    return isinstance(error, cancelled)


def _times_out(tree: t.Tree) -> bool:
    return any(each.timeout for each in t.parts(tree.root) if t.timed(each))
