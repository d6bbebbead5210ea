"""Serve many at once: cores and a downstream share what they can do among those inside.

Between two events all inside get on equally fast, so one number, how far anybody has come since
the beginning, tells when each is done; that makes an event cost a heap's push or pop and no more.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush

from anabranch.testing._simulator._branches import Branch
from anabranch.testing._simulator._words import Downstream


class Sharing:
    """Let those inside get on at one pace; ``due`` is when the next one is done."""

    __slots__ = ("_come", "_pace", "_since", "_waiting", "count", "due")

    def __init__(self) -> None:
        self.due = math.inf
        self.count = 0
        self._waiting: list[tuple[float, int, Branch]] = []
        self._come = 0.0
        self._pace = 0.0
        self._since = 0.0

    def add(self, now: float, demand: float, branch: Branch) -> None:
        """Let one in; a new pace has to be set next."""
        self._come += (now - self._since) * self._pace
        self._since = now
        self.count += 1
        branch.place = self
        heappush(self._waiting, (self._come + demand, branch.index, branch))

    def take(self) -> Branch:
        """Let the one out who is done; a new pace has to be set next."""
        self._since = self.due
        self._come, _, branch = heappop(self._waiting)
        self.count -= 1
        branch.place = None
        return branch

    def drop(self, branch: Branch) -> None:
        """Let out one who is not done; a new pace has to be set next."""
        self.count -= 1
        branch.place = None

    def pace(self, now: float, pace: float) -> None:
        """Set how fast each of them gets on from now."""
        self._come += (now - self._since) * self._pace
        self._since = now
        self._pace = pace
        waiting = self._waiting
        while waiting and waiting[0][2].place is not self:
            heappop(waiting)
        if waiting and pace > 0:
            self.due = now + max(0.0, waiting[0][0] - self._come) / pace
        else:
            self.due = math.inf


class Cores:
    """Share cores with the neighbours, thread by thread; more threads than cores cost switching."""

    def __init__(self, cores: float, switching: float) -> None:
        self.sharing = Sharing()
        self.threads = 0.0  # the neighbours'
        self.slow = 1.0  # by a memory that thrashes
        self.busy = 0.0  # core seconds until now
        self.pressed = 0.0  # seconds in which somebody waited for a core
        self._cores = cores
        self._switching = switching
        self._since = 0.0
        self._using = 0.0
        self._pressing = 0.0

    def repace(self, now: float) -> None:
        """Set the pace anew after a change, and add up what was used before it."""
        gone = now - self._since
        self.busy += gone * self._using
        self.pressed += gone * self._pressing
        self._since = now
        threads = self.sharing.count + self.threads
        crowd = threads / self._cores
        if crowd > 1:
            self._using, self._pressing = self._cores, 1.0
            pace = self.slow / (crowd * (1 + self._switching * (crowd - 1)))
        else:
            self._using, self._pressing = threads, 0.0
            pace = self.slow
        self.sharing.pace(now, pace)

    @property
    def crowd(self) -> float:
        """Return how many threads there are for each core."""
        return (self.sharing.count + self.threads) / self._cores


class Server:
    """Serve calls at full speed up to a knee, more of them worse, and refuse beyond a queue.

    ``knee``, ``speed`` and ``out``, for an outage, may be set; a new pace has to be set next.
    """

    def __init__(self, downstream: Downstream) -> None:
        self.sharing = Sharing()
        self.speed = 1.0
        self.knee = downstream.knee
        self.out = False
        self.says = downstream.says
        self.refusal = downstream.refusal
        self._queue = math.inf if downstream.queue is None else downstream.queue
        self._loss = downstream.loss

    @property
    def is_full(self) -> bool:
        """Return whether the next call finds no room."""
        return self.sharing.count >= self.knee + self._queue

    def repace(self, now: float) -> None:
        """Set the pace anew after a change."""
        crowd = self.sharing.count / self.knee
        pace = self.speed
        if crowd > 1:
            pace /= crowd * (1 + self._loss * (crowd - 1))
        self.sharing.pace(now, pace)
