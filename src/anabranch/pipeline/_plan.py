"""Prepare a branch of a step when the step is made, and read its result when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from anabranch._branch import ASYNC, NO_KWARGS, Branch, run_in
from anabranch._breaker import CircuitBreaker
from anabranch._retry import Retry
from anabranch._tries import Tries, words_of
from anabranch._work import Status
from anabranch.pipeline._context import copy_for_branch
from anabranch.pipeline._nested import NestedStepError
from anabranch.pipeline._node import Frame, Node, run_nested
from anabranch.pipeline._result import SHOWN, StepResult, made, stand_in

TITLE = 200  # characters of a name in a note
NO_ASYNCIO = (  # what asyncio's things, or trio, say of a loop that is not there
    "no running event loop",
    "no current event loop",
    "written for some other framework like asyncio",
    "'NoneType' object has no attribute 'create_future'",
)
BLANK: dict[str, Any] = {
    field.name: None if field.default is attrs.NOTHING else field.default
    for field in attrs.fields(StepResult)
}
# What the result of a branch takes over from the nested step that it was.
OF_STEP = ("output", "error", "feedback", "branches", "completion_order", "counts", "steps")
ASYNCIO_NOTE = (
    "this ran without an asyncio loop, on trio or in a thread; "
    "a branch that needs asyncio runs with loop='asyncio' (run_sync, anabranch run --loop)"
)


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """Keep what all branches of one key have in common, run after run."""

    key: str
    node: Node[Any, Any]
    kind: int
    fn: Callable[..., Any]
    lane: Any = None
    timeout: float | None = None
    on_cancel: str = "abandon"
    takes_context: bool = False
    nested: bool = False
    priority: int = 0
    retry: Retry | None = None
    breaker: CircuitBreaker | None = None
    fallback: Plan | None = None
    takes_error: bool = False  # a fallback's
    simple: bool = attrs.field(init=False)  # a plain call of fn(data), nothing to look up
    nests: bool = attrs.field(init=False)  # it, or what it falls back to, is a step of its own
    depth: int = attrs.field(init=False)  # of the steps nested in it

    @simple.default
    def _simple(self) -> bool:
        terms = self.takes_context or self.nested or self.lane is not None or self.timeout
        terms = terms or self.breaker is not None
        tried = self.retry is not None or self.fallback is not None
        return not terms and not tried and self.on_cancel == "abandon"

    @nests.default
    def _nests(self) -> bool:
        return self.nested or (self.fallback is not None and self.fallback.nests)

    @depth.default
    def _depth(self) -> int:
        own = self.node.depth() if self.nested else 0
        return own if self.fallback is None else max(own, self.fallback.depth)

    def needs_context(self) -> str:
        """Name the first step in it that does nothing without a context; empty for none."""
        own = self.node.needs_context() if self.nested else ""
        return own or ("" if self.fallback is None else self.fallback.needs_context())

    def paths_below(self) -> list[str]:
        """List the paths of all branches nested in it; ``key/**`` where nobody can know them."""
        if not self.nests:
            return []
        known = self.node.paths_below() if self.nested and self.fallback is None else None
        return [f"{self.key}/**"] if known is None else [f"{self.key}/{path}" for path in known]

    def as_urgent_as(self, priorities: Mapping[str, int]) -> Plan:
        """Return the plan with the priority that its key has there, or 0."""
        return attrs.evolve(self, priority=priorities.get(self.key, 0))

    def branch(
        self,
        key: str,
        args: tuple[Any, ...],
        frame: Frame,
        now: float,
        *,
        shares_context: bool = False,
    ) -> Branch:
        """Make the branch of one run; its context is a copy, unless nothing runs beside it.

        ``args`` holds the data alone: one tuple for all branches of a step, which the garbage
        collector would otherwise have to walk by the hundred thousand.
        """
        path = frame.path
        if self.simple:
            branch = Branch(path + key if path else key, self.kind, self.fn, args, now)
            if self.priority:
                branch.priority = self.priority
            return branch
        fn: Callable[..., Any] = self.fn
        lane, data = self.lane, args[0]
        if self.nested:
            args = (self.node, args[0], frame, key, shares_context)
        elif self.takes_context and frame.merge is not None:
            fn, args = frame.merge.call(fn, self.kind, lane, args[0], key)
            lane = None
        elif self.takes_context:
            copier = _same if shares_context else copy_for_branch
            fn, args = _call_with_context, (self.fn, args[0], frame.context, copier)
            if self.kind == ASYNC and lane is None:
                fn = _await_with_context
        if lane is not None:
            fn, args = run_in(lane, path + key), (fn, args, NO_KWARGS)
        if self.breaker is not None:
            guard = self.breaker.guard_async if self.kind == ASYNC else self.breaker.guard
            fn, args = guard, (fn, *args)
        branch = Branch(
            path + key,
            self.kind,
            fn,
            args,
            now,
            timeout=self.timeout,
            on_cancel=self.on_cancel,
            priority=self.priority,
        )
        if self.retry is not None or self.fallback is not None:
            fallback = None
            if self.fallback is not None:
                fallback = partial(self.fallback.take_over, key, data, frame, shares_context)
            branch.may_be_tried(Tries(self.retry, fallback))
        return branch

    def take_over(
        self, key: str, data: Any, frame: Frame, shares_context: bool, error: Exception
    ) -> Branch:
        """Make the branch whose call takes the place of one that failed with ``error``."""
        plan = self
        if frame.merge is not None:
            frame.merge.pass_over(key)
        if self.takes_error:
            plan = attrs.evolve(self, fn=partial(self.fn, error=error))
        return plan.branch(key, (data,), frame, 0.0, shares_context=shares_context)


async def _await_with_context(
    fn: Callable[..., Any], data: Any, context: Any, copier: Callable[[Any], Any]
) -> Any:
    return await fn(data, context=copier(context))


def _call_with_context(
    fn: Callable[..., Any], data: Any, context: Any, copier: Callable[[Any], Any]
) -> Any:
    return fn(data, context=copier(context))


def _same(context: Any) -> Any:
    return context


class Branches(Mapping[str, StepResult[Any]]):
    """Show the branches of a step as results, each built when it is first asked for.

    Args:
        word: what a branch of this step is called, in the notes on its errors.
    """

    __slots__ = ("_branches", "_built", "_keys", "_step", "_word")

    def __init__(
        self,
        keys: Collection[str],
        branches: Sequence[Branch],
        word: str,
        step: str,
    ) -> None:
        self._keys = keys
        self._branches = branches
        self._word = word
        self._step = step
        self._built: dict[str, Branch | StepResult[Any]] | None = None

    def __getitem__(self, key: str) -> StepResult[Any]:
        if self._built is None:
            self._built = dict(zip(self._keys, self._branches, strict=True))
        found = self._built[key]
        if isinstance(found, Branch):
            what = ""
            if found.error is not None or found.fn is run_nested:
                what = f"{self._word} {title(key)} of step {title(self._step)}"
            found = self._built[key] = result_of(key, found, what)
        return found

    def errors(self) -> list[Exception]:
        """List the errors of the branches; the results of those that have none are not built.

        What a nested step that ran out of time, or had no branches, would have said stands for it.
        """
        found = []
        for key, branch in zip(self._keys, self._branches, strict=True):
            if branch.error is not None or branch.fn is run_nested:
                result = self[key]
                error = result.error
                if error is None and result.status in (Status.TIMED_OUT, Status.FAILED):
                    what = f"{self._word} {title(key)} of step {title(self._step)}"
                    error = noted(stand_in(result), what)  # a nested step without an error
                if not result.success and isinstance(error, Exception):
                    found.append(error)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._branches)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # the plans hold functions, which may not be picklable

    def __repr__(self) -> str:
        return f"<{len(self)} branches: {', '.join(map(title, list(self._keys)[:SHOWN]))}>"


def result_of(key: str, branch: Branch, what: str) -> StepResult[Any]:
    """Build the result of a branch that has ended; ``what`` names it in a note on its error."""
    status, account, tries = branch.status, branch.account, branch.tries
    assert status is not None, "a branch that has not ended has no result"
    shared = BLANK.copy()  # a third of what it costs to write them all down
    shared["name"] = key
    shared["success"] = status is Status.SUCCEEDED
    shared["status"] = status
    shared["reason"] = branch.reason
    began_at, ended_at = branch.started_at, branch.ended_at
    if began_at is None:  # as Branch.ran_s and queued_s have it; of 10,000, a call each tells
        began_at, shared["attempts"] = ended_at, 0
    shared["latency_s"] = ended_at - began_at
    shared["queued_s"] = max(0.0, began_at - branch.queued_at)
    if tries is not None:
        shared["attempts"] = tries.attempts
        shared["attempt_errors"] = tries.errors(branch.error)
    if account is not None:
        shared["cost_usd"], shared["token_counts"] = account.cost_usd, account.tokens
    inner = _inner(branch) if branch.fn is run_nested else None
    if inner is not None:
        return _around(inner, branch, shared, what)
    if status is Status.SUCCEEDED:
        shared["output"] = branch.value
    if branch.error is not None:
        shared["error"] = noted(branch.error, what)
    shared["feedback"] = feedback_of(branch)
    return made(StepResult, shared)


def _around(
    inner: StepResult[Any], branch: Branch, shared: dict[str, Any], what: str
) -> StepResult[Any]:
    """Make the result of a branch that was a nested step: what the step was, and when."""
    shared |= {name: getattr(inner, name) for name in OF_STEP}
    if branch.status in (Status.SUCCEEDED, Status.FAILED):  # it ended by itself, and says how
        shared |= {"status": inner.status, "reason": inner.reason}
    else:
        shared["feedback"] = feedback_of(branch)
    if branch.tries is not None:  # it is what the branch fell back to
        branch.tries.conclude(inner.error)
        shared["feedback"] = feedback_of(branch)
    return made(StepResult, shared | {"error": noted(inner.error, what)})


def output_of(branch: Branch) -> Any:
    """Return what a branch that succeeded hands on."""
    return branch.value.output if branch.fn is run_nested else branch.value


def feedback_of(branch: Branch) -> str:
    """Say in a sentence how a branch ended."""
    if branch.tries is not None and branch.status is not None:
        return branch.tries.words(branch.status, branch.error, branch.reason)
    if branch.status is Status.SUCCEEDED:
        return f"succeeded, {branch.reason}" if branch.reason else "succeeded"
    if branch.error is not None and branch.status is Status.FAILED:
        return f"raised {words_of(branch.error)}"
    return f"{branch.status}: {branch.reason}"


def title(name: str) -> str:
    """Write a name in a note: on one line, and not at length."""
    short = name if len(name) <= TITLE else f"{name[: TITLE - 1]}…"
    return short if short.isprintable() else repr(short)[1:-1]


def noted(error: BaseException | None, what: str) -> BaseException | None:
    """Return ``error`` with notes: which branch it is from, and what may be the matter."""
    if error is None or isinstance(error, NestedStepError):
        return error
    try:
        if what not in getattr(error, "__notes__", ()):
            error.add_note(what)
            if any(words in str(error) for words in NO_ASYNCIO):
                error.add_note(ASYNCIO_NOTE)
    except Exception:  # one that cannot be written, or that is frozen, goes without
        pass
    return error


def _inner(branch: Branch) -> StepResult[Any] | None:
    """Return the result of the nested step that the branch was; None if it never began."""
    if isinstance(branch.error, NestedStepError):
        return branch.error.result
    result: StepResult[Any] | None = branch.value
    if result is None and branch.status is not Status.SUCCEEDED:
        frame: Frame = branch.args[2]
        result = frame.run.stopped.get(f"{branch.key}/")
    return result
