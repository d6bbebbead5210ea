"""Write values as JSON, one object a line, whatever they are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import attrs

from anabranch._work import Outcome
from anabranch.events import Event
from anabranch.pipeline import PipelineResult, StepResult


def line_of_event(event: Event) -> str:
    """Return an event as a line of JSON; a branch's value is left to the result."""
    fields = attrs.asdict(event, recurse=False)
    outcome = fields.pop("outcome", None)
    if isinstance(outcome, Outcome):
        fields |= attrs.asdict(outcome, recurse=False)
        del fields["value"]
        fields["error"] = None if outcome.error is None else repr(outcome.error)
    return _line({"event": _snake(type(event).__name__), **fields})


def line_of_result(result: PipelineResult[Any]) -> str:
    """Return a result as a line of JSON."""
    return _line({"event": "result", **result.to_dict()})


def pretty(value: Any) -> str | None:
    """Return a dict or list as JSON for people and programs; None if it holds what JSON has not."""
    try:
        return json.dumps(_results_as_dicts(value), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None


def _line(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, default=repr, allow_nan=False)
    except (TypeError, ValueError):  # a key that is no string, a NaN: slower, and always works
        return json.dumps(_strict(value), default=repr, allow_nan=False)


def _strict(value: Any) -> Any:
    """Return ``value`` with keys as strings, and infinite numbers as words."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _results_as_dicts(value: Any) -> Any:
    """Turn the results that stand for branches which failed into plain values."""
    if isinstance(value, StepResult):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _results_as_dicts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_results_as_dicts(item) for item in value]
    return value


def _snake(name: str) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()
