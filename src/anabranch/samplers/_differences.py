"""Tell by how much counters have grown lately; whoever asks, and from whichever thread.

A share of time is a difference of counters over an interval. The first reading is therefore
unknown, and never 0. Whoever asks just after another sees the same window, and no sliver of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

import attrs

K = TypeVar("K", bound=Hashable)

WINDOW_S = 0.5  # a kernel counts in hundredths of a second, so less would be mostly noise
SHORTEST_S = 0.05
STALE_S = 5.0  # nobody has asked for so long: what was seen then says nothing of now


@attrs.frozen
class Growth(Generic[K]):
    """Say what grew by how much, in how many seconds."""

    seconds: float
    by: Mapping[K, float]


class Differences(Generic[K]):
    """Keep the counters of the last half second, or of the reading before, if that is older.

    Not for two threads at once: the caller has a lock, which holds from the clock to here.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[K, float]]] = deque()

    def since(self, now: float, counters: Mapping[K, float]) -> Growth[K] | None:
        """Add a reading; return what grew over the window, None while that cannot be told.

        A counter that was not there before is left out, and so is one that has fallen: something
        began to count anew.
        """
        seen = self._seen
        if seen and not 0 <= now - seen[-1][0] <= STALE_S:
            seen.clear()
        self._forget_fallen(counters)
        while len(seen) > 1 and seen[1][0] <= now - WINDOW_S:
            seen.popleft()
        if not seen or now > seen[-1][0]:
            seen.append((now, dict(counters)))
        began, before = seen[0]
        if now - began < SHORTEST_S:
            return None
        return Growth(
            now - began,
            {key: counters[key] - before[key] for key in counters.keys() & before.keys()},
        )

    def _forget_fallen(self, counters: Mapping[K, float]) -> None:
        if not self._seen:
            return
        last = self._seen[-1][1]
        fallen = [key for key, value in counters.items() if value < last.get(key, value)]
        for key in fallen:
            for _, earlier in self._seen:
                earlier.pop(key, None)
