"""Refuse options of a law that cannot be meant: a share written as percent, a period of nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from anabranch.errors import ConfigurationError

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def share(law: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a share: above 0, at most 1."""
    number = _number(law, attribute, value)
    if 0 < number <= 1:
        return
    hint = ""
    if 1 < number <= 100:
        hint = f"; that looks like percent: give {number / 100:g}"
    raise ConfigurationError(
        f"{type(law).__name__}: {attribute.name}={value!r} is no share; "
        f"give a number above 0, up to 1{hint}"
    )


def at_least(least: float, what: str, *, or_equal: bool = True) -> Validator:
    """Make a validator of finite numbers from ``least`` on; ``what`` is what they count."""

    def check(law: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        number = _number(law, attribute, value)
        if not (number >= least if or_equal else number > least):
            bound = f"of at least {least:g}" if or_equal else f"above {least:g}"
            raise ConfigurationError(
                f"{type(law).__name__}: {attribute.name}={value!r} is not {bound}; "
                f"give a finite number of {what} {bound}"
            )

    return check


def limit_or_none(law: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Validate a whole number of at least 1, or None."""
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < 1:
        hint = "; a limit counts branches, it is no share" if _is_share(value) else ""
        raise ConfigurationError(
            f"{type(law).__name__}: {attribute.name}={value!r} ({type(value).__name__}) is no "
            f"limit; give a whole number of at least 1{hint}"
        )


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _number(law: object, attribute: attrs.Attribute[Any], value: Any) -> float:
    where = f"{type(law).__name__}: {attribute.name}={value!r:.80}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{where} ({type(value).__name__}) is no number; give one")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ConfigurationError(f"{where} is not finite; give a finite number")
    return number
