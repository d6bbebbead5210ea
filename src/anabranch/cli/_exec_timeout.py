"""Limit how long a job runs: for so many seconds, or for a share of what jobs usually take.

The share is of the median run time of the jobs that succeeded so far, once there are three; jobs
that run then already are limited too.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any, Final

import attrs

from anabranch._host import Host
from anabranch.cli._exec_terms import Amount
from anabranch.lanes._script import Finished

FEWEST: Final = 3
MOST: Final = 10_000  # run times that are kept


@attrs.define(eq=False)
class Limited:
    """A job that runs; ``ended`` is how it ended where its time was up."""

    began_at: float
    scope: Any
    ended: Finished | None = None


class Patience:
    """Say how long jobs may run; ``fixed`` is in seconds, None where it is no fixed time."""

    def __init__(self, timeout: Amount | None) -> None:
        self.fixed = timeout.number if timeout is not None and not timeout.percent else None
        self._share = timeout if timeout is not None and timeout.percent else None
        self._times: list[float] = []
        self._running: set[Limited] = set()

    @asynccontextmanager
    async def limits(self, host: Host) -> AsyncIterator[Limited]:
        """Limit the block, as far as the time is known."""
        limited = Limited(host.clock(), host.runtime.CancelScope())
        if self._share is None:
            yield limited
            return
        limited.scope.deadline = limited.began_at + self._limit()
        self._running.add(limited)
        try:
            with limited.scope:
                yield limited
        finally:
            self._running.discard(limited)
        ran = host.clock() - limited.began_at
        if limited.scope.cancelled_caught:
            words = f"timed out after {ran:.3g} s (--timeout {self._share.number:g}% of the median)"
            limited.ended = Finished(kind="timeout", duration_s=ran, error=words)

    def succeeded(self, ran: float) -> None:
        """Learn from the run time of a job, in seconds."""
        if self._share is None:
            return
        insort(self._times, ran)
        if len(self._times) > MOST:
            del self._times[::2]
        limit = self._limit()
        for limited in self._running:
            limited.scope.deadline = limited.began_at + limit

    def _limit(self) -> float:
        if self._share is None or len(self._times) < FEWEST:
            return math.inf
        return self._share.of(median(self._times))
