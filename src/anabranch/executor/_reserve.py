"""Count scripts that have just started as load, by what such scripts were seen to take.

Two samples with more scripts in one than in the other tell what a script takes; until anything has
been told, it takes a whole core. It is counted until a sample shows it: one that was taken half a
second after its start, for CPU is a mean over that time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SEEN_S = 0.5
LEAST_PERCENT = 1.0  # of CPU: a script that has taken nothing yet may begin to
MIXED = 0.5  # how much of what was last seen goes into what is believed


class Reserve:
    """Keep what has started and what it is thought to take; not for two threads at once."""

    def __init__(self) -> None:
        self._share: float | None = None  # percent of CPU that one takes
        self._weight: float | None = None  # GB that one takes
        self._running: dict[object, float] = {}  # each with when it began
        self._seen_at = self._ended_at = -math.inf
        self._cores = 1.0
        self._before: tuple[int, Any, Any] | None = None

    def start(self, now: float) -> object:
        """Count a script that starts now."""
        token = object()
        self._running[token] = now
        return token

    def end(self, token: object, now: float) -> None:
        """Count it no more."""
        if self._running.pop(token, None) is not None:
            self._ended_at = now

    def seen(self, at: float, stats: Mapping[str, Any]) -> None:
        """Learn from a sample that was taken at ``at``, if it shows all that runs and no more."""
        self._cores = stats["cpu_count"] or self._cores
        if at <= self._seen_at or at - self._ended_at < SEEN_S or self._unseen(at):
            return
        self._seen_at = at
        count, cpu, memory = len(self._running), stats["cpu_percent"], stats["memory_available_gb"]
        before, self._before = self._before, (count, cpu, memory)
        if before is None or before[0] == count:
            return
        more = count - before[0]
        if cpu is not None and before[1] is not None:
            self._share = _mixed(self._share, max(LEAST_PERCENT, (cpu - before[1]) / more))
        if memory is not None and before[2] is not None:
            self._weight = _mixed(self._weight, max(0.0, (before[2] - memory) / more))

    def held(self, at: float) -> tuple[float, float]:
        """Return the percent of CPU and the GB of those that a sample of ``at`` does not show."""
        count = len(self._unseen(at))
        share = 100 / max(1.0, self._cores) if self._share is None else self._share
        return count * share, count * (self._weight or 0.0)

    def _unseen(self, at: float) -> list[object]:
        return [each for each, since in self._running.items() if at - since < SEEN_S]


def _mixed(believed: float | None, seen: float) -> float:
    return seen if believed is None else (1 - MIXED) * believed + MIXED * seen
