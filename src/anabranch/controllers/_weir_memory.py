"""Keep what branches will weigh when grown within memory: the guard that looks ahead.

A branch that has just begun weighs little and will weigh more, and once memory is full it is too
late. So the weight of a grown branch is fitted: memory is taken to be that weight times the
branches, each counted by the share of a ramp that it has behind it. Which ramp is unknown, so
several are fitted side by side, and those that explain the samples best say most.
What others take is followed too, and if it grows, so much more is left to them.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load

RAMPS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 35.0)
FULL = 0.92  # from here on machines swap: whatever was fitted, start nothing
CHANGED, SHORTEST, LONGEST = (
    2.0,
    5.0,
    20.0,
)  # seconds after which a sample counts half: weights change
QUICK, SLOW = 0.2, 0.8  # seconds over which others are averaged; what is between them is a trend
STEADY = 0.03  # of all memory: a smaller difference is noise

Fit = tuple[float, float, float]  # sums of x*x, x*y, y*y
Told = tuple[float, float, float]  # of a ramp: what is unexplained, the weight, grown branches


@attrs.frozen
class Weight:
    """Fit the weight of a grown branch.

    Attributes:
        fits: sums of the fit of each ramp. each: bytes of a grown branch; 0 while unknown.
        grown: share of the branches that was grown at once, the most of late.
        surplus: bytes more than the fit explains: heavier branches than before have begun.
        idle: bytes in use when nothing ran, for when our own are not known.
        quick, slow: bytes that others use, averaged; None before the first sample.
    """

    fits: tuple[Fit, ...] = ((0.0, 0.0, 0.0),) * len(RAMPS)
    each: float = 0.0
    grown: float = 0.0
    surplus: float = 0.0
    idle: float = 0.0
    quick: float | None = None
    slow: float = 0.0


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


def weigh(weight: Weight, sight: Sight, now: Load, dt: float, run_time: float) -> Weight:
    """Return the fit with one more sample."""
    in_use, ages = now.in_use, now.ages
    if in_use == 0 and sight.own is None:
        weight = attrs.evolve(weight, idle=sight.used)
    own = _own(weight, sight)
    others = max(0.0, sight.used - own)
    if weight.quick is None:
        weight = attrs.evolve(weight, quick=others, slow=others)
    else:
        weight = attrs.evolve(
            weight,
            quick=others + (weight.quick - others) * 0.5 ** (dt / QUICK),
            slow=others + (weight.slow - others) * 0.5 ** (dt / SLOW),
        )
    if not in_use or dt <= 0:
        return weight
    # Once they have become heavier, what was before says nothing.
    half_life = CHANGED if weight.surplus else min(LONGEST, max(SHORTEST, run_time))
    keep = 0.5 ** (dt / half_life)
    shown = [_shown(ramp, in_use, ages) for ramp in RAMPS]
    surplus = own - _expected(weight, shown, max(ages, default=0.0))
    fits = tuple(
        [
            (a * keep + x * x * dt, b * keep + x * own * dt, c * keep + own * own * dt)
            for (a, b, c), x in zip(weight.fits, shown, strict=True)
        ]
    )
    each, grown = _mixed(fits, shown, max(ages, default=0.0), in_use)
    grown = max(grown, weight.grown * 0.5 ** (dt / 20.0))
    heavier = weight.each > 0 and surplus > 0.08 * own + 0.01 * sight.total
    surplus = surplus if heavier else 0.0
    return attrs.evolve(weight, fits=fits, each=each, grown=grown, surplus=surplus)


def room(weight: Weight, sight: Sight, ahead: float) -> float:
    """Return the bytes that our branches may have together, others growing ``ahead`` seconds."""
    others = weight.quick or 0.0
    trend = others - weight.slow
    if trend > STEADY * sight.total:
        # An average over a half-life of h is 1.44 h late.
        others += trend / (1.44 * (SLOW - QUICK)) * (ahead + 1.44 * QUICK)
    # Who is heavier than ever seen is young, and is taken to have shown half.
    return sight.share * sight.total - others - 2 * weight.surplus


def cap(weight: Weight, sight: Sight, in_use: int, ahead: float) -> float:
    """Return how many branches fit when grown; infinite while nothing is known."""
    most = math.inf
    if weight.each > 0:
        # Seldom are all grown at once; half of that is believed.
        seldom = (1 + 1 / max(weight.grown, 0.3)) / 2
        most = room(weight, sight, ahead) / weight.each * seldom
    if sight.full > max(FULL, sight.share + 0.03):
        most = min(most, in_use * 0.8)
    return max(most, 0.0)


def _own(weight: Weight, sight: Sight) -> float:
    if sight.own is not None:
        return min(sight.own, sight.used)
    return max(0.0, sight.used - weight.idle)


def _expected(weight: Weight, shown: list[float], oldest: float) -> float:
    """Return what the fit so far expects the branches to weigh."""
    told = _told(weight.fits, shown, oldest)
    says = _says(told)
    total = sum(says)
    return sum([say * each * x for say, (_, each, x) in zip(says, told, strict=True)]) / (
        total or 1
    )


def _shown(ramp: float, in_use: int, ages: tuple[float, ...]) -> float:
    """Count branches, each by the share of its weight that it shows after its age."""
    if ramp <= 0 or not ages:
        return float(in_use)
    return sum([min(1.0, age / ramp) for age in ages]) * in_use / len(ages)


def _mixed(
    fits: tuple[Fit, ...], shown: list[float], oldest: float, in_use: int
) -> tuple[float, float]:
    """Return weight and grown share, each ramp having a say by how little it leaves unexplained."""
    told = _told(fits, shown, oldest)
    if not told:
        return 0.0, 0.0
    says = _says(told)
    total = sum(says)
    each = sum([say * weight for say, (_, weight, _) in zip(says, told, strict=True)]) / total
    grown = sum([say * x for say, (_, _, x) in zip(says, told, strict=True)]) / total / in_use
    return each, min(1.0, grown)


def _told(fits: tuple[Fit, ...], shown: list[float], oldest: float) -> list[Told]:
    told: list[Told] = []
    for ramp, (xx, xy, yy), x in zip(RAMPS, fits, shown, strict=True):
        if ramp > 1.3 * oldest and told:
            break  # nobody is old enough to tell
        if xx > 0 and yy > 0:
            told.append((max(0.0, 1 - xy * xy / (xx * yy)), xy / xx, x))
    return told


def _says(told: list[Told]) -> list[float]:
    best = min((error for error, _, _ in told), default=0.0)
    scale = max(best / 2, 0.0005)
    return [math.exp(-min(50.0, (error - best) / scale)) for error, _, _ in told]
