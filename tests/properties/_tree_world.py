"""Keep a second account of a tree of steps: which places were opened, who ran in them, and how."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeAlias

import attrs

from anabranch._runtime import Runtime
from anabranch.pipeline import StepResult
from tests.properties import _step_trees as t

PLACE: ContextVar[Place | None] = ContextVar("place", default=None)
MARK: ContextVar[object] = ContextVar("mark", default=None)


class BoomError(Exception):
    """The only error that a tree raises."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.leaf.label)
        self.life = life


@attrs.frozen
class Said:
    """Be what a step returns: its words depend on what it was given."""

    words: str
    life: Life | None = attrs.field(default=None, eq=False)


@attrs.define(eq=False, repr=False)
class Life:
    """Keep what one call of a leaf's function knows of itself."""

    leaf: t.Leaf
    place: Place
    started: int
    ended: int | None = None
    end: str = ""  # "returned", "raised" or "cancelled"
    error: BaseException | None = None

    def last(self) -> int:
        """Return when it ended."""
        return self.ended or 0


@attrs.define(eq=False, repr=False)
class Place:
    """Keep one run of a node with steps in it; the root is one too."""

    spec: Any
    up: Place | None
    path: str
    opened_at: float
    keys: dict[Any, float]  # its limits, and how much they lend
    marks: list[str] = attrs.field(factory=list)  # what its steps left in its context
    mark: object = None  # the context variable when it was opened
    children: list[Child] = attrs.field(factory=list)
    running: int = 0
    open: bool = True
    result: StepResult[Any] | None = None

    @property
    def is_line(self) -> bool:
        return isinstance(self.spec, t.Line)

    @property
    def is_branch(self) -> bool:
        return self.up is not None and not self.up.is_line

    @property
    def key(self) -> str:
        """Its key among its siblings, if it is a branch."""
        assert self.up is not None
        return self.path[len(self.up.path) : -1]

    def trail(self) -> list[str]:
        """Return all that its context holds."""
        if self.up is None:
            return self.marks
        return self.up.trail() + (self.marks if self.is_branch else [])

    def upwards(self) -> Iterator[Place]:
        place: Place | None = self
        while place is not None:
            yield place
            place = place.up

    def last(self) -> int:
        """Return when the last of all that ran in it ended."""
        return max((each.last() for each in self.children), default=0)


Child: TypeAlias = Life | Place


