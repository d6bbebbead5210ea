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
from anabranch.controllers._seen import percent
from anabranch.controllers._weir_window import Window, gain, slower, with_sample

ENOUGH = 0.5  # gain from which on more is worth it
ACCUSED = math.log(1.35)
FIRST_WAIT, LONGEST_WAIT = 10.0, 90.0
LONGEST_LOOK = 10.0  # seconds of measuring while growing
LONGEST_PROBE = 30.0
PROBE = 1.25
FEW = 12
QUORUM = 1.0  # of the limit must have ended before more is asked for
VAGUE = 8  # branches that convict nobody
ENOUGH_ENDED = 12  # branches that make a witness
NARROW = math.log(1.4)  # between limits this close no gain can be measured soon
QUEUED = 0.15  # of log run time above the proven one: a probe goes down
FASTER = -0.1  # of log run time: something has ended, so probe now
BUSY = 0.85  # of the CPU: nothing is to be found out by a probe
FELL = 0.3  # of the CPU: other work, or a neighbour has left
EXCUSED = 0.92  # of the CPU: run times are the CPU's matter


@attrs.frozen
class Epochs:
    """Say where the search is.

    Attributes:
        window: what was seen at the limit since it settled. mode: grow, hold, probe, or look
            (after a cut for run times).
        low: what a lower limit yielded (when growing), the held one (when probing), the accused
            one (when looking).
        proven: a window of which it was proven that its branches did not wait for each other.
        until, wait: when the next probe is, and how long after that the one after it.
        calm: what was seen of the limit that is held, at first.
        cpu: what it usually is at this limit. excused: whether the CPU was busy of late.
    """

    window: Window
    mode: str = "grow"
    low: Window | None = None
    proven: Window | None = None
    until: float = -math.inf
    wait: float = FIRST_WAIT
    calm: Window | None = None
    cpu: float | None = None
    excused: bool = False


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
        if before is not None and before - now.cpu >= FELL:
            fresh = Epochs(Window(int(now.limit)))
            return _grow(
                fresh, now, reach, f"cpu fell from {percent(before)} to {percent(now.cpu)}"
            )
        usual = now.cpu if before is None else before + 0.3 * (now.cpu - before)
        state = attrs.evolve(state, cpu=usual)
    fades = math.inf if state.mode in {"probe", "look"} else max(5.0, 3 * run_time)
    state = attrs.evolve(state, window=with_sample(state.window, now, dt, fades))
    if state.mode == "probe":
        return _probed(state, now, run_time)
    if state.mode == "look":
        return _looked(state, now, run_time)
    if (ended := _sped_up(state, now, reach)) is not None:
        return ended
    accused = None if state.excused else _accused(state, now)
    if accused is not None:
        return accused
    if state.mode == "grow":
        return _growing(state, now, run_time, reach)
    return _held(state, now, reach)


def _growing(state: Epochs, now: Load, run_time: float, reach: float) -> tuple[Epochs, float, str]:
    window, low = state.window, state.low
    if (
        window.n < min(3, now.limit)
        or window.span < min(0.9, run_time)
        or window.done < QUORUM * now.limit
    ):
        return state, now.limit, ""
    if low is None or low.limit >= window.limit:
        # Of those that began together the short ones end first, and would promise too much.
        least = min(5, 1 + now.limit)
        vague = window.n < 30 and window.varied > 0.1 and window.span < run_time
        few = window.n < least or vague
        if window.span < LONGEST_LOOK and few:
            return state, now.limit, ""
        return _grow(state, now, reach, yields(window))
    low = _witness(state, low)
    bought, error = gain(low, window)
    over = window.span >= min(LONGEST_LOOK, max(3.0, 2 * run_time))
    narrow = math.log(window.limit / low.limit) < NARROW
    long = window.span >= LONGEST_LOOK
    first = state.proven is None or state.proven.n == low.n
    short = first and low.done < low.limit and low.span < run_time
    early = short or low.n < VAGUE  # only the short ones had ended, or too few
    if bought + (1 if over else 2) * error < ENOUGH and not early:
        target = _little(state, low)
        cause = f"{yields(window)}, at {low.limit} {low.rate:.3g}/s"
        return _hold(state, now, target, FIRST_WAIT), target, cause
    if bought + 0.3 * error > ENOUGH or (over and (bought > ENOUGH or narrow or long or early)):
        return _grow(state, now, reach, yields(window))
    return state, now.limit, ""


def _witness(state: Epochs, low: Window) -> Window:
    """Return the lower limit that knows more: the last one, or a proven one."""
    proven = state.proven
    few = low.n < ENOUGH_ENDED and proven is not None and proven.n > 2 * low.n
    return proven if few and proven is not None and proven.limit < state.window.limit else low


def _grow(state: Epochs, now: Load, reach: float, cause: str) -> tuple[Epochs, float, str]:
    target = min(now.limit * 2, reach)
    if int(target) <= now.limit:
        return state, now.limit, ""  # as soon as the guards allow it
    state = _with_proof(state) if state.window.n else state
    low = state.window if state.window.n else None
    window = Window(int(target))
    state = attrs.evolve(state, mode="grow", window=window, low=low, cpu=None)
    return state, target, cause


def _hold(state: Epochs, now: Load, limit: float, wait: float) -> Epochs:
    same = int(limit) == now.limit
    return attrs.evolve(
        state,
        mode="hold",
        window=state.window if same else Window(int(limit)),
        low=None,
        until=now.t + wait,
        wait=wait,
        cpu=state.cpu if same else None,
    )


