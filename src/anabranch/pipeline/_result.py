"""Tell how a pipeline and its steps ended, in values that people read and programs compare.

The results of branches are built when somebody looks at them: a step of 100,000 branches costs
no objects that nobody asked for.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import attrs

from anabranch._escape import escaped
from anabranch._work import Status, Usage
from anabranch.errors import BranchCancelledError, BranchTimedOutError, StepFailedError

Out = TypeVar("Out")
R = TypeVar("R")
LONGEST = 300  # characters of a name, or of why, in a repr


class _Empty(Mapping[str, Any]):
    """Have no entries; shared by all results, so it must not change, and it can be pickled."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"


_NONE: Mapping[str, Any] = _Empty()
NO_USAGE = Usage(custom=_NONE)
SHOWN = 10  # branches that a repr names; the rest is counted


@attrs.frozen(kw_only=True, repr=False, slots=False)  # half the cost to make
class StepResult(Generic[Out]):
    """Tell how one step, or one branch of a step, ended.

    Attributes:
        status: ``succeeded``, ``failed``, ``timed_out`` (its own timeout), ``cancelled`` (anything
            else that stopped it), ``rejected`` (never started) or ``abandoned`` (a thread).
        output: what it returned; of a parallel step a dict in declared order, where the entry of a
            failed branch is its StepResult; of ``map_over`` a list in the order of the items.
        error: what it raised; of a parallel step a group of its branches' errors.
        feedback: a sentence for people.
        reason: what stopped it, in words; else empty.
        attempts: how often its function was called. attempt_errors: what was raised before
            ``error``, in order: by earlier attempts, and by what a fallback took the place of.
        latency_s: seconds from its start to its end. queued_s: seconds before its start.
        cost_usd, token_counts: what was charged, by it and below it; None where nothing was.
        branches: key to StepResult, declared order.
        completion_order: keys in the order in which branches ended.
        counts: of a ``map_over``: how many items ended how; a streamed one keeps no more of them.
        steps: of a pipeline that is a step or a branch: how each of its steps ended, in order.
    """

    name: str
    success: bool
    status: Status
    output: Out | None = None
    error: BaseException | None = None
    feedback: str = ""
    reason: str = ""
    attempts: int = 1
    attempt_errors: tuple[BaseException, ...] = ()
    latency_s: float = 0.0
    queued_s: float = 0.0
    cost_usd: float | None = None
    token_counts: int | None = None
    branches: Mapping[str, StepResult[Any]] = _NONE
    completion_order: tuple[str, ...] = ()
    counts: Mapping[str, int] = _NONE
    steps: tuple[StepResult[Any], ...] = ()

    def unwrap(self) -> Out:
        """Return the output.

        Raises:
            ExceptionGroup: it did not succeed; the errors are the branches' own.
        """
        if self.success:
            return self.output  # type: ignore[return-value]  # a success has its output
        raise self.group()

    def group(self) -> ExceptionGroup[Exception]:
        """Return the errors of a result that did not succeed, as a group."""
        error = self.error
        if isinstance(error, ExceptionGroup) and self.branches:
            return error
        if not isinstance(error, Exception):
            error = stand_in(self)
        return ExceptionGroup(f"step {self.name!r}: {self.feedback}", [error])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values; errors as their repr."""
        return {
            "name": self.name,
            "success": self.success,
            "status": str(self.status),
            "output": _plain(self.output),
            "error": None if self.error is None else _repr_of(self.error),
            "feedback": self.feedback,
            "reason": self.reason,
            "attempts": self.attempts,
            "attempt_errors": [_repr_of(error) for error in self.attempt_errors],
            "latency_s": self.latency_s,
            "queued_s": self.queued_s,
            "cost_usd": self.cost_usd,
            "token_counts": self.token_counts,
            "branches": {key: branch.to_dict() for key, branch in self.branches.items()},
            "completion_order": list(self.completion_order),
            "counts": dict(self.counts),
            "steps": [step.to_dict() for step in self.steps],
        }

    def __repr__(self) -> str:
        lines = [f"StepResult {self.name!r:.300}: {_headline(self)}"]
        keys = list(self.branches)
        lines += [f"  {_short(key)}: {_headline(self.branches[key])}" for key in keys[:SHOWN]]
        if len(keys) > SHOWN:
            lines.append(f"  ... and {len(keys) - SHOWN} more")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [("", self)] + [(key, self.branches[key]) for key in list(self.branches)[:SHOWN]]
        more = len(self.branches) - SHOWN
        return _table([(key or self.name, result) for key, result in rows], more)


@attrs.frozen(kw_only=True, repr=False, slots=False)  # half the cost to make
class PipelineResult(Generic[Out]):
    """Tell how a pipeline ended.

    Attributes:
        output: of the last step; None unless every step succeeded.
        step_history: a StepResult of each step that was begun, in order.
        context: the run's context after the last step.
        usage: what was charged, with nothing in it where nothing was.
        duration: seconds.
    """

    name: str
    success: bool
    output: Out | None = None
    step_history: tuple[StepResult[Any], ...] = ()
    context: Any = None
    usage: Usage = NO_USAGE
    duration: float = 0.0
    reason: str = ""

    @property
    def failed_step(self) -> StepResult[Any] | None:
        """The step that did not succeed, if there is one."""
        return next((step for step in self.step_history if not step.success), None)

    @property
    def feedback(self) -> str:
        """A sentence for people."""
        failed = self.failed_step
        if self.success or failed is None:
            return self.reason or f"{len(self.step_history)} steps succeeded"
        return f"step {failed.name!r}: {failed.feedback}"

    def unwrap(self) -> Out:
        """Return the output.

        Raises:
            ExceptionGroup: a step did not succeed; the errors are its branches' own.
        """
        if self.success:
            return self.output  # type: ignore[return-value]  # a success has its output
        failed = self.failed_step
        if failed is not None:
            raise failed.group()
        raise ExceptionGroup(f"pipeline {self.name!r}", [BranchTimedOutError(self.reason)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values; errors as their repr."""
        return {
            "name": self.name,
            "success": self.success,
            "output": _plain(self.output),
            "step_history": [step.to_dict() for step in self.step_history],
            "context": _plain(self.context),
            "usage": self.usage.to_dict(),
            "duration": self.duration,
            "reason": self.reason,
        }

    def __repr__(self) -> str:
        how = "succeeded" if self.success else "failed"
        reason = f" ({_short(self.reason)})" if self.reason else ""
        lines = [f"PipelineResult {self.name!r:.300}: {how} in {self.duration:.3g} s{reason}"]
        lines += [f"  {_short(step.name)}: {_headline(step)}" for step in self.step_history]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _table([(step.name, step) for step in self.step_history], 0)


