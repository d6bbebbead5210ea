"""Follow a course: a line through points, flat before the first and after the last."""

from __future__ import annotations

from anabranch.testing._simulator._words import Course, Neighbour


def at(course: Course, now: float, default: float) -> float:
    """Return the value of a course; of two points at one time the later one counts from then."""
    if not course:
        return default
    before = course[0]
    for point in course:
        if point[0] > now:
            if before[0] >= point[0] or now <= before[0]:
                return before[1]
            share = (now - before[0]) / (point[0] - before[0])
            return before[1] + share * (point[1] - before[1])
        before = point
    return before[1]


def threads_of(neighbours: tuple[Neighbour, ...], now: float) -> float:
    """Return how many threads the neighbours keep busy."""
    return sum(at(each.threads, now, 0.0) for each in neighbours if _there(each, now))


def memory_of(neighbours: tuple[Neighbour, ...], now: float) -> float:
    """Return which share of the memory the neighbours hold."""
    return sum(at(each.memory, now, 0.0) for each in neighbours if _there(each, now))


def _there(neighbour: Neighbour, now: float) -> bool:
    return neighbour.period is None or now % neighbour.period < neighbour.period / 2
