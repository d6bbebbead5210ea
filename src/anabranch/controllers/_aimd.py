"""Add while nothing presses, multiply down when something does: the oldest law of congestion.

It is simple and fair between several, and it never rests: it must press to see where the end is.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._options import exact_fields
from anabranch.controllers import _check
from anabranch.controllers._seen import decided, percent, seen

ENOUGH = 50  # run times that make a usual one
FORGOTTEN = 0.005  # of the least log run time, a sample


@attrs.frozen
class State:
    """Remember the exact limit, when it was cut, and log run times: the usual, the least."""

    bounds: Bounds
    limit: float
    t: float = float("-inf")
    cut_at: float = float("-inf")
    usual: float = 0.0
    heard: int = 0
    unloaded: float | None = None


@exact_fields
@attrs.frozen(kw_only=True)
class AIMD:
    """Add ``increase`` a second while branches wait; times ``decrease`` under pressure.

    Args:
        increase: branches a second. decrease: share of the limit that is kept, at most once in
            ``period`` seconds.
        cpu, memory: shares above which there is pressure; the first only if something waits for a
            CPU, where that is known.
        failures: share of failed branches above which there is pressure; one refusal is.
        latency: times the least run time that was usual, above which there is pressure.

    Raises:
        ConfigurationError: an option that cannot be meant.
    """

    increase: float = attrs.field(default=1.0, validator=_check.at_least(0, "branches a second"))
    decrease: float = attrs.field(default=0.9, validator=_check.share)
    period: float = attrs.field(
        default=1.0, validator=_check.at_least(0, "seconds", or_equal=False)
    )
    cpu: float = attrs.field(default=0.95, validator=_check.share)
    memory: float = attrs.field(default=0.85, validator=_check.share)
    failures: float = attrs.field(default=0.1, validator=_check.share)
    latency: float = attrs.field(default=2.0, validator=_check.at_least(1, "times"))

    def initial(self, bounds: Bounds, /) -> State:
        """Return the state of a run that begins."""
        return State(bounds, bounds.initial)

    def next(self, state: State, load: Load, /) -> Decision:
        """Decide from one load."""
        bounds = state.bounds
        now = seen(load, bounds, state.t)
        exact = state.limit if int(state.limit) == now.limit else float(now.limit)
        since = min(now.t - state.t, 5.0) if state.t > float("-inf") else 0.0
        state = _with_run_times(attrs.evolve(state, t=now.t), now)
        if cause := self._pressure(state, now):
            if now.t - state.cut_at < self.period:
                exact, cause = min(exact, float(now.limit)), ""
            else:
                exact, state = now.limit * self.decrease, attrs.evolve(state, cut_at=now.t)
        elif now.queued and now.peak >= now.limit and _is_evidence(now):
            exact += self.increase * since
            cause = f"no pressure, {now.queued} queued"
        exact = min(max(exact, bounds.floor), bounds.ceiling)
        return decided(attrs.evolve(state, limit=exact), load, bounds, exact, cause)

    def _pressure(self, state: State, now: Load) -> str:
        if now.memory_used is not None and now.memory_total is not None:
            full = now.memory_used / now.memory_total
            if full > self.memory:
                return f"memory {percent(full)} of {now.memory_total / 2**30:.1f} GiB"
        if now.rejected:
            return f"{now.rejected} of {now.finished + now.failed} refused"
        ended = now.finished + now.failed
        if now.failed >= 2 and now.failed > self.failures * ended:
            return f"{now.failed} of {ended} failed"
        waits = 1.0 if now.cpu_pressure is None else now.cpu_pressure
        if now.cpu is not None and now.cpu > self.cpu and waits > 0.5:
            return f"cpu {percent(now.cpu)}"
        least = state.unloaded
        if least is not None and state.usual > least + math.log(self.latency):
            return f"run time {math.exp(state.usual):.3g} s, {math.exp(least):.3g} s unloaded"
        return ""


def _is_evidence(now: Load) -> bool:
    """Tell whether anything at all is known: without it nothing may grow."""
    known = (now.cpu, now.memory_used, now.loop_lag, now.gpu_memory_used)
    return bool(now.finished) or any(value is not None for value in known)


def _with_run_times(state: State, now: Load) -> State:
    """Return the state that has heard of the run times, by their logarithms; a few are chance."""
    if not now.latencies:
        return state
    logs = [math.log(max(1e-4, each)) for each in now.latencies]
    heard = state.heard + len(logs)
    share = max(min(0.5, len(logs) / ENOUGH), len(logs) / heard)
    usual = state.usual + share * (sum(logs) / len(logs) - state.usual)
    state = attrs.evolve(state, usual=usual, heard=heard)
    if heard < ENOUGH:
        return state
    # The least is forgotten slowly: work changes.
    unloaded = usual if state.unloaded is None else min(usual, state.unloaded + FORGOTTEN)
    return attrs.evolve(state, unloaded=unloaded)