def made(cls: type[R], fields: dict[str, Any]) -> R:
    """Make a result of all its ``fields``, unchecked: half of what ``__init__`` costs a step."""
    result = _new(cls)
    _set(result, "__dict__", fields)
    return result


_new, _set = object.__new__, object.__setattr__
NO_COUNTS = _NONE


def stand_in(result: StepResult[Any]) -> Exception:
    """Make the error for a result that has none of its own."""
    words = result.reason or result.feedback
    if result.status is Status.TIMED_OUT:
        return BranchTimedOutError(words)
    if result.status in (Status.CANCELLED, Status.REJECTED, Status.ABANDONED):
        return BranchCancelledError(words)
    return StepFailedError(words)


def _repr_of(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # its own, and no reason to lose the rest
        return f"<{type(error).__name__}, whose repr raises>"


def _headline(result: StepResult[Any]) -> str:
    words = f"{result.status} in {result.latency_s:.3g} s"
    why = result.reason or ("" if result.success else result.feedback)
    return f"{words} ({_short(why)})" if why else words


def _short(words: str) -> str:
    """Write what others have written: on one line, not at length, and unable to steer anything."""
    return escaped(words, length=LONGEST)


def _table(rows: list[tuple[str, StepResult[Any]]], more: int) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(_short(name))}</td><td>{result.status}</td>"
        f"<td>{result.latency_s:.3g} s</td><td>{html.escape(_short(result.feedback))}</td></tr>"
        for name, result in rows
    )
    rest = f"<tr><td colspan=4>... and {more} more</td></tr>" if more > 0 else ""
    head = "<tr><th>name</th><th>status</th><th>time</th><th></th></tr>"
    return f"<table>{head}{cells}{rest}</table>"


def _plain(value: Any) -> Any:
    """Turn results inside an output into plain values; leave the user's own as they are."""
    if isinstance(value, (StepResult, PipelineResult)):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
