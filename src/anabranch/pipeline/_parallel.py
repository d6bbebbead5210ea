"""Run branches side by side, each with the step's input, and fold how they ended into one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
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
                frame.keep(self._result(name, branches, scheduler.ledger, now, why))
                frame.stopped(name)
            raise
        ledger = scheduler.ledger
        why = ledger.why_cancelled() if ledger.cut_off else ""
        if len(branches) > SLICE:
            result = await self._result_in_slices(name, branches, ledger, now, why)
        else:
            result = self._result(name, branches, ledger, now, why)
        if run.delivery is not None:
            frame.emit(StepFinished(run.clock(), frame.path + name, str(result.status)))
        return result

    def _result(
        self, name: str, branches: list[Branch], ledger: Ledger, started_at: float, why: str
    ) -> StepResult[Any]:
        """Fold how the branches ended; ``why`` says what stopped the step, if something did."""
        results = Branches(self._by_key, branches, self._by_key, "branch", name)
        output: dict[str, Any] = {}
        good = self._fold(self._plans, branches, results, output)
        keys = self._keys_of(ledger.ended, branches)
        return self._made(name, results, output, good, keys, ledger.clock() - started_at, why)

    async def _result_in_slices(
        self, name: str, branches: list[Branch], ledger: Ledger, started_at: float, why: str
    ) -> StepResult[Any]:
        """Fold like ``_result``, and let the loop go round between two slices."""
        checkpoint = ledger.runtime.lowlevel.checkpoint
        results = Branches(self._by_key, branches, self._by_key, "branch", name)
        output: dict[str, Any] = {}
        keys: list[str] = []
        good = 0
        ended = iter(ledger.ended)
        for start in range(0, len(branches), SLICE):
            await checkpoint()
            some = slice(start, start + SLICE)
            good += self._fold(self._plans[some], branches[some], results, output)
            keys += self._keys_of(islice(ended, SLICE), branches)
        seconds = ledger.clock() - started_at
        return self._made(name, results, output, good, keys, seconds, why)

    def _fold(
        self,
        plans: tuple[Plan, ...],
        branches: list[Branch],
        results: Branches,
        output: dict[str, Any],
    ) -> int:
        """Put what branches hand on into ``output``; return how many succeeded."""
        good = 0
        for plan, branch in zip(plans, branches, strict=True):
            if branch.status is Status.SUCCEEDED:
                good += 1
                output[plan.key] = branch.value.output if plan.nested else branch.value
            else:
                output[plan.key] = results[plan.key]
        return good

    def _keys_of(self, ended: Iterable[Branch], branches: list[Branch]) -> list[str]:
        """List the keys of branches that ended, if anybody is to know their order."""
        if not self._terms.tracks_completion:
            return []
        path = len(branches[0].key) - len(self._plans[0].key)
        return [branch.key[path:] if path else branch.key for branch in ended]

    def _made(
        self,
        name: str,
        results: Branches,
        output: dict[str, Any],
        good: int,
        keys: list[str],
        seconds: float,
        why: str,
    ) -> StepResult[Any]:
        success, status, words = verdict_of(self._terms, good, len(results), why)
        return made(
            StepResult,
            name=name,
            output=output,
            success=success,
            status=status,
            feedback=words,
            reason=why,
            error=None if success else group_of(name, results),
            latency_s=seconds,
            branches=results,
            completion_order=tuple(keys),
        )


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
