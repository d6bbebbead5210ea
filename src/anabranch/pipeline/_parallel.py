"""Run branches side by side, each with the step's input, and fold how they ended into one result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import attrs

from anabranch._branch import THREAD, Branch
from anabranch._host import Host
from anabranch._ledger import Ledger
from anabranch._scheduler import Scheduler
from anabranch._work import Status, check_seconds
from anabranch.abc import Limiter
from anabranch.errors import ConfigurationError
from anabranch.events import StepFinished, StepStarted
from anabranch.lanes._thread import IO_LIMIT, io_lane
from anabranch.pipeline._config import (
    BranchFailureStrategy,
    MergeStrategy,
    limit_of,
    refuse_options,
)
from anabranch.pipeline._node import Frame, Node
from anabranch.pipeline._plan import Plan, output_of, result_of
from anabranch.pipeline._result import Branches, StepResult

T = TypeVar("T", contravariant=True)

UNBOUNDED_IS_FINE_TO = 64

_OPTIONS = ("concurrency", "max_concurrency", "track_completion", "timeout", "on_branch_failure")
_LATER = {
    "merge_strategy": MergeStrategy.NO_MERGE,
    "merge_config": None,
    "merge_order": "declared",
    "halt": None,
    "priorities": None,
    "cancel_when": (),
    "cancel_grace": 5.0,
    "breach_event": None,
    "context_include_keys": None,
    "field_mapping": None,
    "reduce": None,
}


class UnboundedWarning(UserWarning):
    """Warn that a step runs more than 64 branches at once, because nothing bounds it."""


@attrs.frozen(kw_only=True)
class Terms:
    """Say under which limit, how long, and how strictly a step runs its branches."""

    limit: int | Limiter | None
    tracks_completion: bool
    timeout: float | None
    on_branch_failure: BranchFailureStrategy


class ParallelStep(Node[T, dict[str, Any]]):
    """Run branches side by side; made by ``Step.parallel``.

    Args:
        concurrency: a ConcurrencyConfig; None for the simple path, every branch at once.
        max_concurrency: short for ``ConcurrencyConfig(max_concurrent_branches=n)``, or a
            CapacityLimiter of the host's loop, shared with whoever else uses it.
        track_completion: False leaves ``completion_order`` empty.
        timeout: seconds for the whole step, 30 unless said; None for none.
        on_branch_failure: PROPAGATE (the step fails; siblings finish) or IGNORE (it succeeds if
            one branch did).

    Raises:
        ConfigurationError: what cannot be meant; NotBuiltYetError for what a later version brings.
    """

    __slots__ = ("_by_key", "_plans", "_terms", "name")

    name: str | None

    def __init__(
        self, name: str | None, plans: tuple[Plan, ...], options: Mapping[str, Any]
    ) -> None:
        where = "Step.parallel" if name is None else f"Step.parallel {name!r}"
        refuse_options(where, options, _OPTIONS, _LATER)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_plans", plans)
        object.__setattr__(self, "_by_key", {plan.key: plan for plan in plans})
        object.__setattr__(self, "_terms", terms_of(where, options, timeout=30.0))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is immutable; make another step")

    def __repr__(self) -> str:
        return f"<Step.parallel {self.name or ''}: {len(self._plans)} branches>"

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run the branches to their end."""
        terms, run = self._terms, frame.run
        scheduler = scheduler_of(terms, frame, name, len(self._plans))
        now = run.clock()
        branches = [plan.branch(plan.key, data, frame, now) for plan in self._plans]
        if not branches:
            return StepResult(
                name=name,
                success=False,
                status=Status.FAILED,
                feedback="it has no branches, so nothing ran; give it at least one",
            )
        frame.emit(StepStarted(now, frame.path + name, len(branches)))
        try:
            with threads_for(terms, run.host, self._plans):
                await scheduler.run_all(branches)
        except BaseException:
            why = scheduler.ledger.why_cancelled()
            run.interrupted.append(self._result(name, branches, scheduler.ledger, now, why))
            raise
        ledger = scheduler.ledger
        why = ledger.why_cancelled() if ledger.cut_off else ""
        result = self._result(name, branches, ledger, now, why)
        frame.emit(StepFinished(run.clock(), frame.path + name, str(result.status)))
        return result

    def _result(
        self, name: str, branches: list[Branch], ledger: Ledger, started_at: float, why: str
    ) -> StepResult[Any]:
        """Fold how the branches ended; ``why`` says what stopped the step, if something did."""
        by_key = dict(zip(self._by_key, branches, strict=True))

        def of(key: str, branch: Branch) -> StepResult[Any]:
            return result_of(self._by_key[key], key, branch, f"branch {key!r} of step {name!r}")

        results = Branches(by_key, of)
        succeeded = Status.SUCCEEDED
        output = {
            plan.key: output_of(plan, branch)
            if branch.status is succeeded
            else results[plan.key]
            for plan, branch in zip(self._plans, branches, strict=True)
        }
        order: tuple[str, ...] = ()
        if self._terms.tracks_completion:
            path = len(branches[0].key) - len(self._plans[0].key)
            order = tuple([branch.key[path:] for branch in ledger.ended])
        good = sum([branch.status is succeeded for branch in branches])
        verdict = verdict_of(self._terms, good, len(branches), why)
        return StepResult(
            name=name,
            output=output,
            error=None if verdict["success"] else group_of(name, results),
            latency_s=ledger.clock() - started_at,
            branches=results,
            completion_order=order,
            **verdict,
        )


