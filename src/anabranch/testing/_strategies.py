"""Draw limits, resizes and trees of steps with Hypothesis: what a test of limits goes through.

Imported only when one of its names is asked for, since Hypothesis is nobody's dependency.
A drawn value prints as the expression that makes it, and is small when Hypothesis has shrunk it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, TypeAlias

import attrs

from anabranch._runtime import current
from anabranch._work import check_limit
from anabranch.pipeline import Pipeline, Step
from anabranch.testing._behaviours import checkpoints, raises, returns, sleep
from anabranch.testing._script import Behaviour, Scripted, script

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "anabranch.testing draws limits, resizes and step_trees with Hypothesis, which is not "
        "installed; install hypothesis",
        name="hypothesis",
    ) from error

Draw = Callable[[st.SearchStrategy[Any]], Any]
Line: TypeAlias = tuple[Behaviour, ...]


def limits(most: int = 8) -> st.SearchStrategy[int]:
    """Draw a limit from 1 to ``most``; often a small one, where faults are.

    Raises:
        ConfigurationError: ``most`` is less than 1.
    """
    check_limit("limits", "most", most)
    return _from(1, min(3, most)) | _from(1, most)


def _from(least: int, most: int) -> st.SearchStrategy[int]:
    return st.sampled_from(range(least, most + 1))


@attrs.frozen
class Resize:
    """Set a limiter to ``total`` tokens at so many seconds."""

    at: float
    total: int


def resizes(
    most: int = 8, *, count: int = 4, within: float = 5.0, pauses: bool = False
) -> st.SearchStrategy[tuple[Resize, ...]]:
    """Draw when a limiter is resized and to what, by time; `follow` does it.

    Args:
        most: the largest limit. count: so many at most. within: seconds.
        pauses: some set 0; the last one never does, so that all ends.

    Raises:
        ConfigurationError: ``most`` or ``count`` is less than 1.
    """
    check_limit("resizes", "most", most)
    check_limit("resizes", "count", count)
    moments = _from(0, 16).map(lambda n: n * within / 16)
    totals = _from(0 if pauses else 1, most)
    drawn = st.lists(st.builds(Resize, moments, totals), max_size=count)

    def in_order(moves: list[Resize]) -> tuple[Resize, ...]:
        moves = sorted(moves, key=lambda move: move.at)
        return (*moves[:-1], *(attrs.evolve(move, total=move.total or 1) for move in moves[-1:]))

    return drawn.map(in_order)


async def follow(limiter: Any, moves: Sequence[Resize]) -> None:
    """Resize a limiter as drawn, in seconds from now."""
    runtime = current()
    clock = runtime.lowlevel.current_clock().current_time
    began = clock()
    for move in moves:
        await runtime.sleep(max(0.0, began + move.at - clock()))
        limiter.total_tokens = move.total


@attrs.frozen
class Leaf:
    """Be a branch that behaves as a script says."""

    name: str
    acts: Line


@attrs.frozen
class Parallel:
    """Be a ``Step.parallel``; without a limit if ``max_concurrency`` is None."""

    name: str
    parts: tuple[Part, ...]
    max_concurrency: int | None


@attrs.frozen
class Sequential:
    """Be a Pipeline, one step after another."""

    name: str
    parts: tuple[Part, ...]


Part: TypeAlias = Leaf | Parallel | Sequential


@attrs.frozen
class StepTree:
    """Be a tree of steps that can be built, each time anew."""

    root: Part

    def leaves(self) -> tuple[Leaf, ...]:
        """Return what is called, in declared order."""
        return tuple(each for each in _parts(self.root) if isinstance(each, Leaf))

    def depth(self) -> int:
        """Return how many parallel steps stand within each other at most."""
        return _depth(self.root)

    def build(self) -> tuple[Pipeline[Any, Any], Scripted]:
        """Return a pipeline, and the branches that tell what they did."""
        played = script({leaf.name: leaf.acts for leaf in self.leaves()})
        return Pipeline([_step(self.root, played)], name="tree"), played


def step_trees(
    *,
    depth: int = 3,
    most: int = 10,
    fails: bool = True,
    behaviours: st.SearchStrategy[Behaviour] | None = None,
) -> st.SearchStrategy[StepTree]:
    """Draw a tree of steps.

    Args:
        depth: so many parallel steps within each other at most. most: leaves, at most.
        fails: some leaves raise ValueError. behaviours: draws what leaves do, in place of ours.

    Raises:
        ConfigurationError: ``depth`` or ``most`` is less than 1.
    """
    check_limit("step_trees", "depth", depth)
    check_limit("step_trees", "most", most)
    acts = _acts(fails) if behaviours is None else behaviours
    return _trees(depth, most, acts)


def _acts(fails: bool) -> st.SearchStrategy[Behaviour]:
    kinds: list[st.SearchStrategy[Behaviour]] = [
        st.sampled_from([0.0, 0.5, 0.5, 1.0]).map(sleep),
        _from(1, 3).map(checkpoints),
        _from(0, 9).map(returns),
    ]
    if fails:
        kinds.append(st.just(raises(ValueError)))
    return st.one_of(kinds)


@attrs.define
class _Here:
    draw: Draw
    acts: st.SearchStrategy[Behaviour]
    left: int  # leaves that may still be drawn, shared by all levels
    numbers: Iterator[int] = attrs.field(factory=count)


@st.composite
def _trees(draw: Draw, depth: int, most: int, acts: st.SearchStrategy[Behaviour]) -> StepTree:
    return StepTree(_parallel(_Here(draw, acts, most), depth))


def _parallel(here: _Here, depth: int) -> Parallel:
    name = f"p{next(here.numbers)}"
    parts = _few(here, depth - 1)
    return Parallel(name, parts, here.draw(st.none() | limits(4)))


def _few(here: _Here, depth: int) -> tuple[Part, ...]:
    parts = [_part(here, depth)]
    while len(parts) < 4 and here.left > 0 and here.draw(st.booleans()):
        parts.append(_part(here, depth))
    return tuple(parts)


def _part(here: _Here, depth: int) -> Part:
    grown = ["leaf", "parallel", "sequential"] if here.left > 1 and depth > 0 else ["leaf"]
    kind = here.draw(st.sampled_from(grown))
    if kind == "parallel":
        return _parallel(here, depth)
    if kind == "sequential":
        return Sequential(f"s{next(here.numbers)}", _few(here, depth - 1))
    here.left -= 1
    acts = here.draw(st.lists(here.acts, max_size=3))
    return Leaf(f"b{next(here.numbers)}", tuple(acts))


def _parts(part: Part) -> Iterator[Part]:
    yield part
    if not isinstance(part, Leaf):
        for each in part.parts:
            yield from _parts(each)


def _depth(part: Part) -> int:
    if isinstance(part, Leaf):
        return 0
    return isinstance(part, Parallel) + max(map(_depth, part.parts))


def _step(part: Part, played: Scripted) -> Any:
    if isinstance(part, Leaf):
        return Step(part.name, played[part.name])
    parts = {each.name: _step(each, played) for each in part.parts}
    if isinstance(part, Sequential):
        return Pipeline(list(parts.values()), name=part.name)
    return Step.parallel(part.name, parts, max_concurrency=part.max_concurrency, timeout=None)
