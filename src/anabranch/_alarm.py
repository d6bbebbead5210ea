"""Keep the moments of branches that wait for one: for the next attempt, or for a token at most.

A heap of moments and one transient task, which lives as long as a branch needs it.
No token is held here: a branch whose next attempt is due is queued again, ahead of those that
were not begun yet. What a branch has outrun by beginning is void, and is forgotten by and by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, TypeAlias

from anabranch._branch import QUEUE_TIMEOUT, THREAD, Branch
from anabranch._ledger import Ledger
from anabranch._work import Status

# When; which came first; how often the branch had begun then; the branch; what to do to it,
# None for queueing it again.
Entry: TypeAlias = "tuple[float, int, int, Branch, Callable[[Branch], None] | None]"

FEW = 64  # void entries are not worth a search


class Alarm:
    """Wake branches of one scheduler."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._heap: list[Entry] = []
        self._numbers = count()
        self._search_at = FEW  # entries
        self._runs = False
        self._scope: Any = None

    def wake(self, branch: Branch, moment: float) -> None:
        """Queue ``branch`` again at ``moment``."""
        self._set(moment, branch, None)

    def reject(self, branch: Branch, seconds: float) -> None:
        """Reject ``branch`` if it has not begun ``seconds`` after it was accepted."""
        reason = f"deadline: {seconds:g} s {QUEUE_TIMEOUT}"
        self._set(branch.queued_at + seconds, branch, partial(self._reject, reason))

    def strike(self, branch: Branch, moment: float, act: Callable[[Branch], None]) -> None:
        """Call ``act`` if ``branch`` has not begun its next attempt at ``moment``."""
        self._set(moment, branch, act)

    def waiting(self) -> list[Branch]:
        """List the branches that wait for their next attempt, the first to come first."""
        return [entry[3] for entry in sorted(self._heap) if entry[4] is None and _holds(entry)]

    def look(self) -> None:
        """Forget what is void; end the task if nothing is left."""
        heap = self._heap
        while heap and not _holds(heap[0]):
            heappop(heap)
        if not heap and self._scope is not None:
            self._scope.cancel(reason="no branch waits")

    def _set(self, moment: float, branch: Branch, act: Callable[[Branch], None] | None) -> None:
        heap = self._heap
        heappush(heap, (moment, next(self._numbers), branch.begun, branch, act))
        if len(heap) > self._search_at:
            heap[:] = filter(_holds, heap)
            heapify(heap)
            self._search_at = max(FEW, 2 * len(heap))
        self._ledger.arm()  # nothing else may be there to be struck by a deadline
        if not self._runs:
            self._runs = True
            self._ledger.nursery.start_soon(self._run)
        elif self._scope is not None and moment < self._scope.deadline:
            self._scope.deadline = moment

    async def _run(self) -> None:
        runtime, heap = self._ledger.runtime, self._heap
        try:
            while heap:
                with runtime.CancelScope(deadline=heap[0][0]) as self._scope:
                    await runtime.sleep_forever()
                self._scope = None
                self._ring()
        finally:
            self._runs, self._scope = False, None
            self._ledger.rest()

    def _ring(self) -> None:
        """Do what is due; first comes what is queued again, so that it can be found there."""
        ledger, heap = self._ledger, self._heap
        now = ledger.clock()
        due = []
        while heap and (heap[0][0] <= now or not _holds(heap[0])):
            due.append(heappop(heap))
        again = [entry[3] for entry in due if entry[4] is None and _holds(entry)]
        for branch in again:
            ledger.queue.push(branch)
        for entry in due:
            if entry[4] is not None and _holds(entry):
                entry[4](entry[3])
        with ledger.lock:  # whoever pops in a thread must be kept out
            ledger.queue.trim()
        ledger.unpark()
        if again:
            ledger.reader_moved(len(again))  # hands that only wait for the reader have tokens
            ledger.resume()

    def _reject(self, reason: str, branch: Branch) -> None:
        ledger = self._ledger
        if branch.kind == THREAD:
            for hand in list(ledger.hands):
                if hand.branch is branch:  # it waits for a thread
                    hand.cancel(reason)
                    return
        with ledger.lock:  # against a thread that pops it now
            if branch.begun:
                return
            branch.status = Status.REJECTED
        ledger.end(branch, Status.REJECTED, reason)


def _holds(entry: Entry) -> bool:
    """Tell whether the branch has neither ended nor begun since."""
    branch = entry[3]
    return branch.status is None and branch.begun == entry[2]


def alarm_of(ledger: Ledger) -> Alarm:
    """Return the scheduler's alarm; made when it is first needed."""
    alarm: Alarm | None = ledger.alarm
    if alarm is None:
        alarm = ledger.alarm = Alarm(ledger)
    return alarm
