"""Run one step for each item of an iterable, pulled only as fast as it runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Sized,
)
from contextlib import nullcontext
from itertools import count, islice
from typing import Any, TypeAlias, TypeVar

import attrs

from anabranch._branch import Branch
from anabranch._pool import Account, Opening, paid_by
from anabranch._scheduler import Scheduler
from anabranch._tries import words_of
from anabranch._work import Status
from anabranch.errors import ConfigurationError
from anabranch.events import StepFinished, StepStarted
from anabranch.pipeline._check import check_arity
from anabranch.pipeline._conclude import conclude, refused
from anabranch.pipeline._config import default_limit
from anabranch.pipeline._depth import depth_around
from anabranch.pipeline._node import Frame, Node
from anabranch.pipeline._plan import Branches, Plan, output_of, title
from anabranch.pipeline._result import StepResult
from anabranch.pipeline._returned import charge_all, costs_of, uncharged
from anabranch.pipeline._stopped import is_spared, why_stopped
from anabranch.pipeline._terms import (
    Terms,
    group_of,
    scheduler_of,
    verdict_of,
    wider_io_lane,
)

T = TypeVar("T", contravariant=True)  # noqa: PLC0105  # types are for people to read
U = TypeVar("U")

SLICE = 2048  # items that are folded before the loop goes round: about a millisecond
Fold: TypeAlias = Generator[None, None, StepResult[Any]]


class MapStep(Node[T, list[U]]):
    """Run one step for each item; made by ``Step.map_over``.

    Its keys are ``"0"``, ``"1"``, ...; its output is a list in the order of the items, where the
    entry of a failed one is its StepResult.
    As the last step of a run that is followed live (``Pipeline.open``), it keeps counts instead,
    unless there is a ``reduce`` that is to be given them.
    """

    __slots__ = ("_depth", "_items", "_plan", "_terms", "name")

    name: str
    _depth: int
    _items: Any
    _plan: Plan
    _terms: Terms

    def __init__(self, name: str, plan: Plan, items: Any, terms: Terms) -> None:
        if items is not None and not callable(items) and _kind_of(items) is None:
            raise ConfigurationError(
                f"Step.map_over {name!r}: items={items!r:.80} ({type(items).__name__}) is neither "
                f"iterable nor callable; give items, a function of the input, or None for the input"
            )
        if callable(items) and _kind_of(items) is None:
            check_arity(f"Step.map_over {name!r}: items", items, "items is called as fn(input)")
        object.__setattr__(self, "name", name)
        depth = depth_around(f"Step.map_over {name!r}", (plan.depth,))
        object.__setattr__(self, "_depth", depth)
        object.__setattr__(self, "_plan", plan)
        object.__setattr__(self, "_items", items)
        object.__setattr__(self, "_terms", terms)

    def __repr__(self) -> str:
        return f"<Step.map_over {title(self.name)}>"

    def needs_context(self) -> str:
        """Name the first step in it that does nothing without a context; empty for none."""
        return self._plan.needs_context()

    def depth(self) -> int:
        """Count the steps in it that are nested in each other."""
        return self._depth

    async def run_in(self, data: Any, frame: Frame, name: str) -> StepResult[Any]:
        """Run the step for each item."""
        started_at, opening = frame.run.clock(), Opening(frame)
        try:
            with paid_by(None, opening):
                items = self._items_of(data)
                total = len(items) if isinstance(items, Sized) else None
            rules = self._terms.rules(f"Step.map_over {name!r}", frame.path, total)
        except Exception as error:  # the user's own, or a Halt that cannot be meant
            return attrs.evolve(refused(name, error), **costs_of(opening.account))
        terms = self._terms_for(total, frame)
        keeps = not (frame.last and frame.run.live is not None) or terms.reduce is not None
        scheduler = scheduler_of(
            terms, frame, name, math.inf if total is None else total, rules, keeps=keeps
        )
        inside = frame.below(scheduler, rules) if self._plan.nests else frame
        mapping = _Mapping(self._plan, inside, scheduler, keeps)
        frame.emit(StepStarted(started_at, frame.path + name, total, terms.limit_now()))
        broke: Exception | None = None
        try:
            with wider_io_lane(terms, frame.run.host, (self._plan,)) or nullcontext():
                await mapping.feed(items, opening.account)
        except Exception as raised:  # the iterable's own: branches never raise
            broke = raised
        except BaseException as error:
            if frame.is_cancelled_by(error):
                why = scheduler.ledger.why_cancelled()
                frame.keep(at_once(mapping.result(name, terms, started_at, why)))
                frame.stopped(name)
            raise
        cut_off = scheduler.ledger.cut_off or scheduler.ledger.stopped
        why = scheduler.ledger.why_cancelled() if cut_off else ""
        halted = ("" if rules is None else rules.halted) or scheduler.ledger.pressure
        how = (name, terms, started_at, why, broke, halted)
        checkpoint = scheduler.ledger.runtime.lowlevel.checkpoint
        try:
            fold = mapping.result(*how)
            result = await in_slices(fold, checkpoint) if mapping.is_large() else at_once(fold)
        except BaseException as error:
            if frame.is_cancelled_by(error):
                frame.keep(at_once(mapping.result(*how)))
                frame.stopped(name)
            raise
        if result.success and terms.reduce is not None:
            result = await conclude(result, frame, scheduler.ledger, terms.reduce)
        frame.emit(StepFinished(frame.run.clock(), frame.path + name, str(result.status)))
        return result

    def _items_of(self, data: Any) -> Iterable[Any] | AsyncIterable[Any]:
        items = self._items
        if items is None:
            items = data
        elif _kind_of(items) is None:
            items = items(data)
        if _kind_of(items) is None:
            raise ConfigurationError(
                f"Step.map_over {self.name!r}: {items!r:.80} ({type(items).__name__}) is not "
                f"iterable; hand the step an iterable, or give items="
            )
        found: Iterable[Any] | AsyncIterable[Any] = items
        return found

    def _terms_for(self, total: int | None, frame: Frame) -> Terms:
        """Bound what has no end that could be known, if nothing else does."""
        terms = self._terms
        if terms.limit is None and total is None and not frame.limiters:
            return attrs.evolve(terms, limit=default_limit())
        return terms


class _Mapping:
    """Keep one run's branches, or only their counts."""

    def __init__(self, plan: Plan, frame: Frame, scheduler: Scheduler, keeps: bool) -> None:
        self.scheduler = scheduler
        self._plan = plan
        self._frame = frame
        self._keeps = keeps
        self._numbers = count()
        self._branches: list[Branch] = []

    async def feed(self, items: Iterable[Any] | AsyncIterable[Any], spent: Account | None) -> None:
        """Run the step for each item; ``spent`` is what the items have cost until now."""
        scheduler = self.scheduler
        async with scheduler:
            scheduler.ledger.account = spent
            if spent is not None:  # which may have passed the budget
                await scheduler.ledger.runtime.lowlevel.checkpoint_if_cancelled()
            with paid_by(None, scheduler.ledger):  # whoever pulls pays from there
                scheduler.feed_with(items, self.accept)
            if self._frame.run.live is not None:
                await scheduler.all_fed()

    def accept(self, item: Any) -> Branch:
        """Make the branch of one item."""
        frame = self._frame
        branch = self._plan.branch(str(next(self._numbers)), (item,), frame, frame.run.clock())
        stopped = self.scheduler.ledger.stopped  # by what pulling this item has cost
        if stopped:
            branch.strike(stopped)
        for rules in frame.rules:
            reason = rules.forbids(branch.key)
            if reason:
                branch.strike(reason)
        if self._keeps:
            self._branches.append(branch)
        return branch

    def is_large(self) -> bool:
        """Tell whether to fold it would hold the loop for longer than a moment."""
        return len(self._branches) > SLICE

    def _spared(self) -> Counter[str]:
        """Return the reasons of those that were stopped by the user's wish and are not kept."""
        guard = self._frame.run.guard
        if self._keeps or guard is None:
            return Counter()
        return guard.spared.get(self.scheduler, Counter())

    def result(
        self,
        name: str,
        terms: Terms,
        started_at: float,
        why: str,
        error: Exception | None = None,
        halted: str = "",
    ) -> Fold:
        """Fold how the items ended."""
        ledger = self.scheduler.ledger
        path = len(self._frame.path)
        keys: list[str] = []
        results = Branches(keys, self._branches, "item", name)
        counts = Counter() if self._keeps else ledger.counts
        spared = self._spared()
        for some in slices(self._branches):
            keys += [branch.key[path:] for branch in some]
            counts.update(str(branch.status) for branch in some)
            spared.update(branch.reason for branch in some if is_spared(branch))
            yield
        total, good = sum(counts.values()), counts["succeeded"]
        success, status, words = verdict_of(terms, good, total, spared.total(), why, halted)
        if total and spared.total() == total and not halted:
            halted = why_stopped(spared)
        if error is not None:
            success, status = False, Status.FAILED
            words = f"the items raised {words_of(error)}; {words}"
        elif not total and not why:
            success, status, words = True, Status.SUCCEEDED, "there was no item"
        output: list[Any] = []
        for some in slices(self._branches):
            output += [
                output_of(each) if each.status is Status.SUCCEEDED else results[each.key[path:]]
                for each in some
            ]
            yield
        if error is None and not success:
            error = group_of(name, results)
        order: list[str] = []
        ended = iter(ledger.ended if self._keeps else ())
        while some := list(islice(ended, SLICE)):
            order += [branch.key[path:] for branch in some]
            yield
        charge_all(output, self._branches, ledger)
        return StepResult(
            name=name,
            success=success,
            status=status,
            feedback=words if why else words + ledger.remark + uncharged(ledger.account),
            reason=why or halted,
            output=output if self._keeps else None,
            error=error,
            latency_s=ledger.clock() - started_at,
            branches=results,
            completion_order=tuple(order),
            counts=dict(counts),
            **costs_of(ledger.account),
        )


def slices(branches: list[Branch]) -> Iterator[list[Branch]]:
    """Yield branches as many at a time as may be folded before the loop goes round."""
    for start in range(0, len(branches), SLICE):
        yield branches[start : start + SLICE]


def at_once(fold: Fold) -> StepResult[Any]:
    """Fold without a checkpoint, for a step that is being cancelled."""
    while True:
        try:
            next(fold)
        except StopIteration as stop:
            result: StepResult[Any] = stop.value
            return result


async def in_slices(fold: Fold, checkpoint: Callable[[], Awaitable[None]]) -> StepResult[Any]:
    """Fold, and let the loop go round between two slices."""
    while True:
        try:
            next(fold)
        except StopIteration as stop:
            result: StepResult[Any] = stop.value
            return result
        await checkpoint()


def _kind_of(items: object) -> type | None:
    return next((kind for kind in (AsyncIterable, Iterable) if isinstance(items, kind)), None)
