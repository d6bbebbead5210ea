"""Write events and results as JSON, one object a line, whatever they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from anabranch._load import Load
from anabranch._work import Outcome
from anabranch.cli._shown import plain, shown
from anabranch.events import Event
from anabranch.pipeline import PipelineResult


def line_of_event(event: Event) -> str:
    """Return an event as a line of JSON; a branch's value is left to the result."""
    fields = attrs.asdict(event, recurse=False)
    outcome = fields.pop("outcome", None)
    if isinstance(outcome, Outcome):
        fields |= attrs.asdict(outcome, recurse=False)
        del fields["value"]
        fields["error"] = None if outcome.error is None else shown(outcome.error)
    load = fields.get("load")
    if isinstance(load, Load):
        fields["load"] = attrs.asdict(load)
    return _line({"event": _snake(type(event).__name__), **fields})


def line_of_result(result: PipelineResult[Any]) -> str:
    """Return a result as a line of JSON."""
    try:
        fields = result.to_dict()
    except RecursionError:  # an output that holds itself
        fields = plain(result)
    return _line({"event": "result", **fields})


def _line(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, default=shown, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # an odd key, a NaN: slower, and always works
        return json.dumps({key: plain(item) for key, item in value.items()}, allow_nan=False)


def _snake(name: str) -> str:
    return re.sub(r"(?<=.)(?=[A-Z])", "_", name).lower()