def _held(state: Epochs, now: Load, reach: float) -> tuple[Epochs, float, str]:
    window, calm = state.window, state.calm
    if calm is None or calm.limit != window.limit:
        if window.span > 4 and window.n >= 20:
            state = attrs.evolve(state, calm=window)
    elif all(rise + 2 * math.sqrt(v) < FASTER for rise, v in slower(calm, window)):
        state = attrs.evolve(state, calm=window, until=now.t)
    if now.t < state.until or window.n < 5 or (state.cpu or 0.0) > BUSY:
        return state, now.limit, ""
    share = PROBE - 1 if now.limit > FEW else 2 * (PROBE - 1)  # a change of few is hard to see
    step = max(1, round(now.limit * share))
    proven = state.proven
    up = proven is None or any(r - math.sqrt(v) < QUEUED for r, v in slower(proven, window))
    target = min(now.limit + step, reach) if up else now.limit - step
    if int(target) == now.limit or target < 1:
        return attrs.evolve(state, until=now.t + state.wait), now.limit, ""
    state = attrs.evolve(state, mode="probe", low=window, window=Window(int(target)))
    return state, target, f"probe, {yields(window)}"


def _probed(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, held = state.window, state.low
    if held is None or window.n < 5 or window.span < min(2.0, run_time):
        return state, now.limit, ""
    up = window.limit > held.limit
    bought, error = gain(held, window)
    over = window.span >= min(LONGEST_PROBE, max(5.0, 5 * run_time))
    wait = min(LONGEST_WAIT, state.wait * 3)
    cause = f"{yields(window)}, at {held.limit} {held.rate:.3g}/s"
    if bought + error < ENOUGH:  # fewer do as well
        if up:
            return _hold(state, now, held.limit, wait), held.limit, cause
        return _hold(_with_proof(state), now, now.limit, FIRST_WAIT), now.limit, ""
    if not over and bought - error < ENOUGH:
        return state, now.limit, ""
    if up:
        return attrs.evolve(state, mode="grow", wait=FIRST_WAIT), now.limit, ""
    # What costs throughput had been in nobody's way.
    return _hold(_with_proof(state, held), now, held.limit, wait), held.limit, cause


def _accused(state: Epochs, now: Load) -> tuple[Epochs, float, str] | None:
    """Cut for run times above the proven ones, to see whether they come down with the limit."""
    window, proven = state.window, state.proven
    if proven is None or window.n < 8 or now.limit <= 1:
        return None
    parts = slower(proven, window)
    if any(rise - 2 * math.sqrt(variance) < ACCUSED for rise, variance in parts):
        return None
    target = max(1, math.floor(now.limit * max(0.25, _needed(proven, state.low, window))))
    if target >= now.limit:
        return None
    cause = f"run time {math.exp(window.mean):.3g} s, {math.exp(proven.mean):.3g} s unloaded"
    state = attrs.evolve(state, mode="look", low=window, window=Window(target))
    return state, target, cause


def _sped_up(state: Epochs, now: Load, reach: float) -> tuple[Epochs, float, str] | None:
    """Halve where branches run faster than was thought possible, to see whether so many are needed.

    What was proven was of slower times, and many may have waited for each other unnoticed since.
    """
    window, proven = state.window, state.proven
    if proven is None or window.n < 30 or min(reach, 2 * now.limit) > now.limit + 1:
        return None
    if any(rise + 2 * math.sqrt(v) > -ACCUSED for rise, v in slower(proven, window)):
        return None
    target = max(1, int(now.limit) // 2)
    was, is_now = math.exp(proven.mean), math.exp(window.mean)
    cause = f"run time fell from {was:.3g} s to {is_now:.3g} s"
    state = attrs.evolve(state, mode="look", low=window, window=Window(target), proven=None)
    return state, target, cause


def _looked(state: Epochs, now: Load, run_time: float) -> tuple[Epochs, float, str]:
    window, before = state.window, state.low
    if before is None or window.n < 5 or window.span < min(1.0, run_time):
        return state, now.limit, ""
    bought, error = gain(window, before)
    if abs(bought - ENOUGH) < error and window.span < LONGEST_LOOK:
        return state, now.limit, ""
    if bought < ENOUGH:
        return _hold(state, now, now.limit, FIRST_WAIT), now.limit, ""
    state = attrs.evolve(_hold(state, now, before.limit, FIRST_WAIT), proven=window)
    return state, before.limit, f"the work is slower: {math.exp(window.mean):.3g} s"


def _with_proof(state: Epochs, held: Window | None = None) -> Epochs:
    """Return the state that has learnt the run time of a limit which is not too high.

    That is the present one, or the one that was ``held``.
    """
    window, proven = state.window, state.proven
    if held is not None or proven is None:
        return attrs.evolve(state, proven=held or window)
    (times, variance), _ = slower(proven, window)
    error = 2 * math.sqrt(variance)
    if times < -error or (times < error and window.n > 0.7 * proven.n):
        return attrs.evolve(state, proven=window)
    return state


def _little(state: Epochs, low: Window) -> int:
    """Return the limit that Little's law gives: the rate there is, at the run time unloaded."""
    share = _needed(state.proven or low, low, state.window)
    return max(min(low.limit, state.window.limit), math.ceil(state.window.limit * share))


def _needed(proven: Window, low: Window | None, window: Window) -> float:
    """Return the share of the limit that would do, by the best rate seen, at most all of it."""
    (times, _), (rates, _) = slower(proven, window)
    better = 1.0
    if low is not None and low.limit < window.limit and window.done:
        better = min(1.5, max(1.0, low.rate / window.rate))
    return min(1.0, math.exp(-(times + rates) / 2) * 1.1 * better)


def yields(window: Window) -> str:
    """Say what a window has seen."""
    return f"{window.rate:.3g}/s, run time {math.exp(window.mean):.3g} s"
