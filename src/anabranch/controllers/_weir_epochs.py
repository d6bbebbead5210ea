"""Hold what the search for a limit has learnt, for those who grow and those who hold.

An epoch is a limit that was set, and a window in which it is measured. What outlives it is what was
proven: the run time of branches that did not wait for each other, by which every limit is judged.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._weir_life import joined
from anabranch.controllers._weir_window import Past, Window, slower

ENOUGH = 0.5  # gain from which on more is worth it
ACCUSED = math.log(1.35)
FIRST_WAIT = 12.0
LONGEST_LOOK = 10.0  # seconds of measuring while growing
PROBE = 1.25
ENOUGH_ENDED = 12  # branches that make a witness
AGREES = 0.1  # of log run time: it is counted together with what was proven
SPARE = 1.1  # of what Little's law gives


@attrs.frozen
class Epochs:
    """Say where the search is.

    Attributes:
        window: what was seen at the limit. mode: grow, hold, probe, or look (after a cut for run
            times).
        low: what a lower limit yielded (when growing), the held one (when probing), the accused
            one (when looking).
        proven: a window of which it was proven that its branches did not wait for each other.
        until, wait: when the next probe is, and how long after that the one after it.
        calm: what was seen of the limit that is held, at first.
        cpu: what it usually is at this limit. fell: since when it is far below that.
        excused: whether the CPU was busy of late. top: whether there is no higher limit.
        walled: whether guards allowed hardly more than this limit, a sample ago.
        risen: log run time of ``low`` above the proven one. charge: that of the accused limit.
        roof: a limit that was convicted. turn: the next probe goes down (-1), or up if nothing
            speaks against it (1).
        past: what was seen of other limits of late: the one that served more is probed first.
        climbs: it grows in leaps, as long as branches are short and nothing else has moved the
            limit. paused: no growth before that time.
    """

    window: Window
    mode: str = "grow"
    low: Window | None = None
    proven: Window | None = None
    until: float = -math.inf
    wait: float = FIRST_WAIT
    calm: Window | None = None
    cpu: float | None = None
    fell: float = math.inf
    excused: bool = False
    top: bool = False
    walled: bool = False
    risen: float = 0.0
    turn: int = 1
    charge: float = 0.0
    roof: float = math.inf
    past: Past = ()
    climbs: bool = False
    paused: float = -math.inf


def moved(state: Epochs, limit: int, t: float, *, rest: bool = False) -> Epochs:
    """Return the state after the limit was set by somebody else: measure afresh.

    With ``rest`` growing has ended there, and the next probe goes up again.
    """
    low = state.low if state.low is not None and state.low.limit < limit else None
    mode = "grow" if state.mode == "grow" and not rest else "hold"
    until = max(state.until, t + state.wait)
    climbs = state.climbs and limit == state.window.limit
    window = Window(limit)
    return attrs.evolve(
        state,
        window=window,
        mode=mode,
        low=low,
        until=until,
        cpu=None,
        climbs=climbs,
        turn=1 if rest else state.turn,
    )


def hold(state: Epochs, now: Load, limit: float, wait: float) -> Epochs:
    """Return the state that holds a limit, and probes after ``wait`` seconds."""
    same = int(limit) == now.limit
    return attrs.evolve(
        state,
        mode="hold",
        window=state.window if same else Window(int(limit)),
        low=None,
        until=now.t + wait,
        wait=max(wait, FIRST_WAIT),
        cpu=state.cpu if same else None,
    )


def with_proof(state: Epochs, held: Window | None = None) -> Epochs:
    """Return the state that has learnt the run time of a limit which is not too high.

    That is the present one, or the one that was ``held``; what agrees is counted together.
    """
    window, proven = state.window, state.proven
    if held is not None or proven is None:
        return attrs.evolve(state, proven=held or window, risen=0.0)
    if proven.life.count < ENOUGH_ENDED and proven.life.count < window.life.count:
        return attrs.evolve(state, proven=window, risen=0.0)  # a few are no measure for many
    rise, variance = slower(proven, window)
    error = math.sqrt(variance)
    if rise < -2 * error:
        return attrs.evolve(state, proven=window, risen=0.0)
    if rise - error < AGREES:
        both = attrs.evolve(window, life=joined(proven.life, window.life))
        return attrs.evolve(state, proven=both, risen=0.0)
    return attrs.evolve(state, risen=max(0.0, rise))


def little(limit: float, rise: float, least: float = 1) -> int:
    """Return the limit that Little's law gives: the rate there is, at the run time unloaded.

    It is no more than ``limit``, at which run times have risen so, and no less than ``least``.
    """
    most = int(limit)
    return max(min(int(least), most), min(most, math.ceil(most * math.exp(-rise) * SPARE)))
