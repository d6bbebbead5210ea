"""Draw trees of steps to a depth of 4, kept small by an allowance that all levels share.

Every value prints as the expression that makes it. Equal values are one node when they are built,
so a value that stands in several places is one node object in several places.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs
from hypothesis import strategies as st

from tests.properties._programs import End, Move, value

Draw = Callable[[st.SearchStrategy[Any]], Any]

DEPTH = 4
MS = 1 / 512


@value
class Leaf:
    """Be a step of one async function."""

    label: str
    kind: str  # "sleep", "checkpoints", "quick", "fail" or "stubborn"
    seconds: float = 0.0
    count: int = 0  # checkpoints
    after: float = 0.0  # how long a stubborn one goes on
    returns: bool = False  # a stubborn one keeps its cancellation to itself
    timeout: float | None = None
    context: bool = False  # it takes the context, and changes it
    bare: bool = False  # a function, and no Step


@value
class Limit:
    """Bound a step: "none", "int", "config" (a ConcurrencyConfig) or "pool" (``n`` says which)."""

    how: str = "none"
    n: int = 0


@value
class Parallel:
    """Be a Step.parallel; spelled "named", "unnamed" or "keyword"."""

    label: str
    branches: tuple[tuple[str, Spec], ...]
    limit: Limit = Limit()
    timeout: float | None = None
    ignore: bool = False
    spelling: str = "named"


@value
class Map:
    """Be a Step.map_over, of a list, or of a "callable" that returns a generator, or "async"."""

    label: str
    item: Spec
    count: int
    source: str = "list"
    gap: float = 0.0  # seconds before each item of an async one
    limit: Limit = Limit()
    timeout: float | None = None
    ignore: bool = False


@value
class Line:
    """Be a Pipeline."""

    label: str
    steps: tuple[Spec, ...]
    limit: int | None = None


Spec: TypeAlias = Leaf | Parallel | Map | Line


@value
class Cut:
    """Cancel by glob what runs or waits then."""

    at: float
    glob: str


@value
class Tree:
    """Run a pipeline, by ``run`` or by ``open``; ``reading`` is "all", "late" or "none"."""

    seed: int
    root: Line
    pool: tuple[int, ...] = (1, 1)
    handed: int | None = None  # which of the pool is the run's own ``limiter=``
    moves: tuple[Move, ...] = ()
    end: End | None = None
    timeout: float | None = None
    live: bool = False
    reading: str = "all"
    cuts: tuple[Cut, ...] = ()

    def calm(self) -> bool:
        """Tell whether nothing can be cancelled or time out, so that the result is known."""
        stopped = self.end is not None or self.timeout is not None or bool(self.cuts)
        return not stopped and not any(each.timeout for each in parts(self.root) if timed(each))


def timed(spec: Spec) -> bool:
    return not isinstance(spec, Line)


def inside(spec: Spec) -> tuple[Spec, ...]:
    """Return what stands directly in a node."""
    match spec:
        case Parallel(branches=branches):
            return tuple(each for _, each in branches)
        case Map(item=item):
            return (item,)
        case Line(steps=steps):
            return steps
    return ()


def parts(spec: Spec) -> Iterator[Any]:
    """Go through a node and all that is in it."""
    yield spec
    for each in inside(spec):
        yield from parts(each)


def depth_of(spec: Spec) -> int:
    """Return how many steps with branches stand within each other at most."""
    own = isinstance(spec, Parallel | Map)
    return own + max(map(depth_of, inside(spec)), default=0)


def may_knot(tree: Tree) -> bool:
    """Tell whether branches may wait for each other: some limit is shared, and not the only one."""
    limits = [each.limit for each in parts(tree.root) if isinstance(each, Parallel | Map)]
    return any(limit.how == "pool" for limit in limits) and len(limits) > 1


def longest(spec: Spec) -> float:
    """Return what a node lasts when nothing runs beside anything else."""
    match spec:
        case Leaf(seconds=seconds, after=after):
            return seconds + after
        case Map(item=item, count=count, gap=gap):
            return count * (gap + longest(item)) + gap
    return sum(map(longest, inside(spec)))


def weight(spec: Spec) -> int:
    """Count the calls of functions."""
    times = spec.count if isinstance(spec, Map) else 1
    return times * sum(map(weight, inside(spec))) if inside(spec) else 1


_SECONDS = st.sampled_from([0.0, MS, 0.5, 0.5, 1.0, 1.5])
_AT = st.sampled_from([0.0, MS, 0.25, 0.5, 0.5, 1.0, 1.5, 2.0])
_TIMEOUT = st.sampled_from([0.5, 1.0, 1.0, 1.5, 3 * MS])
_KIND = st.sampled_from(["sleep", "sleep", "checkpoints", "quick", "fail", "stubborn"])
_GROWN = st.sampled_from(["leaf", "parallel", "parallel", "map", "line"])
_LIMIT = st.sampled_from(["none", "int", "int", "config", "pool", "pool", "pool"])
_GLOB = st.sampled_from(["**", "*", "k*", "*/*", "k1*", "**/0", "*/1"])
_ONE_IN_THREE = st.sampled_from([True, False, False])
_TENTH = st.sampled_from([True] + [False] * 9)
_SOURCE = st.sampled_from(["list", "callable", "async"])
_SPELLING = st.sampled_from(["named", "unnamed", "keyword"])


@attrs.define
class _Here:
    draw: Draw
    left: list[int]
    timeouts: bool  # this tree has some
    depth: int = 0
    numbers: Iterator[int] = attrs.field(factory=itertools.count)
    earlier: list[Spec] = attrs.field(factory=list)

    def label(self, letter: str) -> str:
        return f"{letter}{next(self.numbers)}"

    def timeout(self) -> float | None:
        once = self.timeouts and self.draw(_ONE_IN_THREE)
        return self.draw(_TIMEOUT) if once else None


@st.composite
def trees(draw: Draw) -> Tree:
    """Draw a tree with its schedule; half of them run undisturbed."""
    wild = draw(st.booleans())
    here = _Here(draw, [draw(st.sampled_from([4, 10, 22]))], timeouts=wild and draw(st.booleans()))
    root = _line(here, draw(st.sampled_from([1, 1, 2, 3])), top=True)
    moves = st.builds(Move, _AT, st.integers(0, 1), st.integers(0, 3))
    ends = st.builds(End, _AT, st.sampled_from(["scope", "deadline", "task"]))
    live = draw(_ONE_IN_THREE)
    return Tree(
        seed=draw(st.integers(0, 2**16)),
        root=root,
        pool=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        handed=draw(st.integers(0, 1)) if draw(_TENTH) else None,
        moves=tuple(draw(st.lists(moves, max_size=3))) if draw(_ONE_IN_THREE) else (),
        end=draw(ends) if wild and draw(st.booleans()) else None,
        timeout=draw(_TIMEOUT) if wild and draw(_TENTH) else None,
        live=live,
        reading=draw(st.sampled_from(["all", "all", "late", "none"])) if live else "all",
        cuts=tuple(draw(st.lists(st.builds(Cut, _AT, _GLOB), max_size=2))) if wild and live else (),
    )


def _spec(here: _Here) -> Spec:
    draw = here.draw
    fits = [e for e in here.earlier if depth_of(e) <= DEPTH - here.depth and weight(e) <= 6]
    if fits and draw(st.sampled_from([True] + [False] * 7)):
        here.left[0] -= 1
        return draw(st.sampled_from(fits))
    kind = draw(_GROWN) if here.left[0] > 1 and here.depth < DEPTH else "leaf"
    made: Spec
    match kind:
        case "parallel":
            made = _parallel(here)
        case "map":
            made = _map(here)
        case "line":
            made = _line(here, draw(st.integers(1, 3)))
        case _:
            made = _leaf(here)
    here.earlier.append(made)
    return made


def _leaf(here: _Here) -> Leaf:
    draw = here.draw
    here.left[0] -= 1
    kind = draw(_KIND)
    bare = draw(st.booleans())
    return Leaf(
        here.label("s"),
        kind,
        seconds=draw(_SECONDS) if kind in ("sleep", "stubborn", "fail") else 0.0,
        count=draw(st.integers(1, 4)) if kind == "checkpoints" else 0,
        after=draw(_SECONDS) if kind == "stubborn" else 0.0,
        returns=kind == "stubborn" and draw(st.booleans()),
        timeout=None if bare else here.timeout(),
        context=draw(_ONE_IN_THREE),
        bare=bare,
    )


def _limit(here: _Here) -> Limit:
    how = here.draw(_LIMIT)
    most = {"none": (0, 0), "pool": (0, 1)}.get(how, (1, 5))
    return Limit(how, here.draw(st.integers(*most)))


def _terms(here: _Here) -> dict[str, Any]:
    return {"limit": _limit(here), "timeout": here.timeout(), "ignore": here.draw(st.booleans())}


def _parallel(here: _Here) -> Parallel:
    terms = _terms(here)
    inner = attrs.evolve(here, depth=here.depth + 1)
    count = here.draw(st.integers(1, 4))
    branches = tuple((here.label("k"), _spec(inner)) for _ in range(count))
    return Parallel(here.label("p"), branches, spelling=here.draw(_SPELLING), **terms)


def _map(here: _Here) -> Map:
    draw = here.draw
    terms = _terms(here)
    count = draw(st.integers(0, 5))
    inner = attrs.evolve(here, depth=here.depth + 1)
    if count > 1:  # what is in it costs as much as it is run
        inner.left = [max(1, here.left[0] // count)]
        here.left[0] -= count
    source = draw(_SOURCE)
    gap = draw(st.sampled_from([0.0, 0.0, 0.5])) if source == "async" else 0.0
    return Map(here.label("m"), _spec(inner), count, source, gap, **terms)


def _line(here: _Here, length: int, *, top: bool = False) -> Line:
    steps: list[Spec] = []
    for _ in range(length):
        step = _grown(here) if top else _spec(here)
        if step not in steps:  # one name twice in a line is an error
            steps.append(step)
    limit = here.draw(st.sampled_from([None, None, 1, 2, 3]))
    return Line(here.label("l"), tuple(steps), limit)


def _grown(here: _Here) -> Spec:
    """Draw a step of the root: most often one with branches."""
    return here.draw(st.sampled_from([_parallel, _parallel, _map, _spec]))(here)
