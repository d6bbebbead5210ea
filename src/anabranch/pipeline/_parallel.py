"""Run branches side by side, each with the step's input, and fold how they ended into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from typing import Any, TypeVar

from anabranch._branch import THREAD, Branch
from anabranch._ledger import Ledger
from anabranch._scheduler import Scheduler
from anabranch._work import Status
from anabranch.errors import ConfigurationError
from anabranch.events import StepFinished, StepStarted
from anabranch.pipeline._conclude import conclude, refused
from anabranch.pipeline._depth import depth_around
from anabranch.pipeline._guard import run_guarded
from anabranch.pipeline._merge_step import Merge
from anabranch.pipeline._merge_terms import MergeTerms
from anabranch.pipeline._node import Frame, Node
from anabranch.pipeline._plan import Branches, Plan, output_of, title
from anabranch.pipeline._result import NO_COUNTS, StepResult, made
from anabranch.pipeline._returned import charge_all, uncharged
from anabranch.pipeline._rules import Rules
from anabranch.pipeline._stopped import is_spared, why_stopped
from anabranch.pipeline._terms import (
    Terms,
    group_of,
    scheduler_of,
    verdict_of,
    wider_io_lane,
)

T = TypeVar("T", contravariant=True)  # noqa: PLC0105  # types are for people to read

SLICE = 2048  # branches that are made, or folded, before the loop goes round: about a millisecond


class ParallelStep(Node[T, dict[str, Any]]):
    """Run branches side by side; made by ``Step.parallel``."""

    __slots__ = (
        "_by_key",
        "_depth",
        "_merging",
        "_nests",
        "_plans",
        "_ruled",
        "_terms",
        "_threads",
        "_urgent",
        "name",
    )

    name: str | None
    _by_key: Mapping[str, Plan]
    _depth: int
    _merging: MergeTerms | None
    _nests: bool
    _plans: tuple[Plan, ...]
    _terms: Terms
    _ruled: bool
    _threads: bool
    _urgent: bool

    def __init__(
        self,
        name: str | None,
        plans: tuple[Plan, ...],
        terms: Terms,
        merging: MergeTerms | None = None,
    ) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_merging", merging)
        object.__setattr__(self, "_plans", plans)
        object.__setattr__(self, "_by_key", {plan.key: plan for plan in plans})
        where = f"Step.parallel {name!r}" if name else "Step.parallel"
        object.__setattr__(self, "_depth", depth_around(where, (plan.depth for plan in plans)))
        object.__setattr__(self, "_nests", any(plan.nests for plan in plans))
        object.__setattr__(self, "_ruled", terms.ruled)
        object.__setattr__(self, "_terms", terms)
        object.__setattr__(self, "_threads", any(plan.kind == THREAD for plan in plans))
        object.__setattr__(self, "_urgent", any(plan.priority for plan in plans))

    def __repr__(self) -> str:
        return f"<Step.parallel {title(self.name or '')}: {len(self._plans)} branches>"

    def needs_context(self) -> str:
        """Name the first step in it that does nothing without a context; empty for none."""
        if self._merging is not None:
            return f"Step.parallel {self.name!r}" if self.name else "Step.parallel"
        nested = (plan.needs_context() for plan in self._plans if plan.nests)
        return next(filter(None, nested), "") if self._nests else ""

    def depth(self) -> int:
        """Count the steps in it that are nested in each other."""
        return self._depth

    def paths_below(self) -> list[str]:
        """List the paths of all its branches, nested ones too; ``key/**`` for those unknown."""
        return [path for plan in self._plans for path in (plan.key, *plan.paths_below())]

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run the branches to their end."""
        terms, run, plans, args = self._terms, frame.run, self._plans, (data,)
        rules = terms.rules(name, frame.path, len(plans)) if self._ruled else None
        scheduler = scheduler_of(terms, frame, name, len(plans), rules)
        now = run.clock()
        inside = frame
        if self._nests or self._merging is not None:
            try:
                inside = self._inside(name, frame, scheduler, rules)
            except ConfigurationError as error:
                return refused(name, error)
        if rules is not None:
            rules.expect(self._by_key)
        branches = [plan.branch(plan.key, args, inside, now) for plan in plans[:SLICE]]
        for start in range(SLICE, len(plans), SLICE):
            await run.host.runtime.lowlevel.checkpoint()
            more = plans[start : start + SLICE]
            branches += [plan.branch(plan.key, args, inside, now) for plan in more]
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
            wider = wider_io_lane(terms, run.host, plans) if self._threads else None
            if wider is None and terms.breach_event is None:
                await scheduler.run_all(branches, urgent=self._urgent)
            else:
                how_urgent, event = self._urgent, terms.breach_event
                with wider or nullcontext():
                    await run_guarded(scheduler, branches, run, event, urgent=how_urgent)
        except BaseException as error:
            if frame.is_cancelled_by(error):
                why = scheduler.ledger.why_cancelled()
                frame.keep(self._result(name, branches, scheduler.ledger, now, why, ""))
                frame.stopped(name)
            raise
        ledger = scheduler.ledger
        why = ledger.why_cancelled() if ledger.cut_off or ledger.stopped else ""
        halted = ("" if rules is None else rules.halted) or ledger.pressure
        how = (name, branches, ledger, now, why, halted)
        if len(branches) > SLICE:
            result = await self._result_in_slices(frame, *how)
        else:
            result = self._result(*how)
        if inside.merge is not None or terms.reduce is not None:
            result = await self._concluded(result, frame, inside.merge, branches, ledger)
        if run.delivery is not None:
            frame.emit(StepFinished(run.clock(), frame.path + name, str(result.status)))
        return result

    def _inside(self, name: str, frame: Frame, step: Scheduler, rules: Rules | None) -> Frame:
        """Return the frame for the branches, where they need one of their own."""
        if self._merging is None:
            return frame.below(step, rules)
        merge = Merge(f"step {name!r}", self._merging, frame.context)
        return frame.below(step, rules, merge)

    def _result(
        self,
        name: str,
        branches: list[Branch],
        ledger: Ledger,
        started_at: float,
        why: str,
        halted: str,
    ) -> StepResult[Any]:
        """Fold how the branches ended.

        ``why`` says what cut the step off, ``halted`` which Halt ended it early; mostly neither.
        """
        results = Branches(self._by_key, branches, "branch", name)
        output: dict[str, Any] = {}
        good = self._fold(self._plans, branches, results, output)
        keys = self._keys_of(ledger.ended, branches)
        seconds = ledger.clock() - started_at
        how = (seconds, why, halted)
        return self._made(name, results, output, good, branches, keys, ledger, *how)

    async def _result_in_slices(
        self,
        frame: Frame,
        name: str,
        branches: list[Branch],
        ledger: Ledger,
        started_at: float,
        why: str,
        halted: str,
    ) -> StepResult[Any]:
        """Fold like ``_result``, and let the loop go round between two slices."""
        checkpoint = ledger.runtime.lowlevel.checkpoint
        results = Branches(self._by_key, branches, "branch", name)
        output: dict[str, Any] = {}
        keys: list[str] = []
        good = 0
        ended = iter(ledger.ended)
        for start in range(0, len(branches), SLICE):
            try:
                await checkpoint()
            except BaseException as error:
                if frame.is_cancelled_by(error):
                    stopped = ledger.why_cancelled()
                    frame.keep(self._result(name, branches, ledger, started_at, stopped, halted))
                    frame.stopped(name)
                raise
            some = slice(start, start + SLICE)
            good += self._fold(self._plans[some], branches[some], results, output)
            keys += self._keys_of(islice(ended, SLICE), branches)
        seconds = ledger.clock() - started_at
        how = (seconds, why, halted)
        return self._made(name, results, output, good, branches, keys, ledger, *how)

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
                output[plan.key] = output_of(branch) if plan.nests else branch.value
            else:
                output[plan.key] = results[plan.key]
        return good

    def _keys_of(self, ended: Iterable[Branch], branches: list[Branch]) -> list[str]:
        """List the keys of branches that ended, if anybody is to know their order."""
        if not self._terms.tracks_completion:
            return []
        path = len(branches[0].key) - len(self._plans[0].key)
        return [branch.key[path:] if path else branch.key for branch in ended]

    async def _concluded(
        self,
        result: StepResult[Any],
        frame: Frame,
        merge: Merge | None,
        branches: list[Branch],
        ledger: Ledger,
    ) -> StepResult[Any]:
        """Merge and reduce, if the branches went well."""
        try:
            if result.success:
                keys = self._merged_keys(branches, ledger)
                result = await conclude(result, frame, ledger, self._terms.reduce, merge, keys)
        finally:
            if merge is not None:
                merge.let_go()
        return result

    def _merged_keys(self, branches: list[Branch], ledger: Ledger) -> Iterator[str]:
        """Yield the keys of branches that merge, in the order in which they do."""
        path = len(branches[0].key) - len(self._plans[0].key)
        completed = self._merging is not None and self._merging.order == "completed"
        for branch in ledger.ended if completed else branches:
            if branch.status is Status.SUCCEEDED:
                yield branch.key[path:]

    def _made(
        self,
        name: str,
        results: Branches,
        output: dict[str, Any],
        good: int,
        branches: list[Branch],
        keys: list[str],
        ledger: Ledger,
        seconds: float,
        why: str,
        halted: str,
    ) -> StepResult[Any]:
        charge_all(output.values(), branches, ledger)
        total = len(branches)
        spared = 0
        if good < total and (not why or why == halted):  # else nobody asks
            spared = sum(map(is_spared, branches))
        success, status, words = verdict_of(self._terms, good, total, spared, why, halted)
        if spared == total and not halted:
            halted = why_stopped(branch.reason for branch in branches)
        account = ledger.account
        fields = {
            "name": name,
            "success": success,
            "status": status,
            "output": output,
            "error": None if success else group_of(name, results),
            "feedback": words if why else words + ledger.remark + uncharged(account),
            "reason": why or halted,
            "attempts": 1,
            "attempt_errors": (),
            "latency_s": seconds,
            "queued_s": 0.0,
            "cost_usd": None if account is None else account.cost_usd,
            "token_counts": None if account is None else account.tokens,
            "branches": results,
            "completion_order": tuple(keys),
            "counts": NO_COUNTS,
            "steps": (),
        }
        return made(StepResult, fields)
