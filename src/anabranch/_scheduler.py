"""Decide which branch runs next, which is cancelled, and how it ended.

Take the token first, choose the branch second: a queued branch is an entry in a queue, not a task.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextvars import copy_context
from typing import Any, Self

from anabranch._attempt import note_stop
from anabranch._branch import Branch
from anabranch._dispatch import Dispatcher
from anabranch._feed import Accept
from anabranch._following import Applied, Live
from anabranch._glob import Which, matcher
from anabranch._hand import Hand
from anabranch._host import Host, current_host
from anabranch._intake import Intake
from anabranch._knot import Loan, close_block, open_block, take
from anabranch._ledger import Ledger
from anabranch._limits import lendable, limiters_of
from anabranch._nursery import Alone, is_cancelled, leave
from anabranch._observers import Delivery
from anabranch._outcomes import Outcomes
from anabranch._pool import Outside
from anabranch._recording import Recording
from anabranch._runtime import check_thread, loop_runs_here
from anabranch._stopping import cancel_chosen, end_queued
from anabranch._stubborn import Grace
from anabranch._token import Held, holding, take_nowait
from anabranch._work import Job, Status, check_reason
from anabranch.abc import Limiter, Recorder
from anabranch.errors import HostLoopError, SchedulerClosedError

EVENTS_AT_ONCE = 500  # that jobs are queued, before the loop goes round


class Scheduler:
    """Own branches: queue them, run them under limiters, collect how they ended."""

    _alone = False  # one branch, so the calling task is the only hand
    _loan: Loan  # where a branch opened it
    _intake: Intake | None = None  # a step that has its branches needs none
    _recording: Recording | None = None
    _state = "new"
    adapts: Callable[[Scheduler], Any] | None = None  # begins to regulate, once it takes its time

    def __init__(
        self,
        limits: Sequence[float | Limiter],
        *,
        delivery: Delivery | None = None,
        own_delivery: bool = False,
        recorder: Recorder | None = None,
        stops_unrecorded: bool = True,
        step: str = "",
        timeout: float | None = None,
        reads: bool = True,
        leases: bool = True,
        live: Live | None = None,
        keeps: bool = True,
        host: Host | None = None,
        outside: Outside | None = None,
        rules: Sequence[Applied] = (),
        grace: float | None = 5.0,
    ) -> None:
        self._recorder = recorder
        self._stops_unrecorded = stops_unrecorded  # the run, where the recorder fails
        self._rules = rules
        self._grace = grace  # how long a branch may work on after a cancellation, unmentioned
        self._outside = outside  # the step around it, or the run
        self._host = host  # of the running loop, if the caller knows it
        self._live = live
        self.keeps = keeps  # whether ended branches are kept, or only counted
        self._limits = limits
        self._delivery = delivery
        self._own_delivery = own_delivery
        self._step = step
        self._timeout = timeout
        self._reads = reads  # whether outcomes are read one by one, and keys are to be checked
        self._leases = leases  # whether single branches may be cancelled

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise SchedulerClosedError("this scheduler was opened before; open another one")
        host = self._host or current_host()
        runtime = host.runtime
        limiters: list[Limiter] = []
        private: list[Limiter] = []
        if self._limits:
            limiters, private = limiters_of(self._limits, runtime, infinite=self._reads)
        # Children's tokens come from here: what the calling branch holds of them is lent.
        held = holding.get()
        if held is not None:
            self._loan = Loan(lendable(limiters, host), runtime)
        self.ledger = ledger = Ledger(
            host,
            limiters,
            copy_context(),
            held,
            delivery=self._delivery,
            step=self._step,
            timeout=self._timeout,
            leases=self._leases,
        )
        if held is not None:
            ledger.block = open_block(held)
        if self._outside is not None:
            ledger.outside = self._outside
        ledger.shared = len(private) < len(limiters)
        if self._reads or self._live is not None or self._rules:
            ledger.on_end = self._ended
            ledger.listening = True
            for rules in self._rules:
                rules.opened(self)
        if self._live is not None:
            self._live.opened(self)
        self._runtime = runtime
        if self._recorder is not None:
            on_failure = self.stop if self._stops_unrecorded else None
            self._recording = await Recording.open(ledger, self._recorder, on_failure)
        if not self.keeps:
            ledger.counts = Counter()
        if self._alone:
            ledger.room = False  # there is nobody to start
            self._nursery_block: Any = Alone(runtime)
        else:
            self._nursery_block = runtime.open_nursery()
            ledger.make_grace, ledger.alive = self._make_grace, set()
        self._nursery = await self._nursery_block.__aenter__()
        if self.adapts is not None:
            ledger.adapts = self._adapt
        if self._timeout is not None or ledger.alive is not None:
            ledger.unarmed, ledger.scope = True, self._nursery.cancel_scope
        self._dispatcher = Dispatcher(ledger, None if self._alone else self._nursery)
        if self._reads:
            self.outcomes = Outcomes(ledger, self._idle)
        self._state = "open"
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._state = "leaving"
        intake = self._intake
        if intake is not None and self._reads:  # else the reader is the run's, and reads on
            intake.nobody_reads()
        if is_cancelled(error, self._runtime):
            self.ledger.stopped = self.ledger.why_cancelled()
            if intake is not None:
                intake.end()
        elif error is not None:
            self.stop(f"the block raised {error!r:.200}")
        if self.ledger.course is not None:
            self.ledger.course.rest()
        try:
            swallowed = await leave(self._nursery_block, error, self._runtime)
        except BaseException:
            await self._close()
            await self._end_loan(waits=False)
            raise
        await self._close()
        await self._end_loan(waits=error is None or swallowed)
        if error is not None and not swallowed:
            return False
        if self._recording is not None and self._stops_unrecorded and self._recording.error:
            raise self._recording.error
        if intake is not None and intake.feeds is not None and intake.feeds.error is not None:
            raise intake.feeds.error
        return swallowed

    @property
    def limiter(self) -> Limiter:
        """The limiter whose tokens branches take; its ``total_tokens`` may be set at any time."""
        if not self.ledger.shared:
            self.ledger.shared = True  # from now on it may move, so a dispatcher waits in line
            self.ledger.reader_moved(math.inf)  # and a hand that only waits keeps no token
            self._dispatcher.resume()
        return self.ledger.limiters[0]

    def submit(self, job: Job) -> None:
        """Accept a job; never waits. Call it in the loop's thread.

        Raises:
            DuplicateKeyError: a branch of that key has not ended yet.
            SchedulerClosedError: the block was left, or is being cancelled.
        """
        self._check_open()
        intake = self._take_in()
        intake.push(intake.accept(job))

    def feed(self, jobs: Iterable[Job] | AsyncIterable[Job]) -> None:
        """Pull jobs from an iterable, plain or async, only as fast as they run.

        What the iterable raises cancels everything and is raised when the block is left.
        """
        self._check_open()
        self.feed_with(jobs, self._take_in().accept)

    def feed_with(self, elements: Iterable[Any] | AsyncIterable[Any], accept: Accept) -> None:
        """Pull elements, each made a branch by ``accept``."""
        self._check_open()
        self._take_in().feed(elements, accept, self._nursery.start_soon)

    async def all_fed(self) -> None:
        """Wait until nothing is left to be pulled: a slow reader may leave no hand meanwhile."""
        await self._take_in().all_fed()

    def nobody_reads(self) -> None:
        """Drop outcomes from now on: nobody slows what is fed down any more."""
        if self._intake is not None and self._state != "closed":
            self._intake.nobody_reads()

    def cancel(self, which: Which, *, reason: str = "cancelled") -> int:
        """Cancel the branches that a glob or predicate over keys chooses; return how many.

        Queued ones have their outcome at once, running ones at their next checkpoint.
        """
        chosen = matcher(which)
        check_reason("scheduler.cancel", reason)
        check_thread("scheduler.cancel")
        return cancel_chosen(self.ledger, chosen, reason)

    def stop(self, reason: str, *, whole: bool = False) -> None:
        """Cancel everything, by one cancel of one scope; what is queued has its outcome at once.

        With ``whole`` the caller cancels a scope that holds this one.
        """
        if self._state == "closed" or (self.ledger.stopped and not whole):
            return
        self.ledger.stopped = self.ledger.stopped or reason
        self._record_queued(self.ledger.stopped)
        if not whole:
            note_stop()
            self._nursery.cancel_scope.cancel(reason=reason)

    def start_no_more(self, reason: str) -> None:
        """Reject what is queued, and pull nothing more; what runs goes on to its end."""
        self.ledger.no_more = reason
        self._record_queued(reason, Status.REJECTED)

    async def run_all(self, branches: list[Branch], *, urgent: bool = False) -> None:
        """Run branches whose keys are known to differ to their end; ``urgent`` if some are.

        The calling task works as a hand itself, so a step of one branch needs no further task.
        """
        alone = len(branches) == 1 and branches[0].tries is None  # one that waits needs a nursery
        alone = alone and self.adapts is None  # whoever regulates needs a nursery as well
        self._alone = alone and self._delivery is None and self._live is None
        async with self:
            ledger = self.ledger
            if urgent:
                ledger.queue.push_levels(branches)
            else:
                ledger.queue.push_all(branches)
            for rules in self._rules:
                rules.filled(self)
            for number, branch in enumerate(branches if ledger.delivery is not None else (), 1):
                ledger.queued(branch)
                if not number % EVENTS_AT_ONCE:
                    await ledger.runtime.lowlevel.checkpoint()
            while True:
                held = Held(ledger.limiters, ledger.parent)
                if not take_nowait(ledger.limiters, ledger.runtime, held):
                    ledger.arm()
                    await take(ledger.limiters, ledger.runtime, held, ledger.block)
                await Hand(ledger, held, guest=True).run()
                if not (self._alone and ledger.queue):
                    break
                ledger.arm()
                await ledger.runtime.lowlevel.checkpoint()  # it had to make way, or time is up

    def is_at_rest(self) -> bool:
        """Tell whether its block is being left, and nothing is left that could run."""
        return self._state == "leaving" and not self.is_fed() and self.ledger.is_idle()

    def is_fed(self) -> bool:
        """Tell whether more is to be pulled."""
        return self._intake is not None and bool(self._intake.feeds)

    def _adapt(self) -> None:
        assert self.adapts is not None, "else it is not asked to"
        self.adapts(self)

    def _make_grace(self) -> Grace | None:
        if self._grace is None:
            return None
        return Grace(self.ledger, self._nursery.start_soon, self._grace)

    def _idle(self) -> bool:
        return self._take_in().idle()

    def _take_in(self) -> Intake:
        if self._intake is None:
            self.ledger.arm()
            reader = self.outcomes if self._reads else None
            if self._live is not None:
                reader = self._live.outcomes
            self._intake = Intake(self.ledger, self._dispatcher, self.stop, reader)
        return self._intake

    def _check_open(self) -> None:
        if self._state not in ("open", "leaving") or self.ledger.stopped:
            why = "its block was not entered yet"
            if self._state != "new":
                why = "its block was left" if self._state == "closed" else self.ledger.stopped
            raise SchedulerClosedError(f"the scheduler takes no jobs: {why}")
        if not loop_runs_here():
            raise HostLoopError(
                "a job was handed in from a thread where the scheduler's loop does not run; "
                "call it there: anyio.from_thread.run_sync(scheduler.submit, job)"
            )

    def _ended(self, branch: Branch) -> None:
        """Tell whoever reads or follows that a branch has ended; only count it if asked to."""
        if self._intake is not None:
            self._intake.branch_ended(branch)
        if self._live is not None:
            self._live.ended(self, branch)
        if not self.keeps:
            ledger = self.ledger
            ledger.ended.pop()
            ledger.read += 1
            if ledger.tally is not None:
                ledger.tally.add(branch)
            ledger.counts[str(branch.status)] += 1
        for rules in self._rules:
            rules.ended(self, branch)

    def _record_queued(self, reason: str, status: Status = Status.CANCELLED) -> None:
        if self._intake is not None:
            self._intake.end()
        end_queued(self.ledger, reason, status)

    async def _end_loan(self, *, waits: bool) -> None:
        """Take back what the calling branch has lent; one that is left by an error cannot wait."""
        block, held = self.ledger.block, self.ledger.parent
        if block is None or held is None:
            return
        try:
            if waits:
                await self._loan.take_back(block)
            else:
                self._loan.take_back_nowait()
        finally:
            close_block(block, held)

    async def _close(self) -> None:
        """Give what never started its outcome, and let the observer catch up."""
        ledger = self.ledger
        if ledger.regulation is not None:
            ledger.regulation.end()
        if ledger.loop is not None:
            ledger.settle()
        ledger.cut_off = self._nursery.cancel_scope.cancel_called or (
            ledger.unarmed and ledger.clock() >= ledger.deadline
        )
        if ledger.queue or ledger.alarm is not None or self._intake is not None:
            ledger.cut_off = ledger.cut_off or bool(ledger.waiting()) or self.is_fed()
            self._record_queued(ledger.why_cancelled())
        try:
            if self._recording is not None:
                await self._recording.close()
        finally:  # a cancellation goes on from there
            self._state = "closed"
            if self._live is not None:
                self._live.closed(self)
            for rules in self._rules:
                rules.closed(self)
            if self._reads:
                self.outcomes.wake()
            if self._own_delivery and self._delivery is not None:
                self._delivery.close()
            ledger.close()
