"""Check what is charged and add it up exactly, as the decimals that people wrote.

A float stands for the shortest decimal that is written like it, so ten times 0.1 is 1; a sum of
binary fractions would be a little more, and a budget of 1.0 would be passed. Sums have no rounding
at all, whatever their order. Only the comparison with a limit rounds, once, to a float:
what is over by less than a float can say (eleven times 1/11) is not over.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import lru_cache
from numbers import Integral, Real
from typing import TypeAlias

from anabranch.errors import ConfigurationError, UnknownOptionError

Amount: TypeAlias = int | Decimal  # whole numbers stay such
Amounts: TypeAlias = Mapping[str, Amount]  # by unit
Given: TypeAlias = int | float | Decimal  # what people hand in

UNITS = ("cost_usd", "tokens")  # those that everybody has; others are the user's own
SPOKEN = {"cost_usd": "usd"}
SLIPS = {  # names that the same two things have elsewhere
    "cost": "cost_usd",
    "costs": "cost_usd",
    "usd": "cost_usd",
    "total_cost_usd": "cost_usd",
    "total_cost_usd_limit": "cost_usd",
    "token_counts": "tokens",
    "total_tokens": "tokens",
    "total_tokens_limit": "tokens",
}
NEAR = 0.85  # "token" and "request" are slips for "tokens" and "requests"; "tokens_in" is a unit

NOTHING: Amounts = {}
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


def amount(where: str, name: str, value: object, *, whole: bool = False) -> Amount:
    """Return ``value`` as an exact number.

    Raises:
        ConfigurationError: no number, or a negative one, NaN, infinity; a fraction where ``whole``.
    """
    exact = _exact(value)
    if exact is None:
        raise ConfigurationError(
            f"{where}: {name}={value!r:.80} ({type(value).__name__}) is no amount; "
            f"give a number of at least 0"
        )
    if exact < 0 or not _is_within_floats(exact):
        huge = isinstance(exact, int) and math.isinf(as_float(exact))  # too long to be written
        raise ConfigurationError(
            f"{where}: {name}={math.inf if huge else value!r:.80} cannot be meant; give a finite "
            f"number of at least 0, and leave out what has no limit"
        )
    if whole and not isinstance(exact, int):
        raise ConfigurationError(f"{where}: {name}={value!r} is not whole; give a whole number")
    return exact


def amounts(
    where: str, given: Mapping[str, object], known: tuple[str, ...] = ()
) -> dict[str, Amount]:
    """Return what is given as exact numbers by unit, without what is None.

    Args:
        known: units of the user's own that need not be asked about.

    Raises:
        ConfigurationError: nothing is given, or what is no amount; UnknownOptionError for a unit
            whose name is nearly that of another one.
    """
    found: dict[str, Amount] = {}
    names = (*UNITS, *known)
    for unit, value in given.items():
        if value is not None:
            _check_unit(where, unit, names)
            found[unit] = amount(where, unit, value, whole=unit == "tokens")
    if not found:
        raise ConfigurationError(
            f"{where}: there is nothing in it; give cost_usd=, tokens= or a unit of your own"
        )
    return found


def plus(a: Amount, b: Amount) -> Amount:
    """Add without rounding."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return _EXACT.add(Decimal(a), Decimal(b))


def together(a: Amounts, b: Amounts, *, less: Amounts = NOTHING) -> Amounts:
    """Add by unit, without rounding, and take ``less`` off."""
    sums = dict(a)
    for unit, value in b.items():
        sums[unit] = plus(sums.get(unit, 0), value)
    for unit, value in less.items():
        sums[unit] = plus(sums[unit], -value if isinstance(value, int) else value.copy_negate())
    return sums


def passes(spent: Amount, limit: Amount) -> bool:
    """Tell whether ``spent`` is over ``limit``, by as much as a float can say."""
    if isinstance(spent, int) and isinstance(limit, int):
        return spent > limit
    return spent > limit and as_float(spent) > as_float(limit)


def as_float(value: Amount) -> float:
    """Return the nearest float; infinity for what is beyond all."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def as_number(value: Amount) -> int | float:
    """Return a whole number as it is, and any other as the nearest float."""
    return value if isinstance(value, int) else as_float(value)


def spoken(value: Amount) -> str:
    """Write a number for people, and two that differ differently."""
    return str(value) if isinstance(value, int) else repr(as_float(value)).removesuffix(".0")


def unit_spoken(unit: str) -> str:
    """Write a unit for people."""
    return SPOKEN.get(unit, unit)


def _exact(value: object) -> Amount | None:
    """Return a number exactly, and what is not finite as infinity; None for no number."""
    if isinstance(value, bool):
        return None
    if not isinstance(value, float) and isinstance(value, (int, Integral)):
        return int(value)
    if isinstance(value, (float, Real)):
        value = Decimal(float.__repr__(float(value)))  # numpy's floats show themselves otherwise
    if not isinstance(value, Decimal):
        return None
    return value if value.is_finite() else Decimal("Infinity")


def _is_within_floats(exact: Amount) -> bool:
    """Tell whether a float can hold it: a decimal of a million digits is nobody's price."""
    near = as_float(exact)
    return math.isfinite(near) and (near > 0 or exact == 0)


def _check_unit(where: str, unit: str, names: tuple[str, ...]) -> None:
    """Refuse a unit that is most likely a slip: it would be counted, and bound by nothing."""
    if unit in names:
        return
    if unit == "reserve":
        raise ConfigurationError(f"{where}: {unit!r} is an option of charge, so it is no unit")
    meant = _slip_for(unit, names)
    if meant is not None:
        raise UnknownOptionError(f"{where} takes no {unit!r}: did you mean {meant!r}?")


@lru_cache(maxsize=256)
def _slip_for(unit: str, names: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(unit, names, n=1, cutoff=NEAR)
    return SLIPS.get(unit) or (near[0] if near else None)
