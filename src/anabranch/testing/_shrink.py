"""Shorten a schedule that fails: whatever can be left out is, as long as it fails in that way.

First the disturbance, then orders, by halves as delta debugging does (Zeller and Hildebrandt,
"Simplifying and Isolating Failure-Inducing Input", 2002), then what is left is made simpler:
a whole order becomes one task that goes first, and a disturbance comes earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import attrs

from anabranch.testing._schedule import Schedule

Fails = Callable[[Schedule], bool]

BUDGET = 400  # runs


class _SpentError(AssertionError):
    """Say that the runs are used up."""


def shrink(schedule: Schedule, fails: Fails, budget: int = BUDGET) -> Schedule:
    """Return the shortest schedule that was found to fail.

    Args:
        schedule: one that says its moves. fails: runs a schedule, and tells whether it fails.
        budget: so many runs at most.
    """
    left = [budget]
    best = [schedule]

    def tried(candidate: Schedule) -> bool:
        if not left[0]:
            raise _SpentError
        left[0] -= 1
        if not fails(candidate):
            return False
        best[0] = candidate
        return True

    try:
        before = None
        while before != best[0]:
            before = best[0]
            _without_disturbance(best, tried)
            _fewer_moves(best, tried)
            _simpler_moves(best, tried)
            _sooner(best, tried)
    except _SpentError:
        pass
    return best[0]


def _without_disturbance(best: list[Schedule], tried: Fails) -> None:
    for name in ("cancel", "fail"):
        if best[0].cancel is not None or best[0].fail is not None:
            tried(best[0].disturbed(name, None))


def _fewer_moves(best: list[Schedule], tried: Fails) -> None:
    if best[0].moves and tried(attrs.evolve(best[0], moves={})):
        return
    size = max(1, len(best[0].moves) // 2)
    while best[0].moves:
        for part in _parts(sorted(best[0].moves), size):
            fewer = {at: order for at, order in best[0].moves.items() if at not in part}
            if len(fewer) < len(best[0].moves):
                tried(attrs.evolve(best[0], moves=fewer))
        if size == 1:
            break
        size //= 2


def _parts(numbers: list[int], size: int) -> Iterator[list[int]]:
    # The last first: what happens after the fault is there no longer.
    numbers.reverse()
    while part := numbers[:size]:
        yield part
        numbers = numbers[size:]


def _simpler_moves(best: list[Schedule], tried: Fails) -> None:
    for at in sorted(best[0].moves):
        order = best[0].moves[at]
        for first in range(1, len(order)):
            rest = (n for n in range(len(order)) if n != first)
            simple = (first, *rest)
            if simple == order or tried(attrs.evolve(best[0], moves={**best[0].moves, at: simple})):
                break


def _sooner(best: list[Schedule], tried: Fails) -> None:
    for name in ("cancel", "fail"):
        now = best[0].cancel if name == "cancel" else best[0].fail
        for at in islice(range(now or 0), 100):
            if tried(best[0].disturbed(name, at)):
                break
