"""Count what branches under a limiter did since the last sample, at the moment of the sample.

The hot loop is told nothing of it: how many ended stands in the ledger's own record, who runs in
the limiter's list of borrowers, and how many began follows from the two.
Only where ended branches are not kept, or are read meanwhile, is each counted when it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

import attrs

from anabranch._branch import Branch
from anabranch._ledger import Ledger
from anabranch._refusals import Judge, is_refusal
from anabranch._token import Held
from anabranch._work import Status
from anabranch.abc import Limiter
from anabranch.errors import BranchTimedOutError

MOST = 64  # run times and ages that a load has
SLICE = 2048  # branches that are counted before the loop goes round
SWEPT = 1000  # branches of which it is known exactly how many ran at once


@attrs.frozen(kw_only=True)
class Counts:
    """Tell what was counted; the fields are those of a Load."""

    in_use: int = 0
    peak: int = 0
    queued: int = 0
    started: int = 0
    finished: int = 0
    failed: int = 0
    rejected: int = 0
    latencies: tuple[float, ...] = ()
    ages: tuple[float, ...] = ()


class Counting(Protocol):
    """Count for one limiter; what was looked at stays counted until it is committed."""

    async def look(self, now: float, /) -> Counts: ...
    def commit(self) -> None: ...


class Tally:
    """Add up branches that have ended: in number, and their run times, evenly picked."""

    __slots__ = (
        "_skip",
        "_stride",
        "begun",
        "failed",
        "finished",
        "judge",
        "rejected",
        "run_times",
        "spans",
    )

    def __init__(self, judge: Judge | None = None) -> None:
        self.judge = judge
        self.clear()

    def clear(self) -> None:
        """Begin again from nothing."""
        self.begun = self.finished = self.failed = self.rejected = 0
        self.run_times: list[float] = []
        self.spans: list[tuple[float, float]] = []  # from when to when each ran, of the first few
        self._stride, self._skip = 1, 0

    def add(self, branch: Branch) -> None:
        """Add one that has ended; one that was cancelled is neither a success nor a failure."""
        began = branch.started_at
        if began is None:
            return
        self.begun += 1
        if len(self.spans) <= SWEPT:
            self.spans.append((began, branch.ended_at))
        if branch.status is Status.SUCCEEDED:
            self.finished += 1
            if branch.begun == 1:  # else its time holds the waits between attempts
                self._keep(branch.ended_at - began)
        elif branch.status in (Status.FAILED, Status.TIMED_OUT) or (
            branch.status is Status.ABANDONED and isinstance(branch.error, BranchTimedOutError)
        ):
            self.failed += 1
            self.rejected += is_refusal(branch.error, self.judge)

    def tried_again(self, error: Exception) -> None:
        """Add an attempt that failed and is followed by another: what refused it was too full."""
        self.failed += 1
        self.rejected += is_refusal(error, self.judge)

    def _keep(self, seconds: float) -> None:
        if self._skip:
            self._skip -= 1
            return
        self._skip = self._stride - 1
        self.run_times.append(max(0.0, seconds))
        if len(self.run_times) >= 2 * MOST:
            self.run_times = self.run_times[::2]
            self._stride *= 2


class LedgerCounts:
    """Count for the limiter of one scheduler.

    Args:
        keeps: ended branches stay in the ledger, and nobody reads them meanwhile.
        more: tells whether there is more to be pulled, for which only tokens are lacking.
    """

    def __init__(
        self,
        ledger: Ledger,
        limiter: Limiter,
        *,
        keeps: bool,
        more: Callable[[], bool] = bool,
        judge: Judge | None = None,
    ) -> None:
        self._ledger = ledger
        self._limiter = limiter
        self._more = more
        self._tally = Tally(judge)
        self._ended: deque[Branch] | None = ledger.ended if keeps else None
        self._counted = 0  # of those that ended
        self._ran = 0  # how many ran at the last sample that counts
        self._running = 0  # and at this one
        if not keeps:
            ledger.tally = self._tally
        if ledger.course is not None:
            ledger.course.tried_again = self._tally.tried_again

    async def look(self, now: float, /) -> Counts:
        """Count up to now."""
        if self._ended is not None:
            await self._catch_up(self._ended)
        in_use, began = used(self._limiter)
        self._running = in_use
        waiting = len(self._ledger.queue)
        tally = self._tally
        return Counts(
            in_use=in_use,
            peak=max(in_use, self._ran, at_once([*tally.spans, *((each, now) for each in began)])),
            queued=waiting or int(self._more()),
            started=max(0, in_use - self._ran + tally.begun),
            finished=tally.finished,
            failed=tally.failed,
            rejected=tally.rejected,
            latencies=picked(tally.run_times),
            ages=picked([max(0.0, now - each) for each in began]),
        )

    def is_fed(self) -> bool:
        """Tell whether there is more to be pulled, nobody knows how much."""
        return bool(self._more())

    def commit(self) -> None:
        """Count from here on."""
        self._tally.clear()
        self._ran = self._running

    async def _catch_up(self, ended: deque[Branch]) -> None:
        until = len(ended)
        while self._counted < until:
            stop = min(until, self._counted + SLICE)
            # From the right: a deque's end is near, and its middle is not.
            after = len(ended) - stop
            for branch in list(islice(reversed(ended), after, after + stop - self._counted)):
                self._tally.add(branch)
            self._counted = stop
            if stop < until:
                await self._ledger.runtime.lowlevel.checkpoint()


class LimiterCounts:
    """Count what a limiter alone tells: who has a token, and who waits for one."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._peak = 0

    async def look(self, now: float, /) -> Counts:
        """Count up to now."""
        in_use, began = used(self._limiter)
        waiting = int(self._limiter.statistics().tasks_waiting)
        self._peak = max(self._peak, in_use)
        ages = picked([max(0.0, now - each) for each in began])
        return Counts(in_use=in_use, peak=self._peak, queued=waiting, ages=ages)

    def commit(self) -> None:
        """Count from here on."""
        self._peak = 0


def used(limiter: Limiter) -> tuple[int, list[float]]:
    """Return how many tokens are out, and when the branches began that have them."""
    borrowers: Iterable[Any] = getattr(limiter.statistics(), "borrowers", ())
    began = []
    for each in borrowers:
        hand = each.hand if isinstance(each, Held) else None
        branch = None if hand is None else hand.running()
        if branch is not None and branch.started_at is not None and branch.status is None:
            began.append(branch.started_at)
    return limiter.borrowed_tokens, began


def at_once(spans: Sequence[tuple[float, float]]) -> int:
    """Return how many of these spans of time overlap at most; 0 if they are too many to tell."""
    if len(spans) > SWEPT:
        return 0
    ends = [(until, -1) for _, until in spans]
    now = most = 0
    for _, step in sorted([*ends, *((began, 1) for began, _ in spans)]):
        now += step
        most = max(most, now)
    return most


def picked(values: Sequence[float]) -> tuple[float, ...]:
    """Pick at most 64, evenly."""
    if len(values) <= MOST:
        return tuple(values)
    return tuple([values[index * len(values) // MOST] for index in range(MOST)])
