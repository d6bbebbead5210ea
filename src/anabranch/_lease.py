"""Keep the one branch that a hand runs: by whom it may be cancelled, and how it then has ended.

The scope is leased from branch to branch; it is used up once it was cancelled or has run out.
"""

from __future__ import annotations

import math
from typing import Any

from anabranch._again import begin, settled
from anabranch._attempt import note_stop, parted
from anabranch._branch import Branch
from anabranch._ledger import Ledger
from anabranch._runtime import own_cancel
from anabranch._thread_hand import ThreadHand
from anabranch._token import Held
from anabranch._work import Status


class Lease:
    """Hold what a hand holds for the branch of the moment: tokens, a scope, perhaps a thread."""

    __slots__ = (
        "_cancels",
        "_guest",
        "_scope",
        "_thread",
        "_used_up",
        "branch",
        "held",
        "ledger",
        "listens",
        "slept",
    )

    # A hand sets them all: to call up here for it costs half a microsecond a hand.
    ledger: Ledger
    held: Held
    listens: bool  # it is to hear when its branch suspends
    slept: Any  # what the branch is, once it has suspended: mostly a coroutine
    branch: Branch | None  # begun, and not recorded
    _guest: bool  # it works in the task that opened the scheduler
    _thread: ThreadHand | None  # the one at work, or the one that was abandoned
    _scope: Any
    _used_up: bool
    _cancels: int  # how often the host's task had been cancelled before

    def interrupted(self) -> None:
        """Hear that something was thrown into the branch: most likely a cancellation."""
        self._used_up = self.listens = True

    def _works_on(self) -> None:
        """Hear that the branch has suspended again after that: most branches end instead."""
        grace = self.ledger.watch()
        if grace is not None:
            grace.interrupted(self)

    async def _pass_on_cancel(self) -> None:
        """Begin no further branch where the last one kept a cancellation from outside to itself."""
        self._used_up = False
        await self.ledger.runtime.lowlevel.checkpoint_if_cancelled()
        if self._guest and self.ledger.host.native_cancels() > self._cancels:
            raise self.ledger.runtime.Cancelled

    def cancel(self, reason: str) -> bool:
        """Cancel the branch that runs now; False when there is none."""
        branch = self.branch
        if self._thread is not None:
            branch = self._thread.branch
            if branch is None or not self._thread.cancel(branch, reason):
                return False
        if branch is None or (branch.reason and self._used_up):
            return False
        if self._scope is None:  # opened so that single branches cannot be cancelled
            return False
        branch.reason = reason
        self._used_up = self.listens = True
        note_stop()
        self._scope.cancel(reason=reason)
        grace = self.ledger.watch()
        if grace is not None:
            grace.cancelled(self)
        return True

    def why_cancelled(self) -> str:
        """Say what cancels the branch that runs now, and not others; empty if nothing does."""
        branch = self.running()
        if branch is None or self._scope is None:
            return ""
        if not branch.reason and branch.timeout is not None and self._scope.cancel_called:
            return f"deadline: {branch.timeout:g} s (timeout= of branch {branch.key})"
        return branch.reason

    def thread_ident(self) -> int | None:
        """Return which thread runs the branch; None if none does."""
        return None if self._thread is None else self._thread.ident

    def running(self) -> Branch | None:
        """Return the branch that runs now, in the hand's task or in its thread."""
        return self.branch if self._thread is None else self._thread.branch

    def _is_own_cancel(self) -> bool:
        """Tell whether a cancellation that came up concerns the branch alone; note its reason."""
        if self.branch is None:
            return False
        reason = own_cancel(self._cancels if self._guest else None)
        self.branch.reason = self.branch.reason or reason
        return bool(reason)

    def _ended_by(self, error: BaseException) -> BaseException | None:
        """Record the branch that ``error`` has ended; return what goes on of it, if not all.

        In a frame of its own, which the error's traceback does not keep.
        """
        assert self.branch is not None, "else there is nothing to record"
        passes, stays = parted(error)
        self._record(self.branch, stays, passes)
        return None if passes is error else passes

    def _begin(self, branch: Branch, now: float) -> None:
        """Count a call of the branch as begun; the observer hears of the first one only."""
        first = branch.tries is None
        if not first:
            with self.ledger.lock:  # against a thread that begins one
                first = begin(self.ledger, branch, now)
        if first:
            branch.started_at = now
            self.ledger.started(branch)
        if branch.timeout is not None:
            self._scope.deadline = branch.own_deadline(now)

    def _take_up(self, branch: Branch) -> None:
        """Take a branch that may be tried again from the alarm: it waits for a thread here."""
        tries = branch.tries
        assert tries is not None, "only one that may be tried again is asked"
        tries.taken = True
        if branch.timeout is not None and tries.began_at is not None:
            self._scope.deadline = branch.own_deadline(tries.began_at)

    def _ignored(self, branch: Branch) -> str:
        """Say which cancellation a branch that succeeded kept to itself past its grace.

        Empty where it came too late to stop the branch.
        """
        grace = self.ledger.grace
        if grace is None or not grace.has_named(self, branch):
            return ""
        self.branch = branch
        why = self.why_cancelled() or self.ledger.why_cancelled()
        self.branch = None
        return f"ignored: {why}"

    def _end_deadline(self, branch: Branch) -> None:
        if branch.timeout is not None:
            self._scope.deadline = math.inf
            self._used_up = self._used_up or self._scope.cancel_called

    def _failed(self, branch: Branch, error: Exception | None) -> None:
        """Set how a branch ended that did not succeed; a cancellation comes before its error."""
        early = error is None or self._ends_early()
        branch.end_badly(
            error,
            ran_out=branch.timeout is not None and self._scope.cancel_called,
            stopped=self.ledger.why_cancelled() if early else "",
            abandoned=self._thread is not None and self._thread.abandoned,
        )

    def _ends_early(self) -> bool:
        """Tell whether a branch that raises now does so because everything is being cancelled."""
        if self.ledger.ends_early():
            return True
        if not self._used_up:
            return False
        if self._guest and self.ledger.host.native_cancels() > self._cancels:
            return True
        return self.ledger.runtime.current_effective_deadline() == -math.inf

    def _record(
        self, branch: Branch, error: Exception | None, passes: BaseException | None = None
    ) -> None:
        """Record a branch whose end took the hot loop with it: its cancellation, or an exit."""
        self.branch = None
        if isinstance(passes, (KeyboardInterrupt, SystemExit)):
            branch.error = passes
            self.ledger.end(branch, Status.FAILED)
            return
        if passes is not None:  # one that struck child tasks only, and was never thrown in here
            self._used_up = True
        self._failed(branch, error)
        if branch.tries is not None and passes is None and not settled(self.ledger, branch):
            return
        assert branch.status is not None
        self.ledger.end(branch, branch.status, branch.reason)
