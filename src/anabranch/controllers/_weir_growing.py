"""Double the limit while that buys throughput; go back where it no longer does.

Every limit is judged by the run times of its branches, against what was proven or the limit below
it, as soon as enough have ended to tell. One that is convicted becomes a roof, which is neared in
small steps from then on.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._weir_climb import rested
from anabranch.controllers._weir_epochs import (
    ACCUSED,
    ENOUGH,
    ENOUGH_ENDED,
    FIRST_WAIT,
    LONGEST_LOOK,
    PROBE,
    Epochs,
    hold,
    little,
    with_proof,
)
from anabranch.controllers._weir_window import Window, by_rates, slower, yields

BRIEF = 0.3  # seconds of run time
QUORUM = 0.75  # of the branches have ended before more are tried
FEWEST = 4  # branches that convict nobody, and less than ...
HASTE = 0.6  # ... of a run time neither
DOUBT = 2.0  # by so much, over the number of branches, a witness is less sure than it seems
SURE, OVERDUE = 2.5, 1.5  # errors: to convict; late
SERVED, DENIED = 0.5, 0.7  # errors of rates: to acquit; to doubt that more would be served
NARROW = math.log(1.4)  # between limits this close no gain can be measured soon


def growing(state: Epochs, now: Load, run_time: float, reach: float) -> tuple[Epochs, float, str]:
    """Grow if what was seen of the limit speaks for more; go back if it is convicted."""
    if now.t < state.paused:
        return state, now.limit, ""
    if state.paused > -math.inf:
        return rested(state, now)
    window, low = state.window, state.low
    quorum = max(now.limit / 2, ENOUGH_ENDED) if run_time < BRIEF else QUORUM * now.limit
    enough = window.done >= min(quorum, QUORUM * now.limit) and window.n >= min(3, now.limit)
    if low is None or low.limit >= window.limit:
        return grow(state, now, reach, yields(window)) if enough else (state, now.limit, "")
    witness = state.proven or low
    rise, variance = slower(witness, window)
    error = math.sqrt(variance * (1 + DOUBT / max(1.0, witness.life.count)))
    width = math.log(window.limit / low.limit)
    lost = rise - state.risen - (1 - ENOUGH) * width
    long = window.span >= LONGEST_LOOK
    over = window.span >= min(LONGEST_LOOK, max(3.0, 2 * run_time))
    early = witness.life.count < FEWEST or window.span < HASTE * run_time
    known = state.roof < math.inf and over  # a little more was far too much
    served, doubt = by_rates(low, window, run_time)
    early = early or served - SERVED * doubt > ENOUGH  # no run time can convict it
    if lost - (0.0 if known else OVERDUE if over else SURE) * error > 0 and not early:
        target = little(window.limit, rise, low.limit)
        cause = f"{yields(window)}, at {low.limit} {low.rate:.3g}/s"
        state = attrs.evolve(state, roof=now.limit, turn=-1)  # it may be less than half
        return hold(state, now, target, FIRST_WAIT), target, cause
    vague = witness.life.count < ENOUGH_ENDED
    if state.top and long:  # nothing more to gain: watch it
        return hold(state, now, now.limit, 2 * FIRST_WAIT), now.limit, ""
    # Too low costs half and too high little, so what cannot be known is taken for good.
    lenient = (enough and vague) or (over and (long or width < NARROW))
    lenient = lenient and (vague or rise - error < ACCUSED)
    good = (lost < 0 and (enough or over)) or (lost < error and lenient)
    denied = good and _served_no_more(state, run_time)
    if good and not denied and window.done:
        return grow(state, now, reach, yields(window))
    if long and (lost >= 0 or denied):  # neither good nor bad: watch it
        return hold(state, now, now.limit, 0.0), now.limit, ""
    return state, now.limit, ""


def _served_no_more(state: Epochs, run_time: float) -> bool:
    """Tell whether a limit of half as many served as much, though none may be slower here."""
    for _, lower in state.past:
        if 2 * lower.limit <= state.window.limit:
            served, doubt = by_rates(lower, state.window, run_time / 2)
            if served + DENIED * doubt < ENOUGH:
                return True
    return False


def grow(state: Epochs, now: Load, reach: float, cause: str) -> tuple[Epochs, float, str]:
    """Go on to the next limit, as far as the guards allow."""
    roof = state.roof if now.limit < state.roof else math.inf
    near = 2 * now.limit >= roof
    target = min(max(now.limit * PROBE, now.limit + 1) if near else now.limit * 2, reach)
    if int(target) <= now.limit:
        return state, now.limit, ""  # as soon as the guards allow it
    state = attrs.evolve(state, window=_unbiased(state.window))
    state = with_proof(state) if state.window.n else state
    low = state.window if state.window.n else None
    window = Window(int(target))
    state = attrs.evolve(state, mode="grow", window=window, low=low, cpu=None, roof=roof)
    return state, target, cause


def _unbiased(window: Window) -> Window:
    """Return the window without the branch at whose end it was closed: it was waited for."""
    life = window.life
    if life.count <= 1:
        return window
    part = (life.count - 1) / life.count
    ended = tuple([each * part for each in life.ended])
    return attrs.evolve(window, life=attrs.evolve(life, ended=ended, count=life.count - 1))
