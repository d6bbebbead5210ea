"""Follow the ratio of the usual run time to the present one, with room for a queue.

The law of Netflix's concurrency-limits, Gradient2, by its published description: a long average of
run times over a short one says how much of the limit is queueing. It knows nothing of memory.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._options import exact_fields
from anabranch.controllers import _check
from anabranch.controllers._seen import decided, seen


@attrs.frozen
class State:
    """Remember the exact limit and the two averages of run times, in seconds."""

    bounds: Bounds
    limit: float
    t: float = float("-inf")
    usual: float | None = None
    present: float | None = None


@exact_fields
@attrs.frozen(kw_only=True)
class Gradient:
    """Multiply the limit by usual over present run time, and add the root of it as room.

    Args:
        tolerance: times the usual run time which are no sign of a queue.
        smoothing: share of the way to the new limit that is gone a second.
        window: seconds over which a run time becomes the usual one.

    Raises:
        ConfigurationError: an option that cannot be meant.
    """

    tolerance: float = attrs.field(default=1.5, validator=_check.at_least(1, "times"))
    smoothing: float = attrs.field(default=0.2, validator=_check.share)
    window: float = attrs.field(
        default=60.0, validator=_check.at_least(0, "seconds", or_equal=False)
    )

    def initial(self, bounds: Bounds, /) -> State:
        """Return the state of a run that begins."""
        return State(bounds, bounds.initial)

    def next(self, state: State, load: Load, /) -> Decision:
        """Decide from one load."""
        bounds = state.bounds
        now = seen(load, bounds, state.t)
        since = min(now.t - state.t, 5.0) if state.t > float("-inf") else 1.0
        exact = state.limit if int(state.limit) == now.limit else float(now.limit)
        state, cause = attrs.evolve(state, t=now.t), ""
        if now.latencies:
            state = self._with_run_times(state, now, since)
            exact, cause = self._followed(state, now, exact, since)
        elif now.rejected:
            exact, cause = exact * 0.9, f"{now.rejected} refused"
        exact = min(max(exact, bounds.floor), bounds.ceiling)
        return decided(attrs.evolve(state, limit=exact), load, bounds, exact, cause)

    def _with_run_times(self, state: State, now: Load, since: float) -> State:
        present = sum(now.latencies) / len(now.latencies)
        if state.usual is None:
            return attrs.evolve(state, usual=present, present=present)
        usual = state.usual + min(1.0, since / self.window) * (present - state.usual)
        if usual > 2 * present:
            usual *= 0.95  # after a long incident it comes down faster than it went up
        return attrs.evolve(state, usual=usual, present=present)

    def _followed(self, state: State, now: Load, exact: float, since: float) -> tuple[float, str]:
        usual, present = state.usual or 0.0, state.present or 0.0
        ratio = self.tolerance * usual / present if present > 0 else 1.0
        gradient = min(1.0, max(0.5, ratio))
        if now.rejected:
            gradient = min(gradient, 0.9)
        room = math.sqrt(exact) if not now.rejected else 0.0
        share = 1 - (1 - self.smoothing) ** since
        target = exact + share * (exact * gradient + room - exact)
        if target > exact and (now.peak < now.limit or not now.queued):
            return exact, ""  # the limit is not what holds it back
        refused = f", {now.rejected} refused" if now.rejected else ""
        return target, f"run time {present:.3g} s, usually {usual:.3g} s{refused}"
