"""Write any value in words, also one that cannot write itself."""

from __future__ import annotations

import json
import math
import pprint
from collections.abc import Mapping
from typing import Any, Final

import attrs

from anabranch.pipeline import PipelineResult, StepResult

DEEPEST: Final = 50  # of what JSON cannot hold as it is; what is deeper is words


def shown(value: object) -> str:
    """Return ``repr(value)``, or what stands in its place."""
    try:
        return repr(value)
    except Exception as error:
        return _stand_in(value, error)


def laid_out(value: object) -> str:
    """Write a value over as many lines as it needs: a dict or list as JSON, if it holds no more."""
    try:
        text = json.dumps(_with_dicts(value), indent=2, ensure_ascii=False, allow_nan=False)
    except Exception:
        return _pprinted(value)
    return (
        text if text.replace("\n", "").isprintable() else "".join(_harmless(char) for char in text)
    )


def plain(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Return ``value`` as JSON can hold it: keys as strings, what JSON has not as its repr."""
    try:
        if id(value) in above or len(above) > DEEPEST:
            return shown(value)
        inner = (*above, id(value))
        if isinstance(value, (StepResult, PipelineResult)):
            value = attrs.asdict(value, recurse=False)
            return {name: plain(_as_dict(item), inner) for name, item in value.items()}
        if isinstance(value, dict):
            return {
                key if isinstance(key, str) else shown(key): plain(item, inner)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [plain(item, inner) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return shown(value)
        json.dumps(value)
    except Exception:
        return shown(value)
    return value


class _Printer(pprint.PrettyPrinter):
    """Print prettily; what cannot write itself has a stand-in, and the rest is as it is."""

    def format(
        self, value: object, context: dict[int, int], maxlevels: int, level: int
    ) -> tuple[str, bool, bool]:
        try:
            return super().format(value, context, maxlevels, level)
        except Exception as error:
            return _stand_in(value, error), False, False


def _pprinted(value: object) -> str:
    try:
        return _Printer().pformat(value)
    except Exception as error:  # nested deeper than Python can go
        return _stand_in(value, error)


def _stand_in(value: object, error: Exception) -> str:
    return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _harmless(char: str) -> str:
    """Write as JSON's escape what could steer a terminal: JSON itself leaves some of it."""
    return char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1]


def _as_dict(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _with_dicts(value: Any) -> Any:
    """Turn the results that stand for branches which failed into plain values."""
    if isinstance(value, StepResult):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _with_dicts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_dicts(item) for item in value]
    return value
