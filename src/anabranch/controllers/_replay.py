"""Write loads as JSON lines and read them back bit for bit, and ask any law what it says of them.

JSON has no infinity: it is written as a string, so that other programs can read the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch.abc import Controller
from anabranch.controllers._seen import within
from anabranch.controllers._shadow import check_controller
from anabranch.errors import ConfigurationError

CEILING = 256  # of a controller that was given none: enough for waiting, few enough for descriptors

_FIELDS = {field.name: field for field in attrs.fields(Load)}
_TIMES = ("latencies", "ages")
_WORDS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_json(load: Load) -> str:
    """Return one line of JSON, without its end."""
    plain = {name: _plain(getattr(load, name)) for name in _FIELDS}
    return json.dumps(plain, allow_nan=False, separators=(",", ":"))


def from_json(line: str) -> Load:
    """Return the load that ``line`` tells; what it leaves out has its default.

    Raises:
        ConfigurationError: not one JSON object of a load's fields.
    """
    try:
        told = json.loads(line)
    except ValueError as error:
        raise ConfigurationError(f"load {line!r:.80} is no JSON: {error}") from None
    if not isinstance(told, dict):
        raise ConfigurationError(f"load {line!r:.80} is no JSON object; give one of fields")
    return Load(**{name: _value(name, value) for name, value in told.items()})


def read_loads(lines: Iterable[str]) -> Iterator[Load]:
    """Yield a load for each line that is not blank; an open file will do.

    Raises:
        ConfigurationError: a line that is no load; it is named by its number.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield from_json(line)
            except ConfigurationError as error:
                raise ConfigurationError(f"line {number}: {error}") from error


def replay(
    controller: Controller, loads: Iterable[Load], bounds: Bounds | None = None
) -> list[Decision]:
    """Return what ``controller`` decides on each of ``loads``, which are told as they were.

    Args:
        controller: any law. loads: of one limiter, in order.
        bounds: those of the run; None for 1 to ``CEILING``, or to the largest limit among the
            loads, from the first one's limit on.

    Raises:
        ConfigurationError: not a controller, bounds or loads.
    """
    check_controller("replay", controller)
    told = list(loads)
    for each, kind in [(bounds or Bounds(ceiling=1), Bounds), *((load, Load) for load in told)]:
        if not isinstance(each, kind):
            raise ConfigurationError(
                f"replay: {each!r:.80} ({type(each).__name__}) is no {kind.__name__}"
                + ("; read lines with read_loads()" if kind is Load else "; give Bounds(ceiling=)")
            )
    if bounds is None:
        limits = [each.limit for each in told if math.isfinite(each.limit)]
        widest = Bounds(ceiling=max(CEILING, *map(math.ceil, limits), 1))
        bounds = attrs.evolve(widest, initial=within(widest, limits[0]) if limits else 1)
    state, decisions = controller.initial(bounds), []
    for load in told:
        decision = controller.next(state, load)
        state = decision.state
        decisions.append(decision)
    return decisions


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _value(name: str, value: Any) -> Any:
    if name in _TIMES:
        if not isinstance(value, list):
            raise ConfigurationError(f"load: {name}={value!r:.80} is no list of seconds")
        return tuple([_number(name, each) for each in value])
    field = _FIELDS.get(name)
    if value is None and (field is None or field.default is None):
        return None
    return _number(name, value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"load: {name}={value!r:.80} is no number")
    return value
