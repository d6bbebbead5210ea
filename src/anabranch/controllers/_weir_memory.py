"""Keep what branches will weigh when grown within memory: the guard that looks ahead.

A branch that has just begun weighs little and will weigh more, and once memory is full it is too
late. So the weight of a grown branch is fitted: memory is taken to be that weight times the
branches, each counted by the share of a ramp that it has behind it. Which ramp is unknown, so
several are fitted side by side, and those that explain the samples best say most.
"""

from __future__ import annotations

import math

import attrs

RAMPS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 35.0)
HALF_LIFE = 8.0  # seconds after which a sample counts half: weights change
FULL = 0.92  # from here on machines swap: whatever was fitted, start fewer

Fit = tuple[float, float, float]  # sums of x*x, x*y, y*y


@attrs.frozen
class Weight:
    """Fit the weight of a grown branch.

    Attributes:
        fits: sums of the fit of each ramp. each: bytes of a grown branch; 0 while unknown.
        grown: share of the branches that was grown at once, the most of late.
        idle: bytes in use before anything ran, for when our own are not known.
    """

    fits: tuple[Fit, ...] = ((0.0, 0.0, 0.0),) * len(RAMPS)
    each: float = 0.0
    grown: float = 0.0
    idle: float | None = None


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


def weigh(weight: Weight, sight: Sight, in_use: int, ages: tuple[float, ...], dt: float) -> Weight:
    """Return the fit with one more sample."""
    idle = sight.used if weight.idle is None or in_use == 0 else min(weight.idle, sight.used)
    weight = attrs.evolve(weight, idle=idle)
    if not in_use or dt <= 0:
        return weight
    own = _own(weight, sight)
    keep = 0.5 ** (dt / HALF_LIFE)
    shown = [_shown(ramp, in_use, ages) for ramp in RAMPS]
    fits = tuple(
        (a * keep + x * x * dt, b * keep + x * own * dt, c * keep + own * own * dt)
        for (a, b, c), x in zip(weight.fits, shown, strict=True)
    )
    oldest = max(ages, default=0.0)
    each, grown = _mixed(fits, shown, oldest, in_use)
    grown = max(grown, 1 - (1 - weight.grown * 0.5 ** (dt / 60.0)))
    return attrs.evolve(weight, fits=fits, each=each, grown=grown)


def room(weight: Weight, sight: Sight) -> float:
    """Return the bytes that our branches may have together."""
    return sight.share * sight.total - max(0.0, sight.used - _own(weight, sight))


def cap(weight: Weight, sight: Sight, in_use: int) -> float:
    """Return how many branches fit when grown; infinite while nothing is known."""
    most = math.inf
    if weight.each > 0:
        # Seldom are all grown at once; half of that is believed.
        most = room(weight, sight) / (weight.each * (1 + weight.grown) / 2)
    if sight.full > FULL:
        most = min(most, in_use * 0.5)
    return max(most, 0.0)


def _own(weight: Weight, sight: Sight) -> float:
    if sight.own is not None:
        return min(sight.own, sight.used)
    return max(0.0, sight.used - (weight.idle or 0.0))


def _shown(ramp: float, in_use: int, ages: tuple[float, ...]) -> float:
    """Count branches, each by the share of its weight that it shows after its age."""
    if ramp <= 0 or not ages:
        return float(in_use)
    return sum([min(1.0, age / ramp) for age in ages]) * in_use / len(ages)


def _mixed(
    fits: tuple[Fit, ...], shown: list[float], oldest: float, in_use: int
) -> tuple[float, float]:
    """Return weight and grown share, each ramp having a say by how little it leaves unexplained."""
    told: list[tuple[float, float, float]] = []
    for ramp, (xx, xy, yy), x in zip(RAMPS, fits, shown, strict=True):
        if ramp > 1.3 * oldest and told:
            break  # nobody is old enough to tell
        if xx > 0 and yy > 0:
            told.append((max(0.0, 1 - xy * xy / (xx * yy)), xy / xx, x / in_use))
    if not told:
        return 0.0, 0.0
    best = min(error for error, _, _ in told)
    scale = max(best, 0.002)
    says = [math.exp(-min(50.0, (error - best) / scale)) for error, _, _ in told]
    total = sum(says)
    each = sum([say * weight for say, (_, weight, _) in zip(says, told, strict=True)]) / total
    grown = sum([say * share for say, (_, _, share) in zip(says, told, strict=True)]) / total
    return each, min(1.0, grown)
