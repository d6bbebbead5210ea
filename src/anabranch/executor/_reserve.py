"""Count scripts that have just started as load, by what such scripts were seen to take.

Two samples with more scripts in the second tell what one of them takes; until anything has been
told, one takes a whole core. It is counted until a sample shows it: one that was taken half a
second after its start, for CPU is a mean over that time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SEEN_S = 0.5
LEAST_PERCENT = 1.0  # of CPU: a script that has taken nothing yet may begin to
MIXED = 0.5  # how much of what was last seen goes into what is believed


class Reserve:
    """Keep what has started and what it is thought to take; not for two threads at once."""

    def __init__(self) -> None:
        self._share: float | None = None  # percent of CPU that one takes
        self._weight = 0.0  # GB that one takes
        self._young: dict[object, float] = {}  # those that no sample has shown, since when
        self._running: set[object] = set()
        self._cores = 1.0
        self._before: tuple[int, Any, Any] | None = None

    def start(self, now: float) -> object:
        """Count a script that starts now."""
        token = object()
        self._young[token] = now
        self._running.add(token)
        return token

    def end(self, token: object) -> None:
        """Count it no more."""
        self._young.pop(token, None)
        self._running.discard(token)

    def seen(self, at: float, stats: Mapping[str, Any]) -> None:
        """Learn from a sample that was taken at ``at``."""
        self._young = {each: since for each, since in self._young.items() if at - since < SEEN_S}
        self._cores = stats["cpu_count"] or self._cores
        old = len(self._running) - len(self._young)
        cpu, memory = stats["cpu_percent"], stats["memory_available_gb"]
        if self._before is not None:
            count, cpu_before, memory_before = self._before
            if old > count and cpu is not None and cpu_before is not None:
                share = (cpu - cpu_before) / (old - count)
                self._share = _mixed(self._share, max(LEAST_PERCENT, share))
            if old > count and memory is not None and memory_before is not None:
                self._weight = _mixed(
                    self._weight, max(0.0, (memory_before - memory) / (old - count))
                )
        self._before = (old, cpu, memory)

    def held(self) -> tuple[float, float]:
        """Return the percent of CPU and the GB that those take which no sample has shown."""
        count = len(self._young)
        share = 100 / max(1.0, self._cores) if self._share is None else self._share
        return count * share, count * self._weight


def _mixed(believed: float | None, seen: float) -> float:
    return seen if believed is None else (1 - MIXED) * believed + MIXED * seen
