"""Run branches side by side, each with the step's input, and fold how they ended into one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TypeVar

import attrs

from anabranch._branch import THREAD, Branch
from anabranch._host import Host
from anabranch._ledger import Ledger
from anabranch._runtime import check_home
from anabranch._scheduler import Scheduler
from anabranch._work import Status, check_seconds
from anabranch.abc import Limiter
from anabranch.errors import ConfigurationError
from anabranch.events import StepFinished, StepStarted
from anabranch.lanes._thread import IO_LIMIT, io_lane
from anabranch.pipeline._config import BranchFailureStrategy, limit_of
from anabranch.pipeline._node import Frame, Node
from anabranch.pipeline._plan import Branches, Plan
from anabranch.pipeline._result import StepResult, made

T = TypeVar("T", contravariant=True)  # noqa: PLC0105  # types are for people to read

UNBOUNDED_IS_FINE_TO = 64
SLICE = 2048  # branches that are made, or folded, before the loop goes round: about a millisecond


class UnboundedWarning(UserWarning):
    """Warn that a step runs more than 64 branches at once, because nothing bounds it."""


@attrs.frozen(kw_only=True)
class Terms:
    """Say under which limit, how long, and how strictly a step runs its branches."""

    limit: int | Limiter | None
    tracks_completion: bool
    timeout: float | None
    on_branch_failure: BranchFailureStrategy

    def limit_now(self) -> float | None:
        """Return the step's limit as a number; None for none."""
        if isinstance(self.limit, Limiter):
            return self.limit.total_tokens
        return self.limit


