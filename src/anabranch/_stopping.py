"""Stop branches of one scheduler: those that wait have their outcome at once.

Those that run have it at their next checkpoint, from the hand that runs them.
"""

from __future__ import annotations

from collections.abc import Callable

from anabranch._ledger import Ledger
from anabranch._work import Status


def cancel_chosen(ledger: Ledger, chosen: Callable[[str], bool], reason: str) -> int:
    """Cancel the branches whose keys are ``chosen``, queued or running; return how many."""
    with ledger.lock:  # against a thread that pops one of them now
        queued = [branch for branch in ledger.waiting() if chosen(branch.key)]
        for branch in queued:
            branch.status = Status.CANCELLED
        ledger.queue.prune()
    for branch in queued:  # out of the lock: who hears of it may cancel others
        ledger.end(branch, Status.CANCELLED, reason)
    ledger.unpark()
    running = 0
    for hand in list(ledger.hands):
        branch_now = hand.running()
        if branch_now is not None and chosen(branch_now.key):
            running += hand.cancel(reason)
    return len(queued) + running


def end_queued(ledger: Ledger, reason: str, status: Status) -> None:
    """End every branch that waits: as ``status``, or as cancelled if it has been tried before."""
    if not ledger.queue and ledger.alarm is None:
        return
    with ledger.lock:
        waiting = ledger.waiting()
        for branch in waiting:  # a thread pops none of them from now on
            branch.status = Status.CANCELLED if branch.begun else status
        ledger.queue.prune()
    for branch in waiting:
        ledger.end(branch, branch.status or status, reason)
    ledger.unpark()