@attrs.define(eq=False, repr=False)
class World:
    """Keep the life of one tree; what is wrong is noted, not raised: errors are data there."""

    tree: t.Tree
    runtime: Runtime
    clock: Callable[[], float]
    pool: list[Any]
    count: Iterator[int] = attrs.field(factory=itertools.count)
    faults: list[str] = attrs.field(factory=list)
    places: list[Place] = attrs.field(factory=list)
    lives: list[Life] = attrs.field(factory=list)
    active: dict[Life, None] = attrs.field(factory=dict)
    lent: Counter[Any] = attrs.field(factory=Counter)  # by limit and branch
    cancelled_at: float | None = None
    _told_late: float = 0.0
    serial_swallowed: bool = False  # a step that is no branch kept a cancellation to itself
    over: bool = False

    def claim(self, holds: bool, says: str) -> None:
        if not holds:
            self.faults.append(f"at {self.clock():g} s: {says}")

    def cancelled_natively(self) -> None:
        """Allow for asyncio's own cancel: one task is told, and the rest when that one ends."""
        after = [each.after for each in t.parts(self.tree.root) if isinstance(each, t.Leaf)]
        self._told_late = max(after) * t.depth_of(self.tree.root)

    def root(self) -> Place:
        """Open the place of the pipeline itself."""
        handed = self.tree.handed
        place = Place(self.tree.root, None, "", self.clock(), {})
        if handed is not None:
            place.keys = {("pool", handed): 0}
        elif self.tree.root.limit is not None:
            place.keys = {("line", place): self.tree.root.limit}
        self.places.append(place)
        return place

    def open(self, spec: Any, path: str) -> Place:
        """Note that a node with steps in it is run, and see whether it may."""
        up = PLACE.get()
        assert up is not None
        place = Place(spec, up, path, self.clock(), {}, mark=MARK.get())
        self._set_limits(place)
        if up.is_line and place.is_line:
            place.marks = up.marks  # steps share a context
        self.places.append(place)
        up.children.append(place)
        if place.is_branch:
            self._branch_starts(up, f"branch {path}")
        self._lend(place, 1)
        return place

    def _lend(self, place: Place, count: int) -> None:
        """Note that a step's limits are lent to it by the branch that holds them, if one does."""
        if not place.is_line:
            for key, branch, _ in _tokens(place):
                if key in place.keys:
                    self.lent[key, branch] += count

    def _set_limits(self, place: Place) -> None:
        spec, keys = place.spec, place.keys
        if place.is_line:
            if spec.limit is not None:
                keys[("line", place)] = spec.limit
            return
        if spec.limit.how in ("int", "config"):
            keys[("own", place)] = spec.limit.n
        elif spec.limit.how == "pool":
            keys[("pool", spec.limit.n)] = 0
        for above in place.upwards():
            if above.is_line:
                keys.update(above.keys)

    def close(self, place: Place) -> None:
        """Note that a node has ended."""
        place.open = False
        if place.is_branch:
            assert place.up is not None
            place.up.running -= 1
        if place.result is not None:  # else what it was lent need not come back
            self._lend(place, -1)
        self.claim(not self._runs_in(place), f"{place.path} ended, and something runs in it")

    def _runs_in(self, place: Place) -> bool:
        return any(place in life.place.upwards() for life in self.active)

    def begin(self, leaf: t.Leaf) -> Life:
        """Note that a leaf's function is called, and see whether it may be."""
        place = PLACE.get()
        assert place is not None
        life = Life(leaf, place, next(self.count))
        place.children.append(life)
        self.lives.append(life)
        self.active[life] = None
        if place.is_line:
            self._in_time(place, leaf.label)
        else:
            self._branch_starts(place, leaf.label)
        self._check_limits(life)
        return life

    def end(self, life: Life, how: str, error: BaseException | None = None) -> None:
        """Note how a call ended."""
        life.ended, life.end, life.error = next(self.count), how, error
        del self.active[life]
        if not life.place.is_line:
            life.place.running -= 1

    def _branch_starts(self, place: Place, what: str) -> None:
        place.running += 1
        most = place.keys.get(("own", place), place.running)
        running = self._at_work(place) if t.may_knot(self.tree) else place.running
        self.claim(running <= most, f"{what} runs as the {running}th of {most}")
        self.claim(MARK.get() is place.mark, f"{what} sees a context variable of another's")
        self._in_time(place, what)

    def _at_work(self, place: Place) -> int:
        """Count the branches in which something runs: those in a knot may let their tokens go."""
        return len(
            {
                branch
                for life in self.active
                for branch in (life, *life.place.upwards())
                if (branch.place if isinstance(branch, Life) else branch.up) is place
            }
        )

    def _in_time(self, place: Place, what: str) -> None:
        now = self.clock()
        self.claim(not self.over, f"{what} starts, and the run is over")
        late = self.cancelled_at is not None and now > self.cancelled_at + self._told_late
        self.claim(not late, f"{what} starts, and all was cancelled from outside before")
        for each in place.upwards():
            timeout = self.tree.timeout if each.up is None else getattr(each.spec, "timeout", None)
            ends = now if timeout is None else each.opened_at + timeout
            self.claim(now <= ends, f"{what} starts, and {each.spec.label} timed out at {ends:g}")

    def _check_limits(self, life: Life) -> None:
        """See that no limit is passed by those who hold its tokens, not counting lenders."""
        own = {} if life.place.is_line else life.place.keys
        holders: dict[Any, set[Child]] = {}
        totals: dict[Any, float] = {}
        for each in self.active:
            for key, branch, total in _tokens(each):
                if self.lent[key, branch]:
                    continue
                holders.setdefault(key, set()).add(branch)
                totals[key] = total
        for key, branches in holders.items():
            total = totals[key]
            if key[0] == "pool":  # these move, so only who has just taken one must fit
                limiter = self.pool[key[1]]
                total = limiter.total_tokens if key in own else len(self.lives)
                away = limiter.borrowed_tokens
                self.claim(key not in own or away <= total, f"{away} of {total} of {key} are away")
            says = f"{life.leaf.label} starts as the {len(branches)}th of {total} of {key[0]}"
            self.claim(len(branches) <= total, says)


def _tokens(child: Child) -> Iterator[tuple[Any, Child, float]]:
    """Go through the tokens that a call runs with: of each limit, the nearest branch's."""
    seen = set()
    branch: Child = child
    above = child.place if isinstance(child, Life) else child.up
    for place in above.upwards() if above is not None else ():
        if not place.is_line:
            for key, total in place.keys.items():
                if key not in seen:
                    seen.add(key)
                    yield key, branch, total
        branch = place


def gist(value: Any) -> Any:
    """Boil what a step got or gave down to what the model knows too."""
    match value:
        case Said(words=words):
            return words
        case StepResult():
            return ("bad", value.name)
        case dict():
            return tuple((key, gist(each)) for key, each in value.items())
        case list():
            return tuple(map(gist, value))
    return value


def spoken(label: str, data: Any) -> str:
    """Return the words of a leaf that is given what boils down to ``data``."""
    return f"{label}<{zlib.crc32(repr(data).encode()):x}>"


def item_words(label: str, source: str, number: int, data: Any) -> str:
    """Return the words of an item of a map."""
    return f"{label}.{number}" if source == "list" else spoken(f"{label}.{number}", data)
