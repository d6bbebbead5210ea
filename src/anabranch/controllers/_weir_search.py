"""Search for the limit that buys throughput: grow, hold, probe, look below, and grow again.

A limit that holds is watched: a run time above what was proven accuses it, and only if fewer
branches run faster was it guilty; else the work itself has become slower, and that is the new
measure. So it cannot drift in a long incident. Now and then a probe asks whether a little more, or
less, would do better.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._seen import percent
from anabranch.controllers._weir_climb import climb
from anabranch.controllers._weir_epochs import (
    ACCUSED,
    AGREES,
    ENOUGH,
    ENOUGH_ENDED,
    FIRST_WAIT,
    LONGEST_LOOK,
    PROBE,
    SPARE,
    Epochs,
    hold,
    with_proof,
)
from anabranch.controllers._weir_growing import grow, growing
from anabranch.controllers._weir_window import (
    Window,
    better,
    gain,
    remembered,
    slower,
    surest_gain,
    with_sample,
    yields,
)

DEEPEST = 0.5  # of an accused limit: more would tell no more
LONGEST_WAIT = 90.0
AGAIN = 3.0  # seconds to the next look below, where fewer did as well
LONGEST_PROBE = 30.0
FEW = 12
PROBED, CHARGED = 1.5, 3.0  # errors: of a probe; to accuse
LIKELY, CLEAR = 1.0, 3.0  # errors of rates: to be probed next; to be probed now
QUEUED = 0.15  # of log run time above the proven one: a probe goes down
FASTER = -0.1  # of log run time: something has ended, so probe now
BUSY = 0.85  # of the CPU: nothing is to be found out by a probe
FELL = 0.3  # of the CPU: other work, or a neighbour has left
SCARCE = 0.7  # of the CPU: below it nobody was in anybody's way
WALLED = 1.5  # times the limit: where guards allow no more, it is they who know how many
EXCUSED = 0.92  # of the CPU: run times are the CPU's matter


def search(
    state: Epochs, now: Load, dt: float, run_time: float, reach: float
) -> tuple[Epochs, float, str]:
    """Return the state, the limit to go to, and the cause of a change.

    Args:
        state: where the search is. now: a sample of a settled limit that was reached.
        dt: seconds that it covers. run_time: the usual one.
        reach: the limit up to which guards allow growth.
    """
    before = state.cpu
    if now.cpu is not None:
        if before is None or before < SCARCE or before - now.cpu < FELL:
            usual = now.cpu if before is None else before + 0.3 * (now.cpu - before)
            state = attrs.evolve(state, cpu=usual, fell=math.inf)
        elif now.t - state.fell >= run_time:  # branches that began together rest together
            fresh = Epochs(Window(int(now.limit)))
            return grow(fresh, now, reach, f"cpu fell from {percent(before)} to {percent(now.cpu)}")
        else:
            state = attrs.evolve(state, fell=min(state.fell, now.t))
    fades = _fades(state, now, run_time)
    state = _seen(state, with_sample(state.window, now, dt, fades), now, run_time)
    if state.mode == "probe":
        return _probed(state, now, run_time)
    if state.mode == "look":
        return _looked(state, now, run_time)
    state = _sped_up(state, now)
    accused = None if state.excused else _accused(state, now)
    if accused is not None:
        return accused
    if state.mode == "grow":
        climbed = climb(state, now, reach) if state.climbs else None
        return climbed or growing(attrs.evolve(state, climbs=False), now, run_time, reach)
    return _held(state, now, run_time, reach, before)


def _fades(state: Epochs, now: Load, run_time: float) -> float:
    """Return after how many seconds what was seen counts half; never, while it is waited for."""
    first = state.mode == "grow" and state.low is None and state.window.done < now.limit
    if first or state.mode in {"probe", "look"}:
        return math.inf
    return max(8.0 if state.mode == "grow" else 5.0, 3 * run_time)


def _seen(state: Epochs, window: Window, now: Load, run_time: float) -> Epochs:
    brief = window.span < run_time / 2  # no measure of what is served
    past = state.past if brief else remembered(state.past, window, now.t)
    return attrs.evolve(state, window=window, past=past)


def _held(
    state: Epochs, now: Load, run_time: float, reach: float, cpu: float | None
) -> tuple[Epochs, float, str]:
    """Probe when it is due, unless the CPU was busy a sample ago: this one must put nothing off."""
    state = _watched(state, now)
    window = state.window
    due = now.t >= state.until
    if window.n < 5 or (cpu or 0.0) > BUSY:
        return state, now.limit, ""
    if due or (state.wait <= FIRST_WAIT and window.span > max(2.0, 2 * run_time)):
        target = better(state.past, window, reach, LIKELY if due else CLEAR)
        if target:
            target = min(target, 2 * int(now.limit))
            state = attrs.evolve(state, mode="probe", low=window, window=Window(target))
            return state, target, f"probe, {yields(window)}"
    return _stepped(state, now, reach) if due else (state, now.limit, "")


def _watched(state: Epochs, now: Load) -> Epochs:
    """Return the state that has learnt from a limit which is held, and probes now if it sped up."""
    window, calm = state.window, state.calm
    if calm is None or calm.limit != window.limit:
        if window.span > 4 and window.n >= 20:
            state = attrs.evolve(state, calm=window)
    else:
        rise, variance = slower(calm, window)
        if rise + 2 * math.sqrt(variance) < FASTER:
            state = attrs.evolve(state, calm=window, until=now.t)
    known = 0.0 if state.proven is None else state.proven.life.count
    if known >= 2 * ENOUGH_ENDED or window.life.count <= 1.5 * known:
        return state
    if state.proven is not None and known >= ENOUGH_ENDED / 2:
        rise, variance = slower(state.proven, window)
        if rise - math.sqrt(variance) >= AGREES:  # they wait for each other here
            return state
    return attrs.evolve(state, proven=window, risen=0.0)  # this is known better


def _stepped(state: Epochs, now: Load, reach: float) -> tuple[Epochs, float, str]:
    """Probe a small step up, or down."""
    window = state.window
    share = PROBE - 1 if now.limit > FEW else 2 * (PROBE - 1)  # a change of few is hard to see
    if state.top:
        share /= 2  # mostly it is the right one
    more = max(now.limit + 1, round(now.limit * (1 + share)))
    less = min(now.limit - 1, round(now.limit / (1 + share)))
    up = state.turn > 0
    if up and state.proven is not None:
        rise, variance = slower(state.proven, window)
        up = rise - math.sqrt(variance) < QUEUED
    up = up and not state.top  # or it would never look below
    target = min(more, reach) if up else less
    if int(target) == now.limit or target < 1 or (state.walled and not up):
        return attrs.evolve(state, until=now.t + state.wait, turn=-state.turn), now.limit, ""
    state = attrs.evolve(state, mode="probe", low=window, window=Window(int(target)))
    return state, target, f"probe, {yields(window)}"


def _probed(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, held = state.window, state.low
    if held is None or window.n < 5 or window.span < min(2.0, run_time):
        return state, now.limit, ""
    up = window.limit > held.limit
    bought, error = surest_gain(held, window, run_time)
    over = window.span >= min(LONGEST_PROBE, max(5.0, 5 * run_time))
    wait = min(LONGEST_WAIT, state.wait * 3)
    cause = f"{yields(window)}, at {held.limit} {held.rate:.3g}/s"
    state = attrs.evolve(state, turn=-1 if up else 1)
    if bought + PROBED * error < ENOUGH:  # fewer do as well
        if up:
            return hold(state, now, held.limit, wait), held.limit, cause
        state = attrs.evolve(hold(with_proof(state), now, now.limit, AGAIN), turn=-1)
        return attrs.evolve(state, wait=FIRST_WAIT), now.limit, ""
    if not over and bought - error < ENOUGH:
        return state, now.limit, ""
    if up:
        state = attrs.evolve(state, mode="grow", wait=FIRST_WAIT)
        if state.proven is not None and slower(state.proven, held)[0] > AGREES:
            state = with_proof(state, held)  # these were in nobody's way: the work is slower
        return state, now.limit, ""
    # What costs throughput had been in nobody's way; more may be good, too.
    return hold(with_proof(state, held), now, held.limit, wait), held.limit, cause


def _accused(state: Epochs, now: Load) -> tuple[Epochs, float, str] | None:
    """Cut for run times above the proven ones, to see whether they come down with the limit."""
    window, proven = state.window, state.proven
    if proven is None or window.n < 8 or now.limit <= 1 or proven.life.count < ENOUGH_ENDED:
        return None
    grown = state.mode == "grow" and state.low is not None and state.low.limit < window.limit
    if grown and window.span < LONGEST_LOOK:  # whether that was too much is found out
        return None
    rise, variance = slower(proven, window)
    if rise - CHARGED * math.sqrt(variance) < ACCUSED:
        return None
    target = max(1, math.floor(now.limit * max(DEEPEST, min(1.0, math.exp(-rise) * SPARE))))
    if target >= now.limit:
        return None
    cause = f"run time {math.exp(window.mean):.3g} s, {math.exp(proven.mean):.3g} s unloaded"
    state = attrs.evolve(state, mode="look", low=window, window=Window(target), charge=rise)
    return state, target, cause


def _sped_up(state: Epochs, now: Load) -> Epochs:
    """Forget what was proven where branches run faster than was thought possible: look below soon.

    It was of slower times, and many may have waited for each other unnoticed since.
    """
    window, proven = state.window, state.proven
    if proven is None or window.n < 30 or proven.life.count < ENOUGH_ENDED:
        return state
    rise, variance = slower(proven, window)
    if rise + CHARGED * math.sqrt(variance) > -ACCUSED:
        return state
    fresh = Window(int(now.limit))
    return Epochs(fresh, mode="hold", until=now.t + AGAIN, cpu=state.cpu)


def _looked(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, before = state.window, state.low
    if before is None or window.n < 5 or window.span < min(1.0, run_time):
        return state, now.limit, ""
    if state.proven is None:
        bought, error = gain(window, before)
        guilty = ENOUGH - bought
    else:
        rise, variance = slower(state.proven, window)
        guilty, error = state.charge / 2 - rise, math.sqrt(variance)
    if abs(guilty) < error and window.span < LONGEST_LOOK:
        return state, now.limit, ""
    if guilty > 0:
        return hold(state, now, now.limit, FIRST_WAIT), now.limit, ""
    state = Epochs(Window(before.limit), proven=window)
    return state, before.limit, f"the work is slower: {math.exp(window.mean):.3g} s"
