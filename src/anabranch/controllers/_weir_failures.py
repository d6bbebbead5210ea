"""Heed refusals and failures: the guard against a place that is too full.

A refusal says "too many", so the limit is cut to what was served and not tried again for a while.
Any other failure may have any cause: if it follows a raise it is taken for the raise's fault;
else the limit is halved at most, and comes back when the failures end.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load

REFUSED = 0.02  # share of what ended
FAILED = 0.10  # above the usual share
PAUSE = 20.0  # seconds for which a refused limit is not tried again; doubles
LONGEST = 240.0
STEP = 1.25  # by which a refused limit is tried again
LEAST, EASED, HARD = 0.5, 0.9, 2.0  # shares of a limit that a cut leaves; less the more have failed


@attrs.frozen
class Failures:
    """Count of late, and remember what was done about it.

    Attributes:
        finished, failed, rejected: decayed counts. span: decayed seconds.
        usual: share of failures that is usual here.
        cut_at: when it was cut for them. roof, until, pause: a limit which was refused, until when.
        back: the limit to come back to when failures end; 0 for none.
    """

    finished: float = 0.0
    failed: float = 0.0
    rejected: float = 0.0
    span: float = 0.0
    usual: float = 0.0
    cut_at: float = -math.inf
    roof: float = math.inf
    until: float = -math.inf
    pause: float = PAUSE
    back: int = 0

    @property
    def share(self) -> float:
        """Share of what ended that failed, refusals among them."""
        return self.failed / max(self.failed + self.finished, 1e-9)

    @property
    def bad(self) -> bool:
        """Tell whether more fails than is usual, so that run times prove nothing."""
        return self.failed >= 1 and self.share > self.usual + FAILED


def count(state: Failures, now: Load, dt: float, run_time: float) -> Failures:
    """Return the counts with one more sample."""
    keep = 0.5 ** (dt / max(1.0, min(run_time, 10.0)))
    ended = now.finished + now.failed
    plain = (now.failed - now.rejected) / ended if ended else state.usual
    slow = 1 - 0.5 ** (dt / 45.0)
    return attrs.evolve(
        state,
        finished=state.finished * keep + now.finished,
        failed=state.failed * keep + now.failed,
        rejected=state.rejected * keep + now.rejected,
        span=state.span * keep + dt,
        usual=state.usual + slow * (plain - state.usual),
    )


def heed(
    state: Failures, now: Load, dt: float, run_time: float, raised_at: float, lowered_at: float
) -> tuple[Failures, float, str]:
    """Return the state, a cap (infinite for none), and its cause."""
    ended = state.finished + state.failed
    rested = now.t - dt >= max(lowered_at, state.cut_at) + max(run_time, 0.9)
    refused = state.rejected >= 2 and state.rejected > REFUSED * ended
    if refused and now.rejected and rested:
        cause = f"{state.rejected:.0f} of {ended:.0f} refused"
        return _cut(state, now, dt, run_time, cause)
    if now.failed > now.rejected and state.failed >= 2 and state.bad and rested:
        cause = f"{state.failed:.0f} of {ended:.0f} failed"
        if now.t - raised_at < run_time + 2.0:
            return _cut(state, now, dt, run_time, cause + " after a raise")
        back = state.back or int(now.limit)
        target = max(LEAST * back, _served(state, now, dt, run_time))
        if target < now.limit:  # in steps: who is too many is not always known at once
            state = attrs.evolve(state, cut_at=now.t, back=back)
            return state, target, cause
    return state, math.inf, ""


def recovered(state: Failures, now: Load, run_time: float) -> tuple[Failures, int, str]:
    """Return the state, the limit to come back to (0 for none), and its cause."""
    over = state.back and not state.bad and now.finished > now.failed
    if not over or now.t - state.cut_at < max(run_time, 0.9):
        return state, 0, ""
    ended = f"{now.failed} of {now.failed + now.finished} failed"
    return attrs.evolve(state, back=0), int(state.back * 0.9), f"failures have ended, {ended}"


def reach(state: Failures, now: Load) -> float:
    """Return the limit up to which growth may go: below a refused one, later by small steps."""
    if now.t < state.until:
        return state.roof - 1
    if now.limit * 2 > state.roof and now.t < state.until + 3 * state.pause:
        return now.limit * STEP
    return math.inf


def _cut(
    state: Failures, now: Load, dt: float, run_time: float, cause: str
) -> tuple[Failures, float, str]:
    target = _served(state, now, dt, run_time)
    again = now.t < state.until + 2 * state.pause
    pause = PAUSE
    if again and state.until > 0:  # cuts before the pause is over are parts of one
        pause = state.pause if now.t < state.until else min(LONGEST, state.pause * 2)
    state = attrs.evolve(
        state,
        cut_at=now.t,
        roof=min(float(now.limit), state.roof if again else math.inf),
        until=now.t + pause,
        pause=pause,
        finished=0.0,
        failed=0.0,
        rejected=0.0,
        span=0.0,
    )
    return state, target, cause


def _served(state: Failures, now: Load, dt: float, run_time: float) -> float:
    """Return the limit that was served, by Little's law, at least half of the present one.

    What few samples say of it is vague, so where few have failed little is cut. All failures are
    asked so, or a refusal would cost less than another failure.
    """
    served = state.finished / max(state.span, 1e-9) * run_time
    if now.finished >= 5:
        served = now.finished / dt * run_time
    share = state.failed / max(1.0, state.failed + state.finished)
    least = max(LEAST, EASED - HARD * share)
    return now.limit * max(least, min(served / now.limit, 0.95))
