"""Find the limit that buys throughput: double while it does, hold, look again, and probe.

An epoch is a limit that was set, and a window in which it is measured.
Growth goes on while more branches bring more throughput. A limit that holds is watched: a run time
above what was proven accuses it, and only if fewer branches run faster was it guilty; else the work
itself has become slower, and that is the new measure. So it cannot drift in a long incident.
"""

from __future__ import annotations

import math
import operator

import attrs

from anabranch._load import Load
from anabranch.controllers._seen import percent
from anabranch.controllers._weir_life import joined
from anabranch.controllers._weir_window import (
    Past,
    Window,
    ahead,
    better,
    gain,
    remembered,
    slower,
    with_sample,
)

ENOUGH = 0.5  # gain from which on more is worth it
ACCUSED = math.log(1.35)
DEEPEST = 0.5  # of an accused limit: more would tell no more
FIRST_WAIT, LONGEST_WAIT = 12.0, 90.0
AGAIN = 3.0  # seconds to the next look below, where fewer did as well
LONGEST_LOOK = 10.0  # seconds of measuring while growing
LONGEST_PROBE = 30.0
PROBE = 1.25
BRIEF = 0.3  # seconds of run time
FEW = 12
QUORUM = 0.75  # of the branches have ended before more are tried
FEWEST = 4  # branches that convict nobody, and less than ...
HASTE = 0.3  # ... of a run time neither
DOUBT = 2.0  # by so much, over the number of branches, a witness is less sure than it seems
SURE, OVERDUE, PROBED, CHARGED = 2.5, 1.5, 1.5, 3.0  # errors: to convict; late; a probe; to accuse
SERVED, LIKELY, CLEAR = 0.5, 1.0, 3.0  # of rates: to acquit; to be probed next; to be probed now
ENOUGH_ENDED = 12  # branches that make a witness
NARROW = math.log(1.4)  # between limits this close no gain can be measured soon
QUEUED = 0.15  # of log run time above the proven one: a probe goes down
FASTER = -0.1  # of log run time: something has ended, so probe now
AGREES = 0.1  # of log run time: it is counted together with what was proven
SPARE = 1.1  # of what Little's law gives
BUSY = 0.85  # of the CPU: nothing is to be found out by a probe
FELL = 0.3  # of the CPU: other work, or a neighbour has left
EXCUSED = 0.92  # of the CPU: run times are the CPU's matter


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
        risen: log run time of ``low`` above the proven one. charge: that of the accused limit.
        roof: a limit that was convicted. turn: where nothing speaks for either, the next probe
            goes up (1) or down (-1).
        past: what was seen of other limits of late: the one that served more is probed first.
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
    risen: float = 0.0
    turn: int = 1
    charge: float = 0.0
    roof: float = math.inf
    past: Past = ()


def moved(state: Epochs, limit: int, t: float, *, rest: bool = False) -> Epochs:
    """Return the state after the limit was set by somebody else: measure afresh.

    With ``rest`` growing has ended there.
    """
    low = state.low if state.low is not None and state.low.limit < limit else None
    mode = "grow" if state.mode == "grow" and not rest else "hold"
    until = max(state.until, t + state.wait)
    return attrs.evolve(state, window=Window(limit), mode=mode, low=low, until=until, cpu=None)


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
        if before is None or before - now.cpu < FELL:
            usual = now.cpu if before is None else before + 0.3 * (now.cpu - before)
            state = attrs.evolve(state, cpu=usual, fell=math.inf)
        elif now.t - state.fell >= run_time:  # branches that began together rest together
            fresh = Epochs(Window(int(now.limit)))
            return _grow(
                fresh, now, reach, f"cpu fell from {percent(before)} to {percent(now.cpu)}"
            )
        else:
            state = attrs.evolve(state, fell=min(state.fell, now.t))
    fades = (
        math.inf
        if state.mode in {"probe", "look"}
        else max(8.0 if state.mode == "grow" else 5.0, 3 * run_time)
    )
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
        return _growing(state, now, run_time, reach)
    return _held(state, now, run_time, reach)


def _seen(state: Epochs, window: Window, now: Load, run_time: float) -> Epochs:
    brief = window.span < run_time / 2  # no measure of what is served
    past = state.past if brief else remembered(state.past, window, now.t)
    return attrs.evolve(state, window=window, past=past)


def _growing(state: Epochs, now: Load, run_time: float, reach: float) -> tuple[Epochs, float, str]:
    window, low = state.window, state.low
    quorum = max(now.limit / 2, ENOUGH_ENDED) if run_time < BRIEF else QUORUM * now.limit
    enough = window.done >= min(quorum, QUORUM * now.limit) and window.n >= min(3, now.limit)
    if low is None or low.limit >= window.limit:
        return _grow(state, now, reach, yields(window)) if enough else (state, now.limit, "")
    witness = state.proven or low
    rise, variance = slower(witness, window)
    error = math.sqrt(variance * (1 + DOUBT / max(1.0, witness.life.count)))
    width = math.log(window.limit / low.limit)
    lost = rise - state.risen - (1 - ENOUGH) * width
    long = window.span >= LONGEST_LOOK
    over = window.span >= min(LONGEST_LOOK, max(3.0, 2 * run_time))
    early = witness.life.count < FEWEST or window.span < HASTE * run_time
    known = state.roof < math.inf and over  # a little more was far too much
    served, doubt = _by_rates(low, window, run_time)
    early = early or served - SERVED * doubt > ENOUGH  # no run time can convict it
    if lost - (0.0 if known else OVERDUE if over else SURE) * error > 0 and not early:
        target = _little(state, low, rise)
        cause = f"{yields(window)}, at {low.limit} {low.rate:.3g}/s"
        state = attrs.evolve(state, roof=now.limit)
        return _hold(state, now, target, FIRST_WAIT), target, cause
    vague = witness.life.count < ENOUGH_ENDED
    if state.top and long:  # nothing more to gain: watch it
        return _hold(state, now, now.limit, 0.0), now.limit, ""
    # Too low costs half and too high little, so what cannot be known is taken for good.
    lenient = (enough and vague) or (over and (long or width < NARROW))
    lenient = lenient and (vague or rise - error < ACCUSED)
    good = (lost < 0 and (enough or over)) or (lost < error and lenient)
    if good and window.done:
        return _grow(state, now, reach, yields(window))
    if long and lost >= 0:  # neither good nor bad: watch it
        return _hold(state, now, now.limit, 0.0), now.limit, ""
    return state, now.limit, ""


