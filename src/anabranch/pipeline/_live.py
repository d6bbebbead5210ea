"""Follow a run while it goes on: its outcomes, its state, and the means to stop a part of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from anabranch._branch import Branch
from anabranch._glob import Which, matcher
from anabranch._host import current_host
from anabranch._nursery import is_cancelled, leave
from anabranch._outcomes import Outcomes
from anabranch._pool import Pool
from anabranch._runtime import check_thread
from anabranch._scheduler import Scheduler
from anabranch._work import Usage, check_reason
from anabranch.errors import AnabranchError, SchedulerClosedError, UsageLimitExceededError
from anabranch.lanes._thread import io_lane
from anabranch.pipeline._guard import Guard
from anabranch.pipeline._result import NO_USAGE, PipelineResult
from anabranch.pipeline._waiting import (
    NEXT_ATTEMPT,
    RUNS,
    UNKNOWN,
    UNPULLED,
    moved,
    why_in_lane,
    why_queued,
)

Out = TypeVar("Out")


@attrs.frozen(kw_only=True)
class StepSnapshot:
    """Tell the state of one step at one moment.

    Attributes:
        step: its path. limit: how many branches may run at once; ``inf`` for no limit.
        running: the paths of the branches that run. queued: how many wait.
        ended: how many have ended.
        stubborn: the paths of the branches that work on after a cancellation, each with the line
            where it sits.
        in_use: how many tokens of the step's first limiter are out.
        reason: why the limit is where it is; empty where nothing has moved it.
        waiting: the paths of those that are queued. why: what they wait for, or, of a
            ``map_over``, what its next item waits for.
        pulled: of a ``map_over`` with more items, how many were taken up; None of anything else.
    """

    step: str
    limit: float
    running: tuple[str, ...]
    queued: int
    ended: int
    stubborn: Mapping[str, str]
    in_use: int = 0
    reason: str = ""
    waiting: tuple[str, ...] = attrs.field(default=(), repr=False)
    why: str = ""
    pulled: int | None = None

    def has_yet_to_pull(self, key: str) -> bool:
        """Tell whether ``key`` is the path of an item that was not taken up yet, if it comes."""
        path, _, number = key.rpartition("/")
        if self.pulled is None or path != self.step.rpartition("/")[0]:
            return False
        return number.isascii() and number.isdecimal() and int(number[:20]) >= self.pulled


@attrs.frozen(kw_only=True)
class Snapshot:
    """Tell the state of a live run at one moment.

    Attributes:
        steps: the steps that run now, outermost first.
        abandoned: paths of branches whose threads could not be stopped and still run.
    """

    steps: tuple[StepSnapshot, ...]
    abandoned: tuple[str, ...]

    def why_waiting(self, key: str) -> str:
        """Say why the branch of that path had not begun: which limit was reached, and why."""
        for step in self.steps:
            if key in step.waiting:
                return step.why
            if key in step.running:
                return RUNS
            if step.has_yet_to_pull(key):
                return f"{UNPULLED}: {step.why}"
        return UNKNOWN


class LiveRun(Generic[Out]):
    """Run a pipeline while a block goes on; made by ``Pipeline.open``.

    Attributes:
        outcomes: an async iterator over the Outcome of each branch, nested ones included, in the
            order of completion; it ends with the run. A ``map_over`` waits for its reader.
    """

    def __init__(self, start: Callable[[LiveRun[Out]], Awaitable[PipelineResult[Out]]]) -> None:
        self._start = start
        self.pool: Pool | None = None  # the run's, once it has started
        self._guard: Guard | None = None  # likewise
        self._stopped = ""  # why it is to be stopped as soon as it starts
        self._schedulers: dict[Scheduler, None] = {}
        self._result: PipelineResult[Out] | None = None
        self._error: Exception | None = None  # of the run as a whole: what a branch raises is data
        self._outcomes: Outcomes | None = None

    async def __aenter__(self) -> LiveRun[Out]:
        if self._outcomes is not None:
            raise SchedulerClosedError("this run was opened before; open another one")
        self._host = current_host()
        self._stream = _Stream(self._host.runtime)
        self._outcomes = Outcomes(self._stream, self._has_ended)
        self._block = self._stream.runtime.open_nursery()
        self._nursery = await self._block.__aenter__()
        self._nursery.start_soon(self._work)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.outcomes.nobody_reads = True
        for scheduler in list(self._schedulers):
            scheduler.nobody_reads()
        runtime = self._host.runtime
        if error is not None and not is_cancelled(error, runtime):
            self._nursery.cancel_scope.cancel(reason=f"the block raised {error!r:.200}")
        swallowed = await leave(self._block, error, runtime)
        if self._error is not None and (error is None or swallowed):
            raise self._error
        return swallowed

    @property
    def outcomes(self) -> Outcomes:
        """An async iterator over how branches ended, while others still run.

        Raises:
            AnabranchError: the block was not entered yet.
        """
        if self._outcomes is None:
            raise AnabranchError("the run was not started yet; write: async with pipeline.open()")
        return self._outcomes

    @property
    def result(self) -> PipelineResult[Out]:
        """The result, once the run has ended: after ``outcomes``, or after the block.

        Raises:
            AnabranchError: the run goes on, or was cancelled.
        """
        if self._result is None and self._outcomes is not None and self._stream.over:
            raise AnabranchError(
                "the run was stopped from outside, or by an exception in its block, "
                "before it had a result"
            ) from self._error
        if self._result is None:
            raise AnabranchError(
                "the run has no result yet; read its outcomes to the end, or leave the block"
            )
        return self._result

    @property
    def usage(self) -> Usage:
        """What was charged until now."""
        return (self.pool and self.pool.usage()) or NO_USAGE

    def cancel(self, which: Which, *, reason: str = "cancelled") -> int:
        """Cancel the branches whose paths a glob or predicate chooses; return how many.

        In a glob ``*`` does not cross ``/`` and ``**`` does.
        """
        chosen = matcher(which)
        check_reason("run.cancel", reason)
        check_thread("run.cancel")
        return sum(scheduler.cancel(chosen, reason=reason) for scheduler in list(self._schedulers))

    def stop(self, reason: str = "stopped") -> None:
        """Cancel the steps that run now, and pull nothing more; the run then has failed.

        Who leaves a ``map_over`` without an end before its end needs this: leaving waits for it.
        """
        check_reason("run.stop", reason)
        check_thread("run.stop")
        schedulers = list(self._schedulers)
        for scheduler in schedulers:
            scheduler.stop(reason)
        if self._guard is None:
            self._stopped = self._stopped or reason
        elif not schedulers:
            self._guard.stop(reason)

    def snapshot(self) -> Snapshot:
        """Tell the state of the run now."""
        if self._outcomes is None:
            raise AnabranchError("the run was not started yet; write: async with pipeline.open()")
        steps = []
        abandoned = tuple(io_lane(self._host).abandoned)
        for scheduler in self._schedulers:
            ledger = scheduler.ledger
            waiting = ledger.waiting()
            running = [each for hand in ledger.hands if (each := hand.running()) is not None]
            ended, more = ledger.read + len(ledger.ended), scheduler.is_fed()
            steps.append(
                StepSnapshot(
                    step=ledger.step,
                    limit=ledger.limit(),
                    running=tuple(sorted(branch.key for branch in running)),
                    queued=len(waiting),
                    ended=ended,
                    stubborn={} if ledger.grace is None else ledger.grace.stubborn(),
                    in_use=ledger.limiters[0].borrowed_tokens if ledger.limiters else len(running),
                    reason=moved(ledger),
                    waiting=tuple([branch.key for branch in waiting]),
                    why=why_queued(ledger, abandoned) if waiting or more else "",
                    pulled=ended + len(running) + len(waiting) if more else None,
                )
            )
        return Snapshot(steps=tuple(steps), abandoned=abandoned)

    def why_waiting(self, key: str) -> str:
        """Say why the branch of that path has not begun, or has no thread yet."""
        snapshot = self.snapshot()
        lane = io_lane(self._host)
        for scheduler in self._schedulers:
            for hand in scheduler.ledger.hands:
                branch = hand.running()
                if branch is not None and branch.key == key:
                    return why_in_lane(branch, hand.thread_ident() is not None, lane) or RUNS
            alarm = scheduler.ledger.alarm
            if alarm is not None and any(each.key == key for each in alarm.waiting()):
                return NEXT_ATTEMPT
        return snapshot.why_waiting(key)

    def began(self, pool: Pool, guard: Guard) -> None:
        """Hear that the run starts, with what it spends and what guards it."""
        self.pool, self._guard = pool, guard
        if self._stopped:
            guard.stop(self._stopped)

    def opened(self, scheduler: Scheduler) -> None:
        """Hear that a step has opened its scheduler."""
        self._schedulers[scheduler] = None

    def closed(self, scheduler: Scheduler) -> None:
        """Hear that a step's scheduler has closed."""
        self._schedulers.pop(scheduler, None)

    def ended(self, scheduler: Scheduler, branch: Branch) -> None:
        """Hear that a branch has ended."""
        if self.outcomes.nobody_reads:
            return
        self._stream.ended.append(branch)
        self.outcomes.wake()

    async def _work(self) -> None:
        try:
            self._result = await self._start(self)
        except UsageLimitExceededError as error:
            self._result, self._error = error.result, error
        except Exception as error:
            self._error = error
        finally:
            self._stream.over = True
            self.outcomes.wake()

    def _has_ended(self) -> bool:
        return self._stream.over


class _Stream:
    """Keep the branches that have ended and were not read, over all steps of a run."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.ended: deque[Branch] = deque()
        self.read = 0
        self.over = False
