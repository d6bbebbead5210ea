"""Build the real nodes of a drawn tree, with functions that report to its World."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from anabranch.pipeline import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    Pipeline,
    Step,
    StepResult,
)
from anabranch.pipeline._node import Frame, Node
from tests.properties import _step_trees as t
from tests.properties._tree_world import (
    MARK,
    PLACE,
    BoomError,
    Life,
    Said,
    World,
    gist,
    item_words,
    spoken,
)


class Watched(Node[Any, Any]):
    """Report when a node is run, and what came of it."""

    __slots__ = ("_inner", "_spec", "_world", "name")

    def __init__(self, inner: Node[Any, Any], spec: t.Spec, world: World) -> None:
        for slot, value in {
            "name": inner.name,
            "_inner": inner,
            "_spec": spec,
            "_world": world,
        }.items():
            object.__setattr__(self, slot, value)

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        place = self._world.open(self._spec, frame.path)
        before = PLACE.set(place)
        try:
            place.result = await self._inner.run_in(data, frame, name)
            return place.result
        finally:
            PLACE.reset(before)
            self._world.close(place)


class Builder:
    """Make each value a node, once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._made: dict[t.Spec, Any] = {}

    def root(self, line: t.Line) -> Pipeline[Any, Any]:
        """Make the pipeline that is run."""
        return Pipeline(
            [self.node(each) for each in line.steps],
            name=line.label,
            execution_config=ExecutionConfig(max_parallel_steps=line.limit),
        )

    def node(self, spec: t.Spec) -> Any:
        """Return what may stand as a step or a branch."""
        if spec not in self._made:
            self._made[spec] = self._make(spec)
        return self._made[spec]

    def _make(self, spec: t.Spec) -> Any:
        match spec:
            case t.Leaf():
                fn = function_of(spec, self.world)
                return fn if spec.bare else Step(spec.label, fn, timeout=spec.timeout)
            case t.Parallel():
                return Watched(self._parallel(spec), spec, self.world)
            case t.Map():
                items = items_of(spec, self.world)
                part, terms = self.node(spec.item), self._terms(spec)
                step = Step.map_over(spec.label, part, items=items, **terms)
                return Watched(step, spec, self.world)
        return Watched(self.root(spec), spec, self.world)

    def _parallel(self, spec: t.Parallel) -> Node[Any, Any]:
        branches = {key: self.node(each) for key, each in spec.branches}
        terms = self._terms(spec)
        match spec.spelling:
            case "named":
                return Step.parallel(spec.label, branches, **terms)
            case "unnamed":
                return Step.parallel(branches, **terms)
        return Step.parallel(branches=branches, **terms)

    def _terms(self, spec: t.Parallel | t.Map) -> dict[str, Any]:
        strategy = BranchFailureStrategy
        terms = {
            "timeout": spec.timeout,
            "on_branch_failure": strategy.IGNORE if spec.ignore else strategy.PROPAGATE,
        }
        match spec.limit:
            case t.Limit("int", n):
                terms["max_concurrency"] = n
            case t.Limit("config", n):
                terms["concurrency"] = ConcurrencyConfig(max_concurrent_branches=n)
            case t.Limit("pool", n):
                terms["max_concurrency"] = self.world.pool[n]
        return terms


def items_of(spec: t.Map, world: World) -> Any:
    """Return the items of a map as it is drawn to have them."""

    def said(number: int, data: Any = None) -> Said:
        return Said(item_words(spec.label, spec.source, number, gist(data)))

    def each(data: Any) -> Iterator[Said]:
        for number in range(spec.count):
            yield said(number, data)

    async def each_in_time(data: Any) -> AsyncIterator[Said]:
        for number in range(spec.count):
            await world.runtime.sleep(spec.gap)
            yield said(number, data)

    if spec.source == "list":
        return [said(number) for number in range(spec.count)]
    return each if spec.source == "callable" else each_in_time


def function_of(leaf: t.Leaf, world: World) -> Callable[..., Any]:
    """Make the function of a leaf."""

    async def plain(data: Any) -> Said:
        return await live(leaf, world, data, None)

    async def with_context(data: Any, *, context: Any) -> Said:
        return await live(leaf, world, data, context)

    fn = with_context if leaf.context else plain
    fn.__name__ = fn.__qualname__ = leaf.label
    return fn


async def live(leaf: t.Leaf, world: World, data: Any, context: Any) -> Said:
    """Be called as a step or a branch."""
    life = world.begin(leaf)
    MARK.set(life)
    trail = _leave_marks(life, world, context)
    try:
        await _act(life, world)
    except BaseException as error:
        world.end(life, "raised" if isinstance(error, BoomError) else "cancelled", error)
        raise
    world.claim(MARK.get() is life, f"{leaf.label} lost its context variable")
    if context is not None:
        world.claim(context["marks"] == trail, f"{leaf.label}: another changed its context")
    world.end(life, "returned")
    return Said(spoken(leaf.label, gist(data)), life)


def _leave_marks(life: Life, world: World, context: Any) -> list[str]:
    """Change the context, and see that nothing was in it but what went before."""
    if context is None:
        return []
    label, place = life.leaf.label, life.place
    seen, due = context["marks"], place.trail()
    world.claim(seen == due, f"{label} finds {seen} in its context, and not {due}")
    seen.append(label)
    if place.is_line:
        place.marks.append(label)
    return list(seen)


async def _act(life: Life, world: World) -> None:
    leaf, runtime = life.leaf, world.runtime
    match leaf.kind:
        case "sleep":
            await runtime.sleep(leaf.seconds)
        case "checkpoints":
            for _ in range(leaf.count):
                await runtime.lowlevel.checkpoint()
        case "fail":
            if leaf.seconds:
                await runtime.sleep(leaf.seconds)
            raise BoomError(life)
        case "stubborn":
            await _be_stubborn(life, world)


async def _be_stubborn(life: Life, world: World) -> None:
    leaf, runtime = life.leaf, world.runtime
    try:
        await runtime.sleep(leaf.seconds)
    except runtime.Cancelled:
        with runtime.CancelScope(shield=True):
            await runtime.sleep(leaf.after)
        if not leaf.returns:
            raise
        world.serial_swallowed = world.serial_swallowed or life.place.is_line
