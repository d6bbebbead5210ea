"""Decide which branch runs next, which is cancelled, and how it ended.

Take the token first, choose the branch second: a queued branch is an entry in a queue, not a task.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterable, Iterable, Sequence
from contextvars import copy_context
from types import TracebackType
from typing import Any, Protocol, Self

from anabranch._branch import Branch, branch_of
from anabranch._dispatch import Dispatcher
from anabranch._feed import Accept, Feeds
from anabranch._glob import Which, matcher
from anabranch._hand import Hand
from anabranch._host import Host, current_host
from anabranch._ledger import Ledger
from anabranch._nursery import Alone, is_cancelled, leave
from anabranch._observers import Delivery
from anabranch._outcomes import Outcomes
from anabranch._runtime import Runtime, check_home
from anabranch._knot import Loan, close_block, open_block, take
from anabranch._token import Held, holding, take_nowait
from anabranch._work import Job, Status, check_limit
from anabranch.abc import Limiter, Observer
from anabranch.errors import (
    ConfigurationError,
    DuplicateKeyError,
    SchedulerClosedError,
    not_built_yet,
)
from anabranch.events import BranchQueued
from anabranch.lanes._thread import io_lane


def open_scheduler(
    limit: float | Limiter, *, observer: Observer | None = None, recorder: None = None
) -> Scheduler:
    """Open a scheduler that runs at most ``limit`` branches at once.

    Use it with ``async with``; leaving the block waits for every branch,
    an exception in the block cancels them.

    Args:
        limit: a whole number of at least 1, ``math.inf`` for none, or a CapacityLimiter of the
            host's loop, which may be shared with others and is never resized by anabranch.
        observer: called with each event, in a thread of its own.

    Raises:
        ConfigurationError: a limit that cannot be meant.
    """
    if recorder is not None:
        raise not_built_yet("open_scheduler", "recorder", recorder)
    if observer is not None and not callable(observer):
        raise ConfigurationError(
            f"open_scheduler: observer={observer!r} is not callable; give a function of one event"
        )
    if not isinstance(limit, Limiter) and limit != math.inf:
        check_limit("open_scheduler", "limit", limit)
    delivery = Delivery(observer) if observer is not None else None
    return Scheduler([limit], delivery=delivery, own_delivery=True)


class Live(Protocol):
    """Follow a run while it goes on: every scheduler in it, and every branch that ends."""

    def opened(self, scheduler: Scheduler) -> None: ...
    def closed(self, scheduler: Scheduler) -> None: ...
    def ended(self, scheduler: Scheduler, branch: Branch) -> None: ...
    def wanted(self, limit: float) -> bool: ...


class Scheduler:
    """Own branches: queue them, run them under limiters, collect how they ended."""

    def __init__(
        self,
        limits: Sequence[float | Limiter],
        *,
        delivery: Delivery | None = None,
        own_delivery: bool = False,
        step: str = "",
        timeout: float | None = None,
        reads: bool = True,
        leases: bool = True,
        live: Live | None = None,
        keeps: bool = True,
        host: Host | None = None,
    ) -> None:
        self._host = host  # of the running loop, if the caller knows it
        self._live = live
        self._keeps = keeps  # whether ended branches are kept, or only counted
        self._limits = limits
        self._delivery = delivery
        self._own_delivery = own_delivery
        self._step = step
        self._timeout = timeout
        self._reads = reads  # whether outcomes are read one by one, and keys are to be checked
        self._leases = leases  # whether single branches may be cancelled
        self._keys: set[str] = set()  # of the branches that have not ended
        self._accepted = 0
        self._alone = False
        self._feeds: Feeds | None = None  # made when it is first fed
        self._all_fed: Any = None  # an Event while somebody waits until nothing is fed
        self._state = "new"

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise SchedulerClosedError("this scheduler was opened before; open another one")
        host = self._host or current_host()
        runtime = host.runtime
        limiters: list[Limiter] = []
        private: list[Limiter] = []
        if self._limits:
            limiters, private = _limiters_of(self._limits, runtime, infinite=self._reads)
        # Children's tokens come from here: what the calling branch holds of them is lent.
        held = holding.get()
        loan = Loan(_lendable(limiters, host), runtime) if held is not None else None
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
        if loan is not None and held is not None:
            ledger.block = open_block(loan, held)
        ledger.shared = len(private) < len(limiters)
        if self._reads:
            self.outcomes = Outcomes(ledger, self._idle, self.more_wanted)
            ledger.on_end = self._ended
            ledger.listening = True
        if self._live is not None:
            ledger.on_end = self._followed
            ledger.listening = True
            self._live.opened(self)
        self._runtime = runtime
        if not self._keeps:
            ledger.counts = Counter()
        if self._alone:
            ledger.room = False  # there is nobody to start
            self._nursery_block = Alone(runtime, ledger.deadline)
            self._nursery = await self._nursery_block.__aenter__()
        else:
            self._nursery_block = runtime.open_nursery()
            self._nursery = await self._nursery_block.__aenter__()
            if self._timeout is not None:
                self._nursery.cancel_scope.deadline = ledger.deadline
        self._dispatcher = Dispatcher(ledger, None if self._alone else self._nursery)
        self._state = "open"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._state = "leaving"
        if self._feeds is not None and self._reads:
            self.outcomes.nobody_reads = True
            self._feeds.reader_moved()
            self._dispatcher.resume()
        if is_cancelled(error, self._runtime):
            self.ledger.stopped = self.ledger.why_cancelled()
            if self._feeds is not None:
                self._feeds.end()
        elif error is not None:
            self.stop(f"the block raised {error!r:.200}")
        try:
            swallowed = await leave(self._nursery_block, error, self._runtime)
        except BaseException:
            self._close()
            await self._end_loan(waits=False)
            raise
        self._close()
        await self._end_loan(waits=error is None or swallowed)
        if error is not None and not swallowed:
            return False
        if self._feeds is not None and self._feeds.error is not None:
            raise self._feeds.error
        return swallowed

    @property
    def limiter(self) -> Limiter:
        """The limiter whose tokens branches take; its ``total_tokens`` may be set at any time."""
        if not self.ledger.shared:
            self.ledger.shared = True  # from now on it may move, so a dispatcher waits in line
            self._dispatcher.resume()
        return self.ledger.limiters[0]

    def submit(self, job: Job) -> None:
        """Accept a job; never waits. Call it in the loop's thread.

        Raises:
            DuplicateKeyError: a branch of that key has not ended yet.
            SchedulerClosedError: the block was left, or is being cancelled.
        """
        self._push(self._accept(job))

    def feed(self, jobs: Iterable[Job] | AsyncIterable[Job]) -> None:
        """Pull jobs from an iterable, plain or async, only as fast as they run.

        What the iterable raises cancels everything and is raised when the block is left.
        """
        self.feed_with(jobs, self._accept)

    def feed_with(self, elements: Iterable[Any] | AsyncIterable[Any], accept: Accept) -> None:
        """Pull elements, each made a branch by ``accept``."""
        self._check_open()
        if self._feeds is None:
            self._feeds = Feeds(
                self.ledger.runtime, self._may_pull, self._feed_failed, self._feed_ended
            )
            self._dispatcher.feeds = self._feeds
            self.ledger.pull = self._pull
        if isinstance(elements, AsyncIterable):
            self._feeds.add_async()
            self._nursery.start_soon(
                self._feeds.run_async, elements, accept, self._dispatcher.token_is_free, self._push
            )
        elif isinstance(elements, Iterable):
            self._feeds.add(elements, accept)
            self._dispatcher.resume()
        else:
            raise ConfigurationError(
                f"feed: {elements!r:.80} ({type(elements).__name__}) is not iterable; "
                f"give an iterable or async iterable of jobs"
            )

    async def all_fed(self) -> None:
        """Wait until nothing is left to be pulled: a reader that dawdles may leave no hand meanwhile."""
        while self._feeds:
            self._all_fed = self._runtime.Event()
            await self._all_fed.wait()

    def cancel(self, which: Which, *, reason: str = "cancelled") -> int:
        """Cancel the branches that a glob or predicate over keys chooses; return how many.

        Queued ones have their outcome at once, running ones at their next checkpoint.
        """
        chosen = matcher(which)
        ledger = self.ledger
        with ledger.lock:  # against a thread that pops one of them now
            queued = [branch for branch in ledger.queue.waiting() if chosen(branch.key)]
            for branch in queued:
                ledger.end(branch, Status.CANCELLED, reason)
            ledger.queue.prune()
        ledger.unpark()
        running = 0
        for hand in list(ledger.hands):
            branch_now = hand.running()
            if branch_now is not None and chosen(branch_now.key):
                running += hand.cancel(reason)
        return len(queued) + running

    def stop(self, reason: str) -> None:
        """Cancel everything, by one cancel of one scope; what is queued has its outcome at once."""
        if self._state == "closed" or self.ledger.stopped:
            return
        self.ledger.stopped = reason
        self._record_queued(reason)
        self._nursery.cancel_scope.cancel(reason=reason)

    async def run_all(self, branches: list[Branch]) -> None:
        """Run branches of priority 0, whose keys are known to differ, to their end.

        The calling task works as a hand itself, so a step of one branch needs no further task.
        """
        self._alone = len(branches) < 2
        async with self:
            self._accept_all(branches)
            ledger = self.ledger
            while True:
                held = Held(ledger.limiters, ledger.parent)
                if not take_nowait(ledger.limiters, ledger.runtime, held):
                    await take(ledger.limiters, ledger.runtime, held, ledger.block)
                await Hand(ledger, held, guest=True).run()
                if not (self._alone and ledger.queue):
                    break
                await ledger.runtime.lowlevel.checkpoint()  # it had to make way, or time is up

    def _accept_all(self, branches: list[Branch]) -> None:
        ledger = self.ledger
        self._accepted += len(branches)
        ledger.queue.push_all(branches)
        for branch in branches if ledger.delivery is not None else ():
            ledger.emit(BranchQueued(branch.queued_at, ledger.step, branch.key, branch.priority))

    def _accept(self, job: Job) -> Branch:
        self._check_open()
        if not isinstance(job, Job):
            raise ConfigurationError(
                f"{job!r:.80} ({type(job).__name__}) is no Job; give Job(key, fn, args)"
            )
        branch = branch_of(job, self.ledger.clock(), copy_context())
        if job.key in self._keys:
            raise DuplicateKeyError(
                f"a branch {job.key!r} is queued or running already; give each job its own key"
            )
        self._keys.add(job.key)
        return branch

    def _check_open(self) -> None:
        if self._state not in ("open", "leaving") or self.ledger.stopped:
            why = (
                self.ledger.stopped if self._state in ("open", "leaving") else "its block was left"
            )
            if self._state == "new":
                why = "its block was not entered yet"
            raise SchedulerClosedError(f"the scheduler takes no jobs: {why}")

    def _push(self, branch: Branch) -> None:
        ledger = self.ledger
        self._accepted += 1
        ledger.queue.push(branch)
        if ledger.delivery is not None:
            ledger.emit(BranchQueued(branch.queued_at, ledger.step, branch.key, branch.priority))
        self._dispatcher.resume()

    def _pull(self) -> Branch | None:
        """Pull one branch from what is fed, for a hand with nothing queued."""
        feeds = self._feeds
        assert feeds is not None
        branch = feeds.pull()
        if branch is not None:
            self._accepted += 1
            if self.ledger.delivery is not None:
                self.ledger.emit(
                    BranchQueued(branch.queued_at, self.ledger.step, branch.key, branch.priority)
                )
        elif not feeds:
            self._feed_ended()
        return branch

    def _may_pull(self) -> bool:
        if self._live is not None:
            return self._live.wanted(self.ledger.limit())
        if not self._reads:
            return True
        outcomes = self.outcomes
        return outcomes.nobody_reads or outcomes.fed_unread < max(1, 2 * self.ledger.limit())

    def more_wanted(self) -> None:
        """Look again whether something may be pulled: outcomes have been read."""
        if self._feeds and self._state != "closed":
            self._feeds.reader_moved()
            if not self.ledger.queue:
                self._dispatcher.resume()

    def _feed_ended(self) -> None:
        if self._reads:
            self.outcomes.wake()  # whoever waits may find that nothing will come
        if self._all_fed is not None:
            self._all_fed.set()

    def _feed_failed(self) -> None:
        assert self._feeds is not None
        self.stop(f"what it is fed from raised {self._feeds.error!r:.200}")

    def _idle(self) -> bool:
        ledger = self.ledger
        return self._accepted == ledger.read + len(ledger.ended) and not self._feeds

    def _ended(self, branch: Branch) -> None:
        self._keys.discard(branch.key)
        self.outcomes.fed_unread += branch.fed
        self.outcomes.wake()

    def _followed(self, branch: Branch) -> None:
        """Hand a branch that has ended to whoever follows the run; only count it if asked to."""
        assert self._live is not None
        if self._reads:
            self._ended(branch)
        self._live.ended(self, branch)
        if not self._keeps:
            ledger = self.ledger
            ledger.ended.pop()
            ledger.read += 1
            ledger.counts[str(branch.status)] += 1

    def _record_queued(self, reason: str) -> None:
        ledger = self.ledger
        if self._feeds is not None:
            self._feeds.end()
        if ledger.queue:
            with ledger.lock:
                for branch in ledger.queue.waiting():
                    ledger.end(branch, Status.CANCELLED, reason)
                ledger.queue.prune()

    async def _end_loan(self, *, waits: bool) -> None:
        """Take back what the calling branch has lent; one that is left by an error cannot wait."""
        block, held = self.ledger.block, self.ledger.parent
        if block is None or held is None:
            return
        try:
            if waits:
                await block.loan.take_back(block)
            else:
                block.loan.take_back_nowait()
        finally:
            close_block(block, held)

    def _close(self) -> None:
        """Give what never started its outcome, and let the observer catch up."""
        ledger = self.ledger
        if ledger.from_threads:
            ledger.settle()
        ledger.cut_off = self._nursery.cancel_scope.cancelled_caught
        if ledger.queue or self._feeds is not None:
            ledger.cut_off = ledger.cut_off or bool(ledger.queue)
            self._record_queued(ledger.why_cancelled())
        self._state = "closed"
        if self._live is not None:
            self._live.closed(self)
        if self._reads:
            self.outcomes.wake()
        if self._own_delivery and self._delivery is not None:
            self._delivery.close()


def _limiters_of(
    limits: Sequence[float | Limiter], runtime: Runtime, *, infinite: bool
) -> tuple[list[Limiter], list[Limiter]]:
    """Return the limiters, each once, and which of them are made here and nobody else's.

    One without a limit is made only if ``infinite``, where somebody may want to set it.
    """
    limiters: list[Limiter] = []
    private: list[Limiter] = []
    for limit in limits:
        if isinstance(limit, (int, float)):
            if infinite or limit != math.inf:
                private.append(runtime.CapacityLimiter(limit))
                limiters.append(private[-1])
        elif not any(limit is other for other in limiters):
            check_home(limit)
            limiters.append(limit)
    return limiters, private


def _lendable(limiters: Sequence[Limiter], host: Host) -> list[Limiter]:
    """Return what a branch that opens a scheduler lends: a thread that waits needs no place either."""
    return [*limiters, io_lane(host).limiter]
