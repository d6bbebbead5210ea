"""Run plain functions in one thread, job after job from the queue, without the loop between two.

The thread holds the tokens of its hand and one of the io lane.
Before each further job it asks what a hand asks; a job that is not for it, a deadline,
a limit that shrank, somebody who waits: each sends it back to the loop.

A thread cannot be stopped. When its branch is cancelled it is abandoned: the branch is recorded
as such at once, the tokens are given back when the thread ends.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import Context
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from sniffio import current_async_library_cvar

from anabranch._again import begin
from anabranch._branch import THREAD, Branch
from anabranch._ledger import SLICE_S, Ledger
from anabranch._token import Held, holding
from anabranch._work import Status

if TYPE_CHECKING:
    from anabranch.lanes._thread import IoLane

# After a job that took longer the thread goes to the loop, to see who waits; after a shorter one
# the loop looks by itself, and the thread hears of it with its next: so a waiter waits for two.
NEIGHBOURLY_S = 0.0075

log = logging.getLogger("anabranch")


class ThreadHand:
    """Share one thread's state between it and the loop; ``_lock`` guards who owns the branch."""

    def __init__(
        self, ledger: Ledger, branch: Branch, tokens: list[Held], origin: Context, lane: IoLane
    ) -> None:
        self.branch: Branch | None = branch  # begun in the thread, and not recorded
        self.stop = False  # begin no further job
        self.abandoned = False
        self.ident: int | None = None  # of the thread, once there is one
        self.left: tuple[Context, Any] | None = None  # a coroutine, and where to await it
        self._ledger = ledger
        self._tokens = tokens
        self._origin = origin
        self._lane = lane
        self._lock = threading.Lock()
        self._begun = False
        self._done = False
        self._look_at = 0.0

    def run(self) -> None:
        """Run jobs, in the thread.

        ``branch`` is still to be recorded after one that left a coroutine, after one that failed
        and may be tried again, and when this raises.
        """
        with self._lock:
            if self._done:  # cancelled before the thread was there
                return
            self._begun = True
            self.ident = threading.get_ident()
            branch = self.branch
        try:
            while branch is not None:
                context = self._origin.copy() if branch.context is None else branch.context
                context.run(holding.set, self._tokens[-1])
                context.run(current_async_library_cvar.set, None)  # no loop runs in a thread
                value, error = None, None
                try:
                    value = context.run(branch.fn, *branch.args, **branch.kwargs)
                except Exception as raised:
                    error = raised
                if type(value) is CoroutineType:
                    self._leave(context, value)
                    break
                branch = self._next(branch, value, error)
        finally:
            self._finish()

    def abandon(self) -> bool:
        """Leave the thread to itself, from the loop; False when it has ended, or never began.

        Its tokens are then the thread's to give back.
        """
        with self._lock:
            if self.left is not None:
                self.left[1].close()  # nobody will await it
                self.left = None
            if self._done or self.branch is None or not self._begun:
                self._done = True
                return False
            self.abandoned = True
            self._lane.abandon(self, self.branch.key)
            return True

    def cancel(self, branch: Branch, reason: str) -> bool:
        """Mark ``branch`` as to be cancelled, from the loop; False when it runs here no more."""
        with self._lock:
            if self._done or self.branch is not branch:
                return False
            self.stop = True
            branch.reason = reason
            return True

    def _leave(self, context: Context, coroutine: Any) -> None:
        """Leave a coroutine for the loop to await, unless the branch was given up."""
        with self._lock:
            if self.abandoned:
                coroutine.close()
            else:
                self.left = (context, coroutine)
                self._done = True

    def _next(self, branch: Branch, value: Any, error: Exception | None) -> Branch | None:
        """Record how ``branch`` ended and choose the next one, in the thread."""
        ledger = self._ledger
        with self._lock:
            if self.abandoned:
                self._report_late(branch, error)
                return None
            branch.ended_at = now = ledger.clock()
            branch.value = value
            branch.error = error
            if error is not None and branch.tries is not None:  # the loop says what follows
                self._done = True
                return None
            branch.status = Status.FAILED if error is not None else Status.SUCCEEDED
            branch.reason = ""
            ledger.from_threads.append(branch)
            self.branch = None if self.stop or branch.timeout else self._choose(branch, now)
        self._wake_loop()
        return self.branch

    def _choose(self, last: Branch, now: float) -> Branch | None:
        ledger = self._ledger
        if last.on_cancel == "wait":  # an outer cancellation is seen by the hand only, between two
            return None
        if ledger.stopped or now >= ledger.deadline or ledger.outside.heeds(last):
            return None
        if any(held.missing or held.exceeds() for held in self._tokens):
            return None
        self._look_at = self._look_at or now + SLICE_S
        if now >= self._look_at and (ledger.shared or self._lane_is_full()):
            began = last.started_at
            if began is None or now - began > NEIGHBOURLY_S or ledger.crowded:
                return None
        with ledger.lock:
            branch = ledger.queue.pop()
            if branch is None:
                return None
            alike = branch.kind == THREAD and branch.on_cancel == last.on_cancel
            if not alike or branch.timeout:
                ledger.queue.put_back(branch)
                return None
            first = branch.tries is None or begin(ledger, branch, now)
            if first:
                branch.started_at = now
        if first and ledger.delivery is not None:
            ledger.started(branch)
        return branch

    def _lane_is_full(self) -> bool:
        """Tell whether others may wait for a thread of the lane."""
        limiter = self._lane.limiter
        return limiter.borrowed_tokens >= limiter.total_tokens

    def _wake_loop(self) -> None:
        """Have the loop publish what ended; one call for all that ended since the last."""
        if not self._ledger.settling:
            self._ledger.settling = True
            self._call_in_loop(self._settle)

    def _settle(self) -> None:
        """Publish what ended, in the loop, and look who waits there for what the threads hold."""
        ledger = self._ledger
        ledger.settle()
        now = ledger.clock()
        if now >= ledger.look_for_threads_at:
            ledger.look_for_threads_at = now + SLICE_S
            waits = self._lane.limiter.statistics().tasks_waiting
            ledger.crowded = bool(waits) or (ledger.shared and ledger.others_wait())

    def _report_late(self, branch: Branch, error: Exception | None) -> None:
        if error is not None:
            log.warning("abandoned branch %r raised after its end: %r", branch.key, error)

    def _finish(self) -> None:
        with self._lock:
            self._done = True
        if self.abandoned:
            self._call_in_loop(self._home)

    def _home(self) -> None:
        self._lane.ended(self)
        for held in self._tokens:
            held.give_back()

    def _call_in_loop(self, fn: Callable[[], None]) -> None:
        try:
            self._ledger.loop.run_sync_soon(fn)
        except RuntimeError:  # the loop has ended, and its limiters with it
            pass