class ParallelStep(Node[T, dict[str, Any]]):
    """Run branches side by side; made by ``Step.parallel``."""

    __slots__ = ("_by_key", "_plans", "_terms", "name")

    name: str | None
    _by_key: Mapping[str, Plan]
    _plans: tuple[Plan, ...]
    _terms: Terms

    def __init__(self, name: str | None, plans: tuple[Plan, ...], terms: Terms) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_plans", plans)
        object.__setattr__(self, "_by_key", {plan.key: plan for plan in plans})
        object.__setattr__(self, "_terms", terms)

    def __repr__(self) -> str:
        return f"<Step.parallel {self.name or ''}: {len(self._plans)} branches>"

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run the branches to their end."""
        terms, run = self._terms, frame.run
        scheduler = scheduler_of(terms, frame, name, len(self._plans))
        now = run.clock()
        plans, args = self._plans, (data,)
        branches = [plan.branch(plan.key, args, frame, now) for plan in plans[:SLICE]]
        for start in range(SLICE, len(plans), SLICE):
            await run.host.runtime.lowlevel.checkpoint()
            more = plans[start : start + SLICE]
            branches += [plan.branch(plan.key, args, frame, now) for plan in more]
        if not branches:
            return StepResult(
                name=name,
                success=False,
                status=Status.FAILED,
                feedback="it has no branches, so nothing ran; give it at least one",
            )
        if run.delivery is not None:
            frame.emit(StepStarted(now, frame.path + name, len(branches), terms.limit_now()))
        try:
            wider = wider_io_lane(terms, run.host, self._plans)
            if wider is None:
                await scheduler.run_all(branches)
            else:
                with wider:
                    await scheduler.run_all(branches)
        except BaseException as error:
            if frame.is_cancelled_by(error):
                why = scheduler.ledger.why_cancelled()
                fold = self._fold(name, branches, scheduler.ledger, now, why)
                frame.keep(_folded(fold))
            raise
        ledger = scheduler.ledger
        why = ledger.why_cancelled() if ledger.cut_off else ""
        fold = self._fold(name, branches, ledger, now, why)
        large = len(branches) > SLICE
        result = await _folded_in_slices(fold, run.host) if large else _folded(fold)
        if run.delivery is not None:
            frame.emit(StepFinished(run.clock(), frame.path + name, str(result.status)))
        return result

    def _fold(
        self, name: str, branches: list[Branch], ledger: Ledger, started_at: float, why: str
    ) -> Iterator[StepResult[Any] | None]:
        """Fold how the branches ended, a slice at a time; the last thing that comes is the result.

        ``why`` says what stopped the step, if something did.
        """
        results = Branches(self._by_key, branches, self._by_key, "branch", name)
        output: dict[str, Any] = {}
        good = 0
        for start in range(0, len(branches), SLICE):
            if start:
                yield None
            slices = self._plans[start : start + SLICE], branches[start : start + SLICE]
            for plan, branch in zip(*slices, strict=True):
                if branch.status is Status.SUCCEEDED:
                    good += 1
                    output[plan.key] = branch.value.output if plan.nested else branch.value
                else:
                    output[plan.key] = results[plan.key]
        order: list[str] = []
        if self._terms.tracks_completion:
            path = len(branches[0].key) - len(self._plans[0].key)
            ended = iter(ledger.ended)
            while some := [branch.key[path:] for branch in islice(ended, SLICE)]:
                order += some
                if len(some) == SLICE:
                    yield None
        success, status, words = verdict_of(self._terms, good, len(branches), why)
        yield made(
            StepResult,
            name=name,
            output=output,
            success=success,
            status=status,
            feedback=words,
            reason=why,
            error=None if success else group_of(name, results),
            latency_s=ledger.clock() - started_at,
            branches=results,
            completion_order=tuple(order),
        )


def _folded(fold: Iterator[StepResult[Any] | None]) -> StepResult[Any]:
    """Return what a fold comes to."""
    return next(result for result in fold if result is not None)


async def _folded_in_slices(fold: Iterator[StepResult[Any] | None], host: Host) -> StepResult[Any]:
    """Return what a fold comes to, and let the loop go round between two slices."""
    for result in fold:
        if result is not None:
            return result
        await host.runtime.lowlevel.checkpoint()
    raise AssertionError("a fold ends with its result")


def terms_of(
    where: str,
    concurrency: object,
    max_concurrency: object,
    track_completion: object,
    timeout: float | None,
    on_branch_failure: object,
) -> Terms:
    """Check a step's options.

    Raises:
        ConfigurationError: what cannot be meant.
    """
    limit, tracks = limit_of(where, concurrency, max_concurrency, track_completion)
    check_seconds(where, "timeout", timeout)
    if not isinstance(on_branch_failure, BranchFailureStrategy):
        raise ConfigurationError(
            f"{where}: on_branch_failure={on_branch_failure!r} "
            f"({type(on_branch_failure).__name__}) is no BranchFailureStrategy; "
            f"give BranchFailureStrategy.PROPAGATE or .IGNORE"
        )
    return Terms(
        limit=limit,
        tracks_completion=tracks,
        timeout=timeout,
        on_branch_failure=on_branch_failure,
    )


def scheduler_of(terms: Terms, frame: Frame, name: str, count: float, **more: Any) -> Scheduler:
    """Make the scheduler of a step: its limit, and those of the pipelines around it."""
    own = [] if terms.limit is None else [terms.limit]
    if isinstance(terms.limit, int) and count <= terms.limit and frame.run.live is None:
        own = []  # it cannot bind, so it costs nothing
    elif own:
        check_home(own[0])
    if terms.limit is None and not frame.limiters and count > UNBOUNDED_IS_FINE_TO:
        warnings.warn(
            f"step {name!r} runs {count} branches at once, because nothing bounds it; "
            f"give it max_concurrency=",
            UnboundedWarning,
            stacklevel=2,
        )
    live = frame.run.live
    return Scheduler(
        [*own, *frame.limiters],
        delivery=frame.run.delivery,
        step=frame.path + name,
        timeout=terms.timeout,
        reads=False,
        leases=live is not None,
        live=live,
        host=frame.run.host,
        why_outside=frame.run.why_cancelled,
        **more,
    )


def wider_io_lane(
    terms: Terms, host: Host, plans: tuple[Plan, ...]
) -> AbstractContextManager[None] | None:
    """Raise the io lane's limit to the step's, if the step has threads and a larger limit."""
    limit = terms.limit
    if isinstance(limit, int) and limit > IO_LIMIT and any(plan.kind == THREAD for plan in plans):
        return io_lane(host).at_least(limit)
    return None


def verdict_of(terms: Terms, good: int, total: int, why: str) -> tuple[bool, Status, str]:
    """Fold how many branches succeeded, and what stopped the step, into how the step ended.

    Returns whether it succeeded, its status, and a sentence for people.
    """
    words = f"{good} of {total} branches succeeded"
    if why:
        own = why.startswith("deadline") and why.endswith("(timeout=)")  # not the pipeline's
        status = Status.TIMED_OUT if own else Status.CANCELLED
        return False, status, f"{words}; {why}"
    if good == total or (good and terms.on_branch_failure is BranchFailureStrategy.IGNORE):
        return True, Status.SUCCEEDED, words
    return False, Status.FAILED, words


def group_of(name: str, results: Mapping[str, StepResult[Any]]) -> ExceptionGroup[Exception] | None:
    """Group the errors of a step's branches; None if no branch has one."""
    errors: list[Exception] = []
    for result in results.values():
        if result.success:
            continue
        if isinstance(result.error, Exception):
            errors.append(result.error)
    if not errors:
        return None
    return ExceptionGroup(f"{len(errors)} of {len(results)} branches of step {name}", errors)
