"""Conclude a step that succeeded: merge what its branches changed, reduce their results.

All or nothing: the context changes last, when everything else has gone well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Any

import attrs

from anabranch._ledger import Ledger
from anabranch._pool import paid_by
from anabranch._runtime import own_cancel
from anabranch._tries import words_of
from anabranch._work import Status, check_callable
from anabranch.pipeline._check import check_arity
from anabranch.pipeline._fields import with_changes
from anabranch.pipeline._merge_changes import Changes
from anabranch.pipeline._merge_step import Merge
from anabranch.pipeline._node import Frame
from anabranch.pipeline._plan import noted, title
from anabranch.pipeline._result import StepResult
from anabranch.pipeline._returned import costs_of

Reduce = Callable[[Mapping[str, StepResult[Any]]], Any]


def check_reduce(where: str, reduce: object) -> None:
    """Raise ConfigurationError unless ``reduce`` can be called with the results."""
    if reduce is None:
        return
    check_callable(f"{where}: reduce", reduce)
    assert callable(reduce), "it was checked just now"
    check_arity(f"{where}: reduce", reduce, "it is called as fn({key: StepResult})")


def refused(name: str, error: Exception) -> StepResult[Any]:
    """Return the result of a step that did not begin, because of ``error``."""
    words = f"raised {words_of(error)}"
    return StepResult(name=name, success=False, status=Status.FAILED, error=error, feedback=words)


async def conclude(
    result: StepResult[Any],
    frame: Frame,
    ledger: Ledger,
    reduce: Reduce | None,
    merge: Merge | None = None,
    keys: Iterable[str] = (),
) -> StepResult[Any]:
    """Return ``result`` as it then is: failed, if merging or reducing raises.

    The step's own deadline goes on to apply.

    Args:
        keys: of the branches that merge, in their order.
    """
    checkpoint, native = ledger.runtime.lowlevel.checkpoint, frame.run.host.native_cancels()
    began, doing, output, late = ledger.clock(), "merge", result.output, False
    try:
        with paid_by(None, ledger), ledger.runtime.CancelScope(deadline=ledger.deadline) as scope:
            changes: Changes = {}
            if merge is not None and merge.keeps:
                changes = await merge.changes(keys, checkpoint)
            doing = "reduce"
            if reduce is not None:
                output = reduce(result.branches)
                if isawaitable(output):
                    output = await output
            late = ledger.clock() >= ledger.deadline
            if not late:
                frame.context = with_changes(frame.context, changes)
            ended: dict[str, Any] = {"output": output}
        if scope.cancelled_caught or late:
            ended = _stopped(result, doing, ledger.why_cancelled(), Status.TIMED_OUT)
    except Exception as error:
        noted(error, f"{doing} of step {title(result.name)}")
        words = f"{result.feedback}; {doing}: {words_of(error)}"
        ended = {"status": Status.FAILED, "error": error, "feedback": words}
    except BaseException as error:
        own = own_cancel(native) if isinstance(error, ledger.runtime.Cancelled) else ""
        ended = _stopped(result, doing, own or ledger.why_cancelled(), Status.CANCELLED)
        if not own:
            if frame.is_cancelled_by(error):
                seconds, costs = ledger.clock() - began, costs_of(ledger.account)
                frame.keep(_lasted(result, seconds, **costs, **ended))
                frame.stopped(result.name)
            raise
    return _lasted(result, ledger.clock() - began, **costs_of(ledger.account), **ended)


def _stopped(result: StepResult[Any], doing: str, why: str, status: Status) -> dict[str, Any]:
    words = f"{result.feedback}; {doing}: {why}"
    return {"status": status, "reason": why, "feedback": words}


def _lasted(result: StepResult[Any], seconds: float, **changes: Any) -> StepResult[Any]:
    """Return the result with ``changes``, ``seconds`` later; any status but success fails it."""
    success = "status" not in changes
    latency_s = result.latency_s + seconds
    return attrs.evolve(result, success=success, latency_s=latency_s, **changes)
