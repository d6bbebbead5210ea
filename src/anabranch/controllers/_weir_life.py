"""Tell how much slower branches have become, by how many ended at which age.

Just after a raise the short ones end first, and of those that began together all may end at once;
so neither run times nor rates of two limits can be compared before all has settled. How many ended
among those who were as old can: of each age it is counted how long branches were of it, and how
many ended then, as in a table of lives. Were all n times as slow, they would end at n times the
age; the n that explains how many have ended is looked for.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence

import attrs

from anabranch._load import Load

RATIO = 1.25  # of one age to the next
AGES = 48
EDGES = tuple([0.004 * RATIO**place for place in range(AGES)])  # seconds, up to 144
LOG = math.log(RATIO)
MOST = 9  # steps of RATIO that are looked at, either way
NONE = 1e-9  # of branches, or of their seconds, is nothing; what is divided by it stays a number
RARE = 2.0  # of hazard summed over ages: one of seven is left
KNOWN = 4  # of those that were counted: the age that so few of them reach is known, too
STEEP = 0.4  # the least that a change of speed must change what is expected, by its logarithm
LUCK = 0.3  # over the number of those seen before, of the variance: they may be of one kind only


@attrs.frozen
class Life:
    """Count for each age how many ended at it, and seconds that branches were of it."""

    ended: tuple[float, ...] = (0.0,) * AGES
    spent: tuple[float, ...] = (0.0,) * AGES
    count: float = 0.0


def lived(life: Life, now: Load, dt: float, keep: float = 1.0) -> Life:
    """Return the table with one more sample of ``dt`` seconds; what was counted before fades."""
    ended = [each * keep for each in life.ended]
    spent = [each * keep for each in life.spent]
    if now.latencies:
        weight = now.finished / len(now.latencies)
        for each in now.latencies:
            ended[max(0, bisect(EDGES, each) - 1)] += weight
        # One ended at any moment of the sample: so much of it lies within, on average.
        begun = [each * each / (2 * dt) if each < dt else each - dt / 2 for each in now.latencies]
        _spend(spent, now.latencies, weight)
        _spend(spent, begun, -weight)
    if now.ages:
        weight = now.in_use / len(now.ages)
        _spend(spent, now.ages, weight)
        _spend(spent, [each - dt for each in now.ages if each > dt], -weight)
    spent = [max(0.0, each) for each in spent]
    count = now.finished if now.latencies else 0.0  # of others it is not known when they ended
    return Life(tuple(ended), tuple(spent), life.count * keep + count)


def _spend(spent: list[float], ages: Sequence[float], weight: float) -> None:
    """Add the seconds that branches spent at each age until they were as old as these."""
    ages = sorted(ages)
    left, place, lower = len(ages), 0, 0.0
    while left:
        upper = EDGES[place + 1] if place + 1 < AGES else math.inf
        until = bisect(ages, upper)
        within = ages[len(ages) - left : until]
        spent[place] += weight * (sum(within) - len(within) * lower)
        left = len(ages) - until
        if left:
            spent[place] += weight * left * (upper - lower)
        place, lower = place + 1, upper


def joined(one: Life, two: Life) -> Life:
    """Return what both have counted."""
    return Life(
        tuple([a + b for a, b in zip(one.ended, two.ended, strict=True)]),
        tuple([a + b for a, b in zip(one.spent, two.spent, strict=True)]),
        one.count + two.count,
    )


def slowed(before: Life, after: Life, since: float = math.inf) -> tuple[float, float]:
    """Return the logarithm of how much slower the later ones are, and its variance.

    Args:
        before: of those that are the measure. after: of those that are judged.
        since: for how many seconds the later ones have been slower, if they are: before that they
            were as fast as the others.
    """
    if before.count < 1 or after.count + sum(after.spent) <= 0:
        return 0.0, math.inf
    hazard = _hazard(before)
    seen = max(after.count, 0.5)
    step = 0
    here, vague = _expected(before, hazard, after, 0, since)
    while here <= 0 and after.count >= 1 and step > -MOST:  # none ended so young before
        step -= 1
        here, vague = _expected(before, hazard, after, step, since)
    if here <= 0:
        return 0.0, math.inf
    way = 1 if here > seen else -1
    while True:
        there, _ = _expected(before, hazard, after, step + way, since)
        if there <= 0 or (there > seen) != (here > seen) or abs(step) >= MOST:
            break
        step, here = step + way, there
    steep = STEEP
    rest = 0.0
    if there > 0:
        steep = max(STEEP, way * (math.log(here) - math.log(there)) / LOG)
        rest = min(1.0, max(0.0, way * (math.log(here) - math.log(seen)) / LOG / steep))
    rise = LOG * (step + way * rest)
    return rise, (1 / seen + vague) / steep**2 + LUCK / before.count


def _hazard(life: Life) -> list[float]:
    """Return how many end a second, by age; beyond the oldest that were seen, as many as there.

    It is 0 from the age on that hardly any was seen to reach: one of a kind that is longer, and was
    not among those seen, would otherwise be told from many that are late by nothing.
    """
    last = max(place for place, each in enumerate(life.ended) if each > 0)
    found: list[float] = []
    sum_ = 0.0
    rare = max(RARE, math.log(max(life.count, 1.0) / KNOWN))
    for place, (ended, spent) in enumerate(zip(life.ended, life.spent, strict=True)):
        each = ended / spent if spent > NONE else 0.0
        if place > last and spent <= 0:
            each = found[-1]
        width = EDGES[place] * (RATIO - 1) if place else EDGES[1]
        found.append(each if sum_ < rare else 0.0)
        sum_ += each * width
    return found


def _expected(
    before: Life, hazard: list[float], after: Life, step: int, since: float
) -> tuple[float, float]:
    """Return how many would have ended at a speed, and the relative variance of that."""
    total = square = 0.0
    pace = RATIO**-step
    for place, spent in enumerate(after.spent):
        if spent <= 0:
            continue
        source = min(AGES - 1, max(0, place - step))
        if EDGES[place] > since:
            source = max(0, bisect(EDGES, EDGES[place] - since + since * pace) - 1)
        part = spent * hazard[source]
        total += part
        square += part * part / max(before.ended[source], 1.0)
    if total < NONE:
        return 0.0, math.inf
    return total * pace, square / total**2
