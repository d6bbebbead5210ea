"""Describe a program for the scheduler: a tree of branches, and what befalls it meanwhile.

Every value prints as the expression that makes it, so that a failure can be pasted into
test_regressions.py. Times are binary fractions: sums of them are exact, and ties are real ties.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import attrs

T = TypeVar("T")

DAWDLES = (0.5, 1.0, 0.5)  # seconds before the first outcomes are read


def value(cls: type[T]) -> type[T]:
    """Make a frozen value that prints without what is left at its default."""
    frozen = attrs.frozen(cls, repr=False)
    frozen.__repr__ = _call
    return frozen


def _call(self: Any) -> str:
    said, plain = [], True
    for field in attrs.fields(type(self)):
        seen = getattr(self, field.name)
        if field.default is not attrs.NOTHING and seen == field.default:
            plain = False
        else:
            said.append(f"{seen!r}" if plain else f"{field.name}={seen!r}")
    return f"{type(self).__name__}({', '.join(said)})"


@value
class Sleep:
    """Sleep; 0 is one checkpoint."""

    seconds: float


@value
class Checkpoints:
    """Pass that many checkpoints."""

    count: int


@value
class Hold:
    """Hold the loop: the time passes without a checkpoint."""

    seconds: float


@value
class Fail:
    """Raise an error."""


@value
class Stubborn:
    """Sleep; when cancelled, swallow it and work on for ``after`` seconds, shielded."""

    seconds: float
    after: float


@value
class Untidy:
    """Sleep, and raise an error in the ``finally``."""

    seconds: float


@value
class Mark:
    """Set the context variable to a value of one's own."""


@value
class Nest:
    """Open a scheduler, and wait for it."""

    group: Group


@value
class Children:
    """Start child tasks, each of which opens a scheduler; wait for them."""

    groups: tuple[Group, ...]


@value
class Within:
    """Do ``ops`` in a cancel scope with a deadline."""

    seconds: float
    ops: tuple[Op, ...]


@value
class Submit:
    """Submit a further job to the scheduler that runs the branch."""

    job: Spec


@value
class Cancel:
    """Cancel by glob, in one's own scheduler or in one ``up`` the tree."""

    glob: str
    up: int = 0


@value
class Resize:
    """Move the first limiter of one's scheduler."""

    total: int


@value
class Pause:
    """Move the first limiter of one's scheduler to 0, and later to ``total``."""

    seconds: float
    total: int


Op: TypeAlias = (
    Sleep
    | Checkpoints
    | Hold
    | Fail
    | Stubborn
    | Untidy
    | Mark
    | Nest
    | Children
    | Within
    | Submit
    | Cancel
    | Resize
    | Pause
)


@value
class Spec:
    """Describe a job; ``copies`` of it are submitted, under names that begin with ``letter``."""

    ops: tuple[Op, ...] = ()
    letter: str = "a"
    priority: int = 0
    timeout: float | None = None
    plain: bool = False  # a plain function, called where it stands
    copies: int = 1


@value
class Feed:
    """Describe an iterable of jobs; an async one pauses before each."""

    jobs: tuple[Spec, ...]
    pause: float | None = None  # None for a plain iterable
    fails: bool = False  # at its end


@value
class Group:
    """Describe a scheduler and its block.

    A limit is a number, or -1 - n for the n-th limiter of the program's pool.
    ``how``: the block ``reads`` the outcomes, or ``dawdles`` over them, or ``leaves``; or there is
    none, and the jobs go to ``run_all``, with leased scopes or, when ``run_bare``, without.
    """

    limits: tuple[int, ...]
    jobs: tuple[Spec, ...] = ()
    feeds: tuple[Feed, ...] = ()
    timeout: float | None = None
    how: str = "leaves"
    block: tuple[Op, ...] = ()


@value
class Move:
    """Move a limiter of the pool at a time."""

    at: float
    which: int
    total: int


@value
class Neighbour:
    """Somebody else's task: it wants a token of the pool, and keeps it for a while."""

    at: float
    which: int
    seconds: float


@value
class End:
    """Cancel all from outside: by a ``scope``, its ``deadline``, or natively the ``task``."""

    at: float
    how: str


@value
class Program:
    """Describe everything that is drawn; ``seed`` draws the schedule."""

    seed: int
    root: Group
    pool: tuple[int, ...] = (1,)
    moves: tuple[Move, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    end: End | None = None


def longest(program: Program) -> float:
    """Return how many seconds a program may last, were it to run one thing after another."""
    outside = [each.at + each.seconds for each in program.neighbours]
    return _group(program.root) + sum(outside) + restored_at(program.moves)


def restored_at(moves: tuple[Move, ...]) -> float:
    """Return when every limiter of the pool is above 0 for good."""
    return max((move.at for move in moves), default=-0.5) + 0.5


def _group(group: Group) -> float:
    total = sum(map(_spec, group.jobs)) + sum(map(_op, group.block))
    for feed in group.feeds:
        total += sum(_spec(job) + (feed.pause or 0) * job.copies for job in feed.jobs)
    return total + (sum(DAWDLES) if group.how == "dawdles" else 0)


def _spec(spec: Spec) -> float:
    return spec.copies * sum(map(_op, spec.ops))


def _op(op: Op) -> float:
    match op:
        case Sleep(seconds) | Hold(seconds) | Untidy(seconds) | Pause(seconds):
            return seconds
        case Stubborn(seconds, after):
            return seconds + after
        case Nest(group):
            return _group(group)
        case Children(groups):
            return sum(map(_group, groups))
        case Within(_, ops):
            return sum(map(_op, ops))
        case Submit(job):
            return _spec(job)
    return 0.0


def deepest(group: Group) -> int:
    """Return how many schedulers are open within each other at most."""
    inner = [op for spec in _specs(group) for op in _flat(spec.ops)] + list(_flat(group.block))
    groups = [op.group for op in inner if isinstance(op, Nest)]
    groups += [each for op in inner if isinstance(op, Children) for each in op.groups]
    return 1 + max(map(deepest, groups), default=0)


def _specs(group: Group) -> list[Spec]:
    return [*group.jobs, *(job for feed in group.feeds for job in feed.jobs)]


def _flat(ops: tuple[Op, ...]) -> list[Op]:
    flat: list[Op] = []
    for op in ops:
        flat.append(op)
        if isinstance(op, Within):
            flat += _flat(op.ops)
        elif isinstance(op, Submit):
            flat += _flat(op.job.ops)
    return flat