def _by_rates(low: Window, high: Window, run_time: float) -> tuple[float, float]:
    """Return the gain by what was served, and its standard error: infinite while all is young."""
    if min(low.span, high.span) < run_time:
        return 1.0, math.inf
    width = math.log(high.limit / low.limit)
    more, error = ahead(low, high)
    return more / width, error / abs(width)


def _bought(low: Window, high: Window, run_time: float) -> tuple[float, float]:
    """Return the gain by run times or by what was served, whichever is known better."""
    return min(gain(low, high), _by_rates(low, high, run_time), key=operator.itemgetter(1))


def _grow(state: Epochs, now: Load, reach: float, cause: str) -> tuple[Epochs, float, str]:
    roof = state.roof if now.limit < state.roof else math.inf
    near = 2 * now.limit >= roof
    target = min(max(now.limit * PROBE, now.limit + 1) if near else now.limit * 2, reach)
    if int(target) <= now.limit:
        return state, now.limit, ""  # as soon as the guards allow it
    state = attrs.evolve(state, window=_unbiased(state.window))
    state = _with_proof(state) if state.window.n else state
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


def _hold(state: Epochs, now: Load, limit: float, wait: float) -> Epochs:
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


def _held(state: Epochs, now: Load, run_time: float, reach: float) -> tuple[Epochs, float, str]:
    state = _watched(state, now)
    window = state.window
    due = now.t >= state.until
    if window.n < 5 or (state.cpu or 0.0) > BUSY:
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
    step = max(1, round(now.limit * share))
    up = state.turn > 0
    if state.proven is not None:
        rise, variance = slower(state.proven, window)
        error = math.sqrt(variance)
        up = up if abs(rise - QUEUED) < error else rise < QUEUED
    target = min(now.limit + step, reach) if up else now.limit - step
    if int(target) == now.limit or target < 1:
        return attrs.evolve(state, until=now.t + state.wait, turn=-state.turn), now.limit, ""
    state = attrs.evolve(state, mode="probe", low=window, window=Window(int(target)))
    return state, target, f"probe, {yields(window)}"


def _probed(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, held = state.window, state.low
    if held is None or window.n < 5 or window.span < min(2.0, run_time):
        return state, now.limit, ""
    up = window.limit > held.limit
    bought, error = _bought(held, window, run_time)
    over = window.span >= min(LONGEST_PROBE, max(5.0, 5 * run_time))
    wait = min(LONGEST_WAIT, state.wait * 3)
    cause = f"{yields(window)}, at {held.limit} {held.rate:.3g}/s"
    state = attrs.evolve(state, turn=-1 if up else 1)
    if bought + PROBED * error < ENOUGH:  # fewer do as well
        if up:
            return _hold(state, now, held.limit, wait), held.limit, cause
        state = attrs.evolve(_hold(_with_proof(state), now, now.limit, AGAIN), turn=-1)
        return attrs.evolve(state, wait=FIRST_WAIT), now.limit, ""
    if not over and bought - error < ENOUGH:
        return state, now.limit, ""
    if up:
        state = attrs.evolve(state, mode="grow", wait=FIRST_WAIT)
        if state.proven is not None and slower(state.proven, held)[0] > AGREES:
            state = _with_proof(state, held)  # these were in nobody's way: the work is slower
        return state, now.limit, ""
    # What costs throughput had been in nobody's way; more may be good, too.
    return _hold(_with_proof(state, held), now, held.limit, wait), held.limit, cause


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
    return Epochs(fresh, mode="hold", until=now.t + AGAIN, turn=-1, cpu=state.cpu)


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
        return _hold(state, now, now.limit, FIRST_WAIT), now.limit, ""
    state = Epochs(Window(before.limit), proven=window)
    return state, before.limit, f"the work is slower: {math.exp(window.mean):.3g} s"


def _with_proof(state: Epochs, held: Window | None = None) -> Epochs:
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


def _little(state: Epochs, low: Window, rise: float) -> int:
    """Return the limit that Little's law gives: the rate there is, at the run time unloaded."""
    most = state.window.limit
    return max(min(low.limit, most), min(most, math.ceil(most * math.exp(-rise) * SPARE)))


def yields(window: Window) -> str:
    """Say what a window has seen."""
    return f"{window.rate:.3g}/s, run time {math.exp(window.mean):.3g} s"
