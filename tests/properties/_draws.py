"""Draw programs: trees to a depth of 4, kept small by an allowance that all levels share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import strategies as st

from tests.properties import _programs as p

Draw = Callable[[st.SearchStrategy[Any]], Any]

DEPTH = 4
MS = 1 / 512  # about two milliseconds, and exact

_SECONDS = st.sampled_from([0.0, MS, 0.5, 0.5, 1.0, 1.5, 2.0])
_TIMEOUT = st.sampled_from([None, None, None, None, 0.5, 1.0, 1.5, 3 * MS])
_AT = st.sampled_from([0.0, MS, 0.25, 0.5, 1.0, 1.5, 2.0, 3.5])
_GLOB = st.sampled_from(["*", "a*", "b*", "?1", "**"])
_PRIORITY = st.sampled_from([0, 0, 0, 1, 2, -1])
_HOW = ["leaves", "leaves", "reads", "reads", "dawdles", "run_all", "run_bare"]
_LETTER = st.sampled_from("ab")
_LIMIT = st.sampled_from([1, 1, 2, 2, 3, 4, 5])
_COPIES = st.sampled_from([1, 1, 2, 4, 7])
_YES = st.booleans()
_TENTH = st.sampled_from([False] * 9 + [True])
_FEW = st.sampled_from([0, 1, 1, 1, 2, 3])

_SIMPLE = ["sleep", "sleep", "checkpoints", "hold", "fail", "stubborn", "untidy", "mark"]
_ACTS = ["cancel", "resize", "pause", "submit", "within"]
_LEAF = st.sampled_from([*_SIMPLE, *_SIMPLE, *_ACTS])
_TWIG = st.sampled_from([*_SIMPLE, *_ACTS, *["nest"] * 5, "children", "children"])
_PLAIN = st.sampled_from([(), (p.Mark(),), (p.Fail(),), (p.Hold(MS),), (p.Hold(4 * MS), p.Fail())])


@attrs.define
class _Here:
    """Know where in the tree something is drawn."""

    draw: Draw
    pool: int
    left: list[int]  # how many branches may still be drawn, shared by all levels
    depth: int = 0

    def spend(self, count: int) -> bool:
        """Take from the allowance; False when it does not suffice."""
        if self.left[0] < count:
            return False
        self.left[0] -= count
        return True


@st.composite
def programs(draw: Draw) -> p.Program:
    """Draw a program with its schedule."""
    pool = tuple(draw(_LIMIT) for _ in range(draw(st.sampled_from([1, 1, 2, 3]))))
    which = st.integers(0, len(pool) - 1)
    here = _Here(draw, len(pool), [draw(st.sampled_from([4, 12, 30]))])
    moves = st.builds(p.Move, _AT, which, st.integers(0, 5))
    neighbours = st.builds(p.Neighbour, _AT, which, _SECONDS)
    end = st.builds(p.End, _AT, st.sampled_from(["scope", "deadline", "task"]))
    return p.Program(
        seed=draw(st.integers(0, 2**16)),
        root=_group(here),
        pool=pool,
        moves=tuple(draw(st.lists(moves, max_size=3))) if draw(_YES) else (),
        neighbours=tuple(draw(st.lists(neighbours, max_size=2))) if draw(_YES) else (),
        end=draw(end) if draw(st.sampled_from([True, False, False])) else None,
    )


def _group(here: _Here) -> p.Group:
    draw = here.draw
    limits = _limits(here)
    inner = attrs.evolve(here, depth=here.depth + 1)
    how = draw(st.sampled_from(_HOW))
    alone = how.startswith("run")
    jobs = tuple(_spec(inner, alone=alone) for _ in range(draw(st.integers(1, 4))))
    feeds = 0 if alone else draw(st.sampled_from([0, 0, 0, 1, 1, 2]))
    return p.Group(
        limits=limits,
        jobs=jobs,
        feeds=tuple(_feed(inner) for _ in range(feeds)),
        timeout=draw(_TIMEOUT),
        how=how,
        block=_ops(inner) if not alone else (),
    )


def _feed(here: _Here) -> p.Feed:
    return p.Feed(
        tuple(_spec(here) for _ in range(here.draw(st.integers(1, 3)))),
        here.draw(st.sampled_from([None, None, 0.0, 0.5])),
        here.draw(_TENTH),
    )


def _limits(here: _Here) -> tuple[int, ...]:
    """Draw one limit or two; those of the pool may be nested in any order."""
    draw = here.draw
    drawn = draw(st.sampled_from([(1,), (-1,), (-1,), (1, -1), (-1, 1), (-1, -1)]))
    numbers = set(range(here.pool))
    shared: list[int] = []
    if any(kind < 0 for kind in drawn):
        chosen = draw(
            st.lists(st.sampled_from(sorted(numbers)), min_size=1, max_size=2, unique=True)
        )
        shared = chosen[: sum(kind < 0 for kind in drawn)]
    limits: list[int] = []
    for kind in drawn:
        if kind > 0:
            limits.append(draw(_LIMIT))
        elif shared:
            limits.append(-1 - shared.pop())
    return tuple(limits) or (draw(_LIMIT),)


def _spec(here: _Here, *, alone: bool = False) -> p.Spec:
    draw = here.draw
    plain = not alone and draw(_TENTH)
    ops = draw(_PLAIN) if plain else _ops(here)
    leaf = not any(isinstance(op, p.Nest | p.Children | p.Submit | p.Within) for op in ops)
    copies = draw(_COPIES if leaf else st.sampled_from([1, 1, 2, 3]))
    if copies > 1 and not here.spend(copies * (1 if leaf else 4)):
        copies = 1
    return p.Spec(
        ops=ops,
        letter=draw(_LETTER),
        priority=0 if alone else draw(_PRIORITY),
        timeout=draw(_TIMEOUT),
        plain=plain,
        copies=copies,
    )


def _ops(here: _Here) -> tuple[p.Op, ...]:
    return tuple(_op(here) for _ in range(here.draw(_FEW)))


def _op(here: _Here) -> p.Op:
    deeper = here.depth < DEPTH and here.left[0] > 0
    return _MAKE[here.draw(_TWIG if deeper else _LEAF)](here)


def _nest(here: _Here) -> p.Op:
    return p.Nest(_group(here)) if here.spend(2) else p.Sleep(0.5)


def _children(here: _Here) -> p.Op:
    if not here.spend(4):
        return p.Sleep(1.0)
    return p.Children(tuple(_group(here) for _ in range(here.draw(st.integers(1, 3)))))


def _within(here: _Here) -> p.Op:
    seconds = here.draw(st.sampled_from([MS, 0.5, 1.0, 1.5]))
    return p.Within(seconds, _ops(here) if here.spend(1) else (p.Sleep(1.0),))


def _submit(here: _Here) -> p.Op:
    return p.Submit(_spec(here)) if here.spend(1) else p.Checkpoints(1)


_MAKE: dict[str, Callable[[_Here], p.Op]] = {
    "sleep": lambda here: p.Sleep(here.draw(_SECONDS)),
    "checkpoints": lambda here: p.Checkpoints(here.draw(st.integers(1, 4))),
    "hold": lambda here: p.Hold(here.draw(st.sampled_from([MS, 4 * MS, 0.5]))),
    "fail": lambda _: p.Fail(),
    "stubborn": lambda here: p.Stubborn(here.draw(_SECONDS), here.draw(_SECONDS)),
    "untidy": lambda here: p.Untidy(here.draw(_SECONDS)),
    "mark": lambda _: p.Mark(),
    "nest": _nest,
    "children": _children,
    "within": _within,
    "submit": _submit,
    "cancel": lambda here: p.Cancel(here.draw(_GLOB), here.draw(st.sampled_from([0, 0, 0, 1]))),
    "resize": lambda here: p.Resize(here.draw(_LIMIT)),
    "pause": lambda here: p.Pause(here.draw(st.sampled_from([0.5, 1.0])), here.draw(_LIMIT)),
}
