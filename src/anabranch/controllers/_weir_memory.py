"""Keep what branches weigh within memory: the guard that looks ahead.

What matters is the most that a branch has weighed on average: where all grow at once that is a
grown branch, and where they come and go it is less, which is the credit for seldom being all grown
at once. It is forgotten slowly. A limit is raised at most once in a run time, so that what it will
weigh has been seen before the next raise. And if memory is going to be full soon, whoever fills
it, nothing is started.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load

FULL = 0.9  # from here on machines swap: whatever was learnt, start nothing
FORGOTTEN = 60.0  # seconds after which a weight counts half, or six run times
SMOOTH = 0.6  # seconds over which readings are averaged, by half-life
QUICK, SLOW = 0.25, 1.0  # likewise, of what others use: what lies between them is a trend
LATE = 5.0  # seconds after which half of those who have ended are forgotten
HEAVIER = 1.04
EASED = 0.88  # of those that run are wanted when it is full, or fewer
STEADY = 0.02  # of all memory: a smaller trend is none


@attrs.frozen
class Weight:
    """Remember what branches weigh, bytes.

    Attributes:
        each: of a branch on average, the most of late; 0 while unknown. now: smoothed, at present.
        extra: what it is expected to become more, since branches are heavier than before.
        quick, slow, noise: what others use, averaged; the variance of a reading.
        branches: how many there were, the most of the last seconds: readings are late.
        idle: in use when nothing ran, for when our own are never told (``told``).
    """

    each: float = 0.0
    extra: float = 0.0
    now: float | None = None
    branches: float = 0.0
    quick: float = 0.0
    slow: float = 0.0
    noise: float = 0.0
    idle: float = 0.0
    told: bool = False


@attrs.frozen
class Sight:
    """Say what is seen of one kind of memory, bytes; ``own`` may be unknown."""

    used: float
    total: float
    own: float | None
    share: float  # of total that may be used

    @property
    def full(self) -> float:
        """Share of it in use."""
        return self.used / self.total


def weigh(
    weight: Weight,
    sight: Sight,
    now: Load,
    dt: float,
    run_time: float,
    settled: bool,
) -> Weight:
    """Return what is known after one more sample; ``settled`` if no raise is still to be seen."""
    if sight.own is None and weight.told:
        return weight  # a gap: what was known holds
    if now.in_use == 0 and sight.own is None:
        weight = attrs.evolve(weight, idle=sight.used)
    own = max(0.0, sight.used - weight.idle) if sight.own is None else min(sight.own, sight.used)
    others = sight.used - own
    if sight.own is not None and not weight.told:
        weight = Weight(told=True)  # until now all of it was taken for ours
    if weight.now is None:
        weight = attrs.evolve(weight, now=0.0, quick=others, slow=others)
    wrong = others - weight.quick
    weight = attrs.evolve(
        weight,
        quick=others - wrong * 0.5 ** (dt / QUICK),
        slow=others + (weight.slow - others) * 0.5 ** (dt / SLOW),
        noise=wrong**2 + (weight.noise - wrong**2) * 0.5 ** (dt / 10.0),
        branches=max(now.in_use, weight.branches * 0.5 ** (dt / LATE)),
    )
    if not now.in_use:
        return weight
    share = own / weight.branches
    present = share + ((weight.now or 0.0) - share) * 0.5 ** (dt / SMOOTH)
    kept = weight.each * 0.5 ** (dt / max(FORGOTTEN, 6 * run_time))
    extra = weight.extra * 0.5 ** (dt / max(1.0, run_time / 2))
    if settled and present > HEAVIER * kept > 0:
        # They are heavier than before; those who have just begun have not shown it yet.
        extra = max(extra, 2 * (present - kept))
    if _is_full(sight) and settled:  # so many were too many
        room = sight.share * sight.total - max(weight.quick, weight.slow)
        kept = max(kept, min(room / (0.95 * weight.branches), 1.3 * kept))
    return attrs.evolve(weight, now=present, each=max(kept, present), extra=extra)


def cap(weight: Weight, sight: Sight, now: Load, run_time: float) -> float:
    """Return how many branches fit; infinite while nothing is known."""
    others, soon = max(weight.quick, weight.slow), 0.0
    trend = weight.quick - weight.slow
    if trend > max(STEADY * sight.total, 1.5 * math.sqrt(weight.noise)):
        # An average over a half-life of h is 1.44 h late.
        soon = trend / (1.44 * (SLOW - QUICK)) * min(3.0, max(1.5, run_time / 2))
    most = math.inf
    if weight.each > 0:
        most = (sight.share * sight.total - others - soon) / (weight.each + weight.extra)
    if soon and sight.used + soon > FULL * sight.total:
        most = min(most, now.in_use * 0.5)
    if _is_full(sight) and now.in_use <= now.limit:
        most = min(most, now.in_use * min(EASED, sight.share / sight.full))
    return max(most, 0.0)


def _is_full(sight: Sight) -> bool:
    return sight.full > max(FULL, sight.share + 0.04)
