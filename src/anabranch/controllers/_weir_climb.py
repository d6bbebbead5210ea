"""Climb in leaps while the first branches are short, for they are many before a search has begun.

A leap waits for a share of a limit to have ended, not for a run time, and is judged by the ages at
which branches end, against all who ended before it. What so little evidence convicts is not held
against a limit: the climb ends below it, and after a pause the search measures all of it anew.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._weir_epochs import ACCUSED, ENOUGH, Epochs, little
from anabranch.controllers._weir_life import joined
from anabranch.controllers._weir_window import LEAST, Window, slower, yields

FIRST = 0.2  # seconds: where one is older before the first leap they are not short
SHORT = 0.25  # likewise later, but a leap may have made them slower: ...
SLOWER, BRIEFLY = 3.0, 0.3  # ... so many times, for so many seconds after it
LONGEST = 1.0  # seconds at one limit
PART = 0.37  # of the limit have ended, since the beginning, before the next leap
MANY = 32  # from there on leaps are smaller, for twice too many would cost more than they bring
LEAP, SMALL_LEAP = 2.0, 1.4
SEEN = 0.33  # of so many have ended since the last leap ...
LOOK, LONG_LOOK = 0.05, 0.09  # ... and it was looked at for so long, seconds; of fewer and many
GUILTY, DOUBTED = 1.5, 0.3  # errors: to go back; to wait
WITNESSES, FEW = 4, 4.0  # branches; by the second over their number they are less sure
PAUSE = 3.0  # seconds ...
SURE = 1.0  # ... and errors, after it, to go back further


def begun(now: Load) -> float:
    """Return for how long branches have run at the first sample; 0 where that is not told.

    It counts only where it came early because some had ended: they are so short that it would be
    waited for a run time more, else.
    """
    oldest = _oldest(now)
    return oldest if oldest < FIRST and now.finished else 0.0


def climb(state: Epochs, now: Load, reach: float) -> tuple[Epochs, float, str] | None:
    """Return the state, the limit to go to, and the cause; None when it is time to search."""
    window, low, before = state.window, state.low, state.proven
    oldest = _oldest(now)
    if before is None or low is None:
        if oldest > FIRST:
            return None
    elif (
        window.span > LONGEST
        or oldest > SLOWER * SHORT
        or (oldest > SHORT and window.span >= BRIEFLY)
    ):
        return None
    else:
        rise, variance = slower(before, window, window.span / 2)
        error = math.sqrt(variance * (1 + FEW / max(1.0, before.life.count)))
        lost = rise - (1 - ENOUGH) * math.log(window.limit / low.limit)
        if lost > GUILTY * error and before.life.count >= WITNESSES:
            target = little(window.limit, rise, low.limit)
            cause = f"{yields(window)}, at {low.limit} {low.rate:.3g}/s"
            return Epochs(Window(target), proven=before, paused=now.t + PAUSE), target, cause
        if lost > DOUBTED * error:
            return state, now.limit, ""
    if not _has_seen(window, before):
        return state, now.limit, ""
    return _leapt(state, now, reach)


def rested(state: Epochs, now: Load) -> tuple[Epochs, float, str]:
    """Return the state after the pause, without what the climb has seen; go back if it fell short.

    What a leap was convicted of may have begun before it, when too few had ended to tell. How many
    end for each second that branches run tells it also where none has been as old before.
    """
    window, before = state.window, state.proven
    fresh = attrs.evolve(state, paused=-math.inf, proven=None)
    if before is None or min(window.life.count, before.life.count) < WITNESSES:
        return fresh, now.limit, ""
    rise = math.log(_pace(before) / _pace(window))
    error = math.sqrt(1 / before.life.count + 1 / window.life.count)
    target = little(now.limit, rise)
    if rise - SURE * error < ACCUSED or target >= now.limit:
        return fresh, now.limit, ""
    cause = f"run time {math.exp(window.mean):.3g} s, {math.exp(before.mean):.3g} s at first"
    return Epochs(Window(target)), target, cause


def _oldest(now: Load) -> float:
    return max([*now.ages, *now.latencies], default=0.0)


def _pace(window: Window) -> float:
    return window.life.count / max(LEAST, sum(window.life.spent))


def _has_seen(window: Window, before: Window | None) -> bool:
    ended = window.done + (before.life.count if before is not None else 0.0)
    many = window.limit >= MANY
    if ended < PART * window.limit or window.done < (SEEN * window.limit if many else 1):
        return False
    return window.span > 0.99 * (LONG_LOOK if many else LOOK)


def _leapt(state: Epochs, now: Load, reach: float) -> tuple[Epochs, float, str]:
    window, before = state.window, state.proven
    target = min(now.limit * (SMALL_LEAP if window.limit >= MANY else LEAP), reach)
    if int(target) <= now.limit:
        return state, now.limit, ""  # as soon as the guards allow it
    life = window.life if before is None else joined(before.life, window.life)
    proven = attrs.evolve(window, life=life)
    state = attrs.evolve(state, window=Window(int(target)), low=window, proven=proven, cpu=None)
    return state, target, yields(window)
