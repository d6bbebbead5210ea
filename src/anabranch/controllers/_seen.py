"""Make sense of a load before a law sees it: what cannot be is unknown, and the limit is one.

A sampler may fail, and a recorded load may have been edited. Each law decides on what is left,
so none of them has to expect a negative share or an infinite run time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from anabranch._load import Bounds, Decision, Load

SHARES = ("cpu", "cpu_pressure", "memory_pressure")
SIZES = ("memory_used", "own_memory", "gpu_memory_used", "loop_lag")
TOTALS = ("cores", "memory_total", "gpu_memory_total")
COUNTS = ("in_use", "peak", "queued", "started", "finished", "failed", "rejected")
MOST = 1e100  # beyond it squares overflow
LONGEST = 1e9  # seconds: no branch runs for so long
MANY = 10**9


def seen(load: Load, bounds: Bounds, last_t: float) -> Load:
    """Return ``load`` without what cannot be; its limit is a whole number within ``bounds``.

    A clock that stands, runs back or is no number says ``last_t``.
    """
    clean: dict[str, Any] = {name: _share(getattr(load, name)) for name in SHARES}
    clean |= {name: _size(getattr(load, name)) for name in SIZES}
    clean |= {name: _size(getattr(load, name)) or None for name in TOTALS}
    clean |= {name: min(MANY, max(0, getattr(load, name))) for name in COUNTS}
    clean["rejected"] = min(clean["rejected"], clean["failed"])
    clean["latencies"] = _times(load.latencies)
    clean["ages"] = _times(load.ages)
    clean["limit"] = within(bounds, load.limit)
    clean["t"] = load.t if last_t < load.t < MOST else last_t
    return attrs.evolve(load, **clean)


def within(bounds: Bounds, limit: float) -> int:
    """Return the whole number nearest below ``limit`` that ``bounds`` allow."""
    if not limit < bounds.ceiling:  # NaN is not, either
        return bounds.ceiling if limit >= bounds.ceiling else bounds.floor
    return max(bounds.floor, math.floor(max(limit, 0)))


def decided(
    state: object, load: Load, bounds: Bounds, limit: float, cause: str, again: float | None = None
) -> Decision:
    """Make a decision: the limit within its bounds, the reason exactly if it is another one."""
    new = within(bounds, limit)
    if new == load.limit:
        return Decision(state, new, "", again)
    if not bounds.floor <= load.limit <= bounds.ceiling:
        cause = cause or f"limit {load.limit:g} is not within {bounds.floor} and {bounds.ceiling}"
    return Decision(state, new, f"{cause or 'limit set'}: {load.limit:g} -> {new}", again)


def percent(share: float) -> str:
    """Write a share as people read it."""
    return f"{100 * share:.0f} %"


def _share(value: float | None) -> float | None:
    if value is None or not 0 <= value < MOST:
        return None
    return min(1.0, value)


def _size(value: float | None) -> float | None:
    return value if value is not None and 0 <= value < MOST else None


def _times(values: Iterable[float]) -> tuple[float, ...]:
    return tuple([each for each in values if 0 <= each < LONGEST])
