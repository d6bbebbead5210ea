"""Hold the memory of branches that grow, and say when it is full and who is the heaviest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from anabranch.testing._simulator._branches import Branch

THRASHES: Final = 0.92
SLOWEST: Final = 0.1  # what is left of the speed when it is full


class Pool:
    """Add up what branches weigh; each grows in a line from its onset until it is grown.

    ``due`` is when it is full, if nothing happens before.
    """

    def __init__(self, total: float, others: float, weight: Callable[[Branch], float]) -> None:
        self.total = total
        self.others = others
        self.due = math.inf
        self.pressed = 0.0  # seconds of thrashing, each by how much it slowed
        self._weight = weight
        self._inside: dict[int, Branch] = {}
        self._growing: dict[int, float] = {}  # by how much a second
        self._own = 0.0
        self._slope = 0.0
        self._since = 0.0

    def add(self, now: float, branch: Branch) -> tuple[float, ...]:
        """Let a branch in; return when ``turn`` has to be told of it."""
        work = branch.work
        if not self._weight(branch):
            return ()
        self._inside[branch.index] = branch
        if not work.onset:
            self.turn(now, branch)
        onset = now + work.onset
        times = (onset,) if work.onset else ()
        return (*times, onset + work.ramp) if work.ramp else times

    def turn(self, now: float, branch: Branch) -> None:
        """Let a branch begin to grow, or be grown; nothing if it has gone."""
        if branch.index not in self._inside:
            return
        self._settle(now)
        growth = self._growing.pop(branch.index, None)
        if growth is not None:
            self._slope -= growth
        elif branch.work.ramp:
            self._growing[branch.index] = growth = self._weight(branch) / branch.work.ramp
            self._slope += growth
        else:
            self._own += self._weight(branch)
        self.look(now)

    def drop(self, now: float, branch: Branch) -> None:
        """Free what a branch holds."""
        if self._inside.pop(branch.index, None) is None:
            return
        self._settle(now)
        self._own -= self.size(now, branch)
        self._slope -= self._growing.pop(branch.index, 0.0)
        if not self._inside:  # what rounding has left
            self._own = 0.0
        if not self._growing:
            self._slope = 0.0
        self.look(now)

    def look(self, now: float) -> None:
        """Find out anew when it is full, after a change."""
        self._settle(now)
        room = self.total - self.others - self._own
        if not self._inside:
            self.due = math.inf
        elif room <= 0:
            self.due = now
        else:
            self.due = now + room / self._slope if self._slope > 0 else math.inf

    def size(self, now: float, branch: Branch) -> float:
        """Return what a branch weighs now."""
        age = now - branch.began - branch.work.onset
        ramp = branch.work.ramp
        if ramp:
            return min(1.0, max(0.0, age / ramp)) * self._weight(branch)
        return self._weight(branch) if age >= -1e-9 else 0.0

    def own(self, now: float) -> float:
        """Return what all branches weigh now."""
        return max(0.0, self._own + (now - self._since) * self._slope)

    def used(self, now: float) -> float:
        """Return what is used, by others too."""
        return min(self.total, self.others + self.own(now))

    def heaviest(self, now: float) -> Branch:
        """Return the branch that weighs most; of equal ones the youngest."""
        return max(self._inside.values(), key=lambda each: (self.size(now, each), each.index))

    def speed(self, now: float) -> float:
        """Return what thrashing leaves of the speed."""
        full = self.used(now) / self.total
        return max(SLOWEST, 1 - (1 - SLOWEST) * max(0.0, full - THRASHES) / (1 - THRASHES))

    def _settle(self, now: float) -> None:
        self._own += (now - self._since) * self._slope
        self._since = now
