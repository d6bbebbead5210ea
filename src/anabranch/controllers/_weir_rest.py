"""Heed what is neither memory, failures nor cores: a loop that lags, and a limit nobody reaches."""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._seen import percent

LAG = 0.5  # seconds
LAG_CPU = 0.90
IDLE_S = 10.0
SPARE = 1.5


@attrs.frozen
class Rest:
    """Remember how often the loop lagged in a row, and how much of the limit was used.

    Attributes:
        lags: samples in a row. since: when the limit was last reached. most: branches at once
            since then.
    """

    lags: int = 0
    since: float = -math.inf
    most: int = 0


def reached(now: Load) -> bool:
    """Tell whether the limit was what held branches back."""
    return now.queued > 0 or now.peak >= now.limit or now.in_use >= now.limit


def lagging(state: Rest, now: Load) -> tuple[Rest, float, str]:
    """Return the state, a cap (infinite for none), and its cause."""
    late = (now.loop_lag or 0.0) > LAG and (now.cpu or 0.0) > LAG_CPU
    lags = state.lags + 1 if late else 0
    if lags < 2:
        return attrs.evolve(state, lags=lags), math.inf, ""
    cause = f"the loop lags {now.loop_lag:.2g} s, cpu {percent(now.cpu or 0.0)}"
    return attrs.evolve(state, lags=0), now.limit / 2, cause


def unused(state: Rest, now: Load, least: int) -> tuple[Rest, float, str]:
    """Return the state, a cap (infinite for none) not under ``least``, and its cause."""
    if reached(now) or state.since == -math.inf:
        return attrs.evolve(state, since=now.t, most=now.in_use), math.inf, ""
    most = max(state.most, now.peak, now.in_use)
    if now.t - state.since < IDLE_S:
        return attrs.evolve(state, most=most), math.inf, ""
    state = attrs.evolve(state, since=now.t, most=now.in_use)
    return state, max(least, math.ceil(most * SPARE)), f"only {most} of {now.limit:g} were used"
