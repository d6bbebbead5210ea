"""Find the limit that buys throughput: double while it does, hold, look again, and probe.

An epoch is a limit that was set, a run time to settle, and a window in which it is measured.
Growth goes on while more branches bring more throughput. A limit that holds is watched: a run time
above what was proven accuses it, and only if fewer branches run faster was it guilty; else the work
itself has become slower, and that is the new measure. So it cannot drift in a long incident.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._weir_window import Window, gain, with_sample

ENOUGH = 0.5  # gain from which on more is worth it
ACCUSED = math.log(1.35)
FIRST_WAIT, LONGEST_WAIT = 10.0, 120.0
LONGEST_LOOK = 10.0  # seconds of measuring while growing
LONGEST_PROBE = 30.0
PROBE = 1.25
FELL = 0.3  # of the CPU: other work, or a neighbour has left


@attrs.frozen
class Epochs:
    """Say where the search is.

    Attributes:
        mode: grow, hold, probe, or look (after a cut for run times).
        since: when the limit was set. window: what was seen at it since it settled.
        low: what a lower (when growing) or the held limit (when probing) yielded.
        proven: log run time that was proven to be unloaded, None while unknown.
        until, wait, up: when the next probe is, how long after that, and whether it goes up.
        cpu: what it usually is at this limit.
    """

    window: Window
    mode: str = "grow"
    since: float = -math.inf
    low: Window | None = None
    proven: float | None = None
    until: float = -math.inf
    wait: float = FIRST_WAIT
    up: bool = True
    cpu: float | None = None


def moved(state: Epochs, limit: int, t: float) -> Epochs:
    """Return the state after the limit was set by somebody else: measure afresh."""
    low = state.low if state.low is not None and state.low.limit < limit else None
    mode = "grow" if state.mode == "grow" else "hold"
    until = max(state.until, t + FIRST_WAIT)
    return attrs.evolve(
        state, window=Window(limit), mode=mode, since=t, low=low, until=until, cpu=None
    )


def search(
    state: Epochs, now: Load, dt: float, run_time: float, reach: float
) -> tuple[Epochs, float, str]:
    """Return the state, the limit to go to, and the cause of a change.

    Args:
        state: where the search is. now: a sample of a settled limit that was reached.
        dt: seconds that it covers. run_time: the usual one.
        reach: the limit up to which guards allow growth.
    """
    fades = math.inf if state.mode in {"probe", "look"} else max(5.0, 3 * run_time)
    state = attrs.evolve(state, window=with_sample(state.window, now, dt, fades))
    if now.cpu is not None:
        if state.cpu is not None and state.cpu - now.cpu >= FELL and state.mode == "hold":
            fresh = Epochs(Window(int(now.limit)), since=now.t, cpu=now.cpu)
            return _grow(fresh, now, reach, f"cpu fell from {state.cpu:.0%} to {now.cpu:.0%}")
        usual = now.cpu if state.cpu is None else state.cpu + 0.3 * (now.cpu - state.cpu)
        state = attrs.evolve(state, cpu=usual)
    if state.mode == "probe":
        return _probed(state, now, run_time)
    if state.mode == "look":
        return _looked(state, now, run_time)
    if (accused := _accused(state, now)) is not None:
        return accused
    if state.mode == "grow":
        return _growing(state, now, run_time, reach)
    return _held(state, now, reach)


def _growing(state: Epochs, now: Load, run_time: float, reach: float) -> tuple[Epochs, float, str]:
    window, low = state.window, state.low
    if window.n < 3 or window.span < min(1.0, run_time) or window.done < 1:
        return state, now.limit, ""
    if low is None:
        if window.n < 5 and window.span < LONGEST_LOOK:
            return state, now.limit, ""
        return _grow(_with_proof(state), now, reach, _yields(window))
    bought, error = gain(low, window)
    over = window.span >= min(LONGEST_LOOK, max(3.0, 3 * run_time))
    if bought - 0.3 * error > ENOUGH or (over and bought > ENOUGH):
        return _grow(_with_proof(state), now, reach, _yields(window))
    if bought + 1.5 * error < ENOUGH or over:
        cause = f"{window.rate:.3g}/s, at {low.limit} {low.rate:.3g}/s"
        target = _little(state, low)
        return _hold(state, now, target, FIRST_WAIT), target, cause
    return state, now.limit, ""


def _grow(state: Epochs, now: Load, reach: float, cause: str) -> tuple[Epochs, float, str]:
    target = min(now.limit * 2, reach)
    if int(target) <= now.limit:
        return state, now.limit, ""  # as soon as the guards allow it
    low = state.window if state.window.n else None
    window = Window(int(target))
    state = attrs.evolve(state, mode="grow", window=window, low=low, since=now.t, cpu=None)
    return state, target, cause


def _hold(state: Epochs, now: Load, limit: float, wait: float) -> Epochs:
    window = state.window if int(limit) == now.limit else Window(int(limit))
    return attrs.evolve(
        state,
        mode="hold",
        window=window,
        low=None,
        since=state.since if int(limit) == now.limit else now.t,
        until=now.t + wait,
        wait=wait,
        cpu=None,
    )


def _held(state: Epochs, now: Load, reach: float) -> tuple[Epochs, float, str]:
    window = state.window
    if now.t < state.until or window.n < 5:
        return state, now.limit, ""
    step = max(1, round(now.limit * (PROBE - 1)))
    target = min(now.limit + step, reach) if state.up else now.limit - step
    state = attrs.evolve(state, up=not state.up)
    if int(target) == now.limit or target < 1:
        return attrs.evolve(state, until=now.t + state.wait), now.limit, ""
    state = attrs.evolve(state, mode="probe", low=window, window=Window(int(target)), since=now.t)
    return state, target, f"probe, {window.rate:.3g}/s"


def _probed(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, held = state.window, state.low
    assert held is not None
    if window.n < 5 or window.span < min(2.0, run_time):
        return state, now.limit, ""
    up = window.limit > held.limit
    bought, error = gain(held, window)
    over = window.span >= min(LONGEST_PROBE, max(5.0, 5 * run_time))
    wait = min(LONGEST_WAIT, state.wait * 2)
    cause = f"{window.rate:.3g}/s, at {held.limit} {held.rate:.3g}/s"
    if bought - error > ENOUGH or (over and bought > ENOUGH):
        if up:
            return attrs.evolve(state, mode="grow", wait=FIRST_WAIT), now.limit, ""
        return _hold(state, now, held.limit, wait), held.limit, cause
    if bought + error < ENOUGH or over:
        if up:
            return _hold(state, now, held.limit, wait), held.limit, cause
        return _hold(_with_proof(state), now, now.limit, FIRST_WAIT), now.limit, ""
    return state, now.limit, ""


def _accused(state: Epochs, now: Load) -> tuple[Epochs, float, str] | None:
    """Cut for run times above the proven ones, to see whether they come down with the limit."""
    window, proven = state.window, state.proven
    if proven is None or window.n < 8 or (now.cpu or 0.0) > 0.92:
        return None
    slower, error = window.mean - proven, math.sqrt(window.variance)
    if slower + 2 * error < -ACCUSED:
        return _grow(attrs.evolve(state, proven=window.mean), now, math.inf, "") if False else None
    if slower - 2 * error < ACCUSED or now.limit <= 1:
        return None
    target = max(1, math.floor(now.limit * max(0.25, math.exp(-slower) * 1.1)))
    cause = f"run time {math.exp(window.mean):.3g} s, {math.exp(proven):.3g} s unloaded"
    state = attrs.evolve(state, mode="look", low=window, window=Window(target), since=now.t)
    return state, target, cause


def _looked(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, before = state.window, state.low
    assert before is not None
    if window.n < 5 or window.span < min(1.0, run_time):
        return state, now.limit, ""
    width = math.log(before.limit / window.limit)
    fell = before.mean - window.mean
    error = math.sqrt(before.variance + window.variance)
    if fell - error < 0.5 * width < fell + error and window.span < LONGEST_LOOK:
        return state, now.limit, ""
    if fell > 0.5 * width:
        return _hold(state, now, now.limit, FIRST_WAIT), now.limit, ""
    state = attrs.evolve(_hold(state, now, before.limit, FIRST_WAIT), proven=window.mean)
    return state, before.limit, f"the work is slower: {math.exp(window.mean):.3g} s"


def _with_proof(state: Epochs) -> Epochs:
    """Return the state that has learnt the run time of a limit which is not too high."""
    mean = state.window.mean
    if state.proven is None or mean < state.proven:
        return attrs.evolve(state, proven=mean)
    return state


def _little(state: Epochs, low: Window) -> int:
    """Return the limit that Little's law gives: the rate there is, at the run time unloaded."""
    window = state.window
    share = math.exp(min(0.0, (state.proven or low.mean) - window.mean))
    return max(min(low.limit, window.limit), math.ceil(window.limit * share))


def _yields(window: Window) -> str:
    return f"{window.rate:.3g}/s, run time {math.exp(window.mean):.3g} s"
