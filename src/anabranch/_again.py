"""Decide what follows a call that failed: another attempt, the fallback, or the end.

Nothing is called here: a branch that goes on is queued again, or given to the alarm,
and a hand takes it up as it does any other. A fallback is queued ahead of all others.
"""

from __future__ import annotations

import math
from functools import partial

from anabranch._alarm import alarm_of
from anabranch._branch import ASYNC, TRIED, Branch
from anabranch._ledger import Ledger
from anabranch._pool import paid_by
from anabranch._retry import Retry, allowance, asked, draw, wait_after
from anabranch._tries import Tries, chain
from anabranch._work import Status
from anabranch.errors import BranchTimedOutError
from anabranch.events import AttemptFailed

AT_ONCE = 10**100  # the priority of a fallback: its branch is under way already


def begin(ledger: Ledger, branch: Branch, now: float) -> bool:
    """Count a call of a branch that may be tried again; True for its first.

    For whoever has the ledger's lock: threads begin branches, too.
    """
    tries = branch.tries
    assert tries is not None, "only what may be tried again comes here"
    first = not tries.begun
    ledger.tried += first
    tries.begun += 1
    tries.turn += 1
    tries.attempts += not tries.fell_back
    tries.taken = False
    if tries.began_at is None:
        tries.began_at = now
    error = branch.error
    if isinstance(error, Exception):
        tries.keep(error)
    branch.error = None
    if tries.context is not None:
        branch.context = tries.context.copy()
    return first


def settled(ledger: Ledger, branch: Branch) -> bool:
    """Tell whether a branch has ended that may be tried again; else it has been seen to.

    Call it in the task of the hand that ran it.
    """
    tries = branch.tries
    assert tries is not None, "only what may be tried again comes here"
    error = branch.error
    if branch.status is Status.FAILED and isinstance(error, Exception):
        if tries.retry is not None and _tries_again(ledger, branch, tries, tries.retry, error):
            return False
        if tries.fallback is not None and _nearest(ledger)[0] > -math.inf:
            _fall_back(ledger, branch, tries)
            return False
    elif _ran_out(branch) and tries.fallback is not None and not ledger.ends_early():
        _fall_back(ledger, branch, tries)
        return False
    if branch.status is not Status.SUCCEEDED:
        tries.conclude(branch.error)
    return True


def _tries_again(
    ledger: Ledger, branch: Branch, tries: Tries, retry: Retry, error: Exception
) -> bool:
    """Give the branch to the alarm if it may be tried again."""
    if tries.turn >= retry.attempts:
        return False
    try:
        with paid_by(branch, ledger):
            answer = asked(retry, error)
    except Exception as raised:  # the user's on=: it ends the branch, and is told with its error
        tries.keep(error)
        chain(raised, error)
        branch.error = raised
        return False
    if answer is False:
        return False
    seconds = answer
    if answer is True:
        seconds = wait_after(retry, tries.turn, draw(retry, branch.key, tries.turn))
    moment = ledger.clock() + seconds
    tries.refused = _why_not(ledger, branch, retry, moment)
    if tries.refused:
        return False
    ledger.retries += 1
    if ledger.course is not None:
        ledger.course.tried_again(error)
    branch.status = None
    if ledger.delivery is not None:
        now = ledger.clock()
        ledger.emit(AttemptFailed(now, ledger.step, branch.key, tries.turn, error, seconds))
    if seconds > 0:
        alarm_of(ledger).wake(branch, moment)
    else:
        ledger.queue.push(branch)
    if branch.timeout is not None:
        strike = partial(_strike, ledger, branch.begun)
        alarm_of(ledger).strike(branch, branch.own_deadline(moment), strike)
    return True


def _why_not(ledger: Ledger, branch: Branch, retry: Retry, moment: float) -> str:
    """Say what forbids an attempt at ``moment``; empty if nothing does."""
    deadline, whose = _nearest(ledger)
    if deadline == -math.inf or ledger.no_more:
        return whose if deadline == -math.inf else ledger.no_more
    if branch.timeout is not None and branch.own_deadline(moment) < deadline:
        deadline = branch.own_deadline(moment)
        whose = f"deadline: {branch.timeout:g} s (timeout= of {branch.whose()})"
    if moment >= deadline:
        return f"it would begin {moment - ledger.clock():.3g} s later, past the {whose}"
    if retry.budget is None or ledger.retries < allowance(retry, ledger.tried):
        return ""
    ledger.refusals += 1
    spent = (
        f"the retry budget is spent, {ledger.retries} retries for {ledger.tried} branches begun "
        f"(budget={retry.budget:g} of Retry)"
    )
    ledger.remark = f"; {ledger.refusals} were not tried again: {spent}"
    return spent


def _nearest(ledger: Ledger) -> tuple[float, str]:
    """Return the nearest deadline above the branch and whose it is; -inf once all is cancelled."""
    outside: float = ledger.runtime.current_effective_deadline()
    if ledger.ends_early() or outside == -math.inf:
        return -math.inf, ledger.why_cancelled()
    if ledger.timeout is not None and ledger.deadline <= outside:
        return ledger.deadline, f"deadline: {ledger.timeout:g} s (timeout=)"
    return outside, "deadline of a scope outside"


def _ran_out(branch: Branch) -> bool:
    """Tell whether the branch's own timeout has ended it, or has given its thread up."""
    if branch.status is Status.ABANDONED:
        return isinstance(branch.error, BranchTimedOutError)
    return branch.status is Status.TIMED_OUT


def _take_over(branch: Branch, tries: Tries) -> None:
    """Let the call of its fallback take the place of the branch's own."""
    assert tries.fallback is not None, "it was asked for before"
    assert isinstance(branch.error, Exception), "it failed, or ran out of time"
    call: Branch = tries.fallback(branch.error)
    given_up = "; its thread runs on" if branch.status is Status.ABANDONED else ""
    tries.fall_back(branch.error, branch.reason + given_up)
    branch.reason = ""
    if call.tries is not None:
        tries.retry, tries.fallback = call.tries.retry, call.tries.fallback
    branch.status = None
    branch.kind = TRIED if call.kind == ASYNC else call.kind
    branch.fn, branch.args, branch.kwargs = call.fn, call.args, call.kwargs
    branch.timeout, branch.on_cancel = call.timeout, call.on_cancel


def _fall_back(ledger: Ledger, branch: Branch, tries: Tries) -> None:
    """Queue the branch for the call that takes over, as the very next one."""
    _take_over(branch, tries)
    branch.priority = AT_ONCE
    ledger.queue.push(branch)


def _strike(ledger: Ledger, begun: int, branch: Branch) -> None:
    """Time out a branch that is queued for its next attempt: its timeout counts the waits too."""
    tries = branch.tries
    assert tries is not None, "only what may be tried again waits"
    if tries.taken:  # a hand has it, and its scope will strike
        return
    with ledger.lock:  # against a thread that pops it now
        if branch.begun != begun:
            return
        branch.end_badly(None, ran_out=True, stopped="", abandoned=False)
        if tries.fallback is not None:
            _take_over(branch, tries)  # and stay in its place in the queue
            return
    tries.conclude(branch.error)
    ledger.end(branch, Status.TIMED_OUT, branch.reason)