def terms_of(where: str, options: Mapping[str, Any], *, timeout: float | None) -> Terms:
    """Check a step's options; ``timeout`` is the default of its kind.

    Raises:
        ConfigurationError: what cannot be meant.
    """
    limit, tracks = limit_of(
        where,
        options.get("concurrency"),
        options.get("max_concurrency"),
        options.get("track_completion"),
    )
    seconds = options.get("timeout", timeout)
    check_seconds(where, "timeout", seconds)
    strategy = options.get("on_branch_failure", BranchFailureStrategy.PROPAGATE)
    if not isinstance(strategy, BranchFailureStrategy):
        raise ConfigurationError(
            f"{where}: on_branch_failure={strategy!r} ({type(strategy).__name__}) is no "
            f"BranchFailureStrategy; give BranchFailureStrategy.PROPAGATE or .IGNORE"
        )
    return Terms(
        limit=limit, tracks_completion=tracks, timeout=seconds, on_branch_failure=strategy
    )


def scheduler_of(
    terms: Terms, frame: Frame, name: str, count: float, **more: Any
) -> Scheduler:
    """Make the scheduler of a step: its limit, and those of the pipelines around it."""
    own = [] if terms.limit is None else [terms.limit]
    if not own and not frame.limiters and count > UNBOUNDED_IS_FINE_TO:
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
        **more,
    )


def threads_for(
    terms: Terms, host: Host, plans: tuple[Plan, ...]
) -> AbstractContextManager[None]:
    """Raise the io lane's limit to the step's, if it has threads and a larger limit."""
    limit = terms.limit
    if isinstance(limit, int) and limit > IO_LIMIT and any(plan.kind == THREAD for plan in plans):
        return io_lane(host).at_least(limit)
    return nullcontext()


def verdict_of(terms: Terms, good: int, total: int, why: str) -> dict[str, Any]:
    """Fold how many branches succeeded, and what stopped the step, into how the step ended."""
    ignores = terms.on_branch_failure is BranchFailureStrategy.IGNORE
    success = not why and (good > 0 if ignores else good == total)
    status = Status.SUCCEEDED if success else Status.FAILED
    if why:
        status = Status.TIMED_OUT if why.startswith("deadline") else Status.CANCELLED
    feedback = f"{good} of {total} branches succeeded"
    if why:
        feedback += f"; {why}"
    return {"success": success, "status": status, "reason": why, "feedback": feedback}


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
    return ExceptionGroup(f"{len(errors)} of {len(results)} branches of step {name!r}", errors)
