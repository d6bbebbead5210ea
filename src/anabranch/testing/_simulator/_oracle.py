"""Look for the best fixed limit of each phase, by trying: what a patient person would have found.

Limits are tried in steps of a factor of two, then between those around each phase's best one.
Where more is lost than won in every phase, larger ones are not tried: they only lose more.
A phase's goodput is of its own time, in a run that had that limit from the beginning.
Limits at which memory kills are taken only where each does: nobody would choose one, and a law must
not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import attrs

from anabranch.testing._simulator._words import Scenario
from anabranch.testing._simulator._world import World

Worth = tuple[bool, float]  # whether memory has killed nobody, and the goodput


@attrs.frozen
class Oracle:
    """Keep the best fixed limit of each phase, its goodput, and the goodput of each second."""

    limits: tuple[int, ...]
    goodputs: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def goodput(self) -> float:
        """Return what the best limits reach together; a phase counts at least 0."""
        return sum(self.goodputs)


def spans_of(scenario: Scenario) -> tuple[tuple[int, int], ...]:
    """Return from which second to which each phase goes."""
    spans, begin = [], 0.0
    for phase in scenario.phases:
        spans.append((round(begin), round(begin + phase.seconds)))
        begin += phase.seconds
    return tuple(spans)


@lru_cache(maxsize=2048)
def oracle_of(scenario: Scenario, seed: int) -> Oracle:
    """Return the oracle; found once for a scenario and a seed."""
    spans = spans_of(scenario)
    tried: dict[int, World] = {}

    def worths(limit: int) -> list[Worth]:
        if limit not in tried:
            tried[limit] = World(scenario, seed, limit)
            tried[limit].run()
        world = tried[limit]
        return [
            (not any(world.killed[begin:end]), sum(world.good[begin:end])) for begin, end in spans
        ]

    limit = 1
    while max(goodput for _, goodput in worths(limit)) >= 0 and limit < scenario.ceiling:
        limit = min(2 * limit, scenario.ceiling)
    for place in range(len(spans)):
        _refine(tried, scenario.ceiling, lambda limit, place=place: worths(limit)[place])  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    best = [
        max(tried, key=lambda limit: (worths(limit)[place], limit)) for place in range(len(spans))
    ]
    found = [worths(limit)[place][1] for place, limit in enumerate(best)]
    series = [
        value
        for limit, (begin, end) in zip(best, spans, strict=True)
        for value in tried[limit].good[begin:end]
    ]
    return Oracle(tuple(best), tuple(max(0.0, each) for each in found), tuple(series))


def _refine(tried: dict[int, World], ceiling: int, worth: Callable[[int], Worth]) -> None:
    """Try limits around the best one, until its neighbours are within a twelfth of it."""
    while True:
        best = max(tried, key=worth)
        known = sorted(tried)
        place = known.index(best)
        below = known[place - 1] if place else best
        above = known[place + 1] if place + 1 < len(known) else best
        new = [
            middle
            for middle, gap in (
                ((below + best) // 2, best - below),
                ((best + above + 1) // 2, above - best),
            )
            if gap > max(1, best / 12) and middle not in tried and middle <= ceiling
        ]
        if not new:
            return
        for limit in new:
            worth(limit)
