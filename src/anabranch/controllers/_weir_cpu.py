"""Judge the CPU by the CPU: the guard of cores, and how far they let a limit grow.

Cores that are busy are no fault; that work waits for them is. So the limit comes down when both
are so, until the waiting ends or the cores would fall idle, and never below three quarters of the
cores: that makes way for a neighbour, and is enough to see when it has left.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load
from anabranch.controllers._seen import percent
from anabranch.controllers._weir_window import Window, gain

BUSY = 0.97
WAITING = 0.85
BUSY_ALONE = 0.98  # where nobody tells what waits
STILL = 0.92  # above it nothing grows
IDLE = 0.85  # below it a cut was too much
LEFT = 0.6  # below it the cut was for somebody who has left
AIM = 0.98
BUSY_S, LONGEST_BUSY = 2.0, 4.0  # seconds, or a run time, for which work waits before a cut
SLOWER = 1.7  # run times, of what they were: somebody else has come
PAUSE, LONGEST = 10.0, 120.0
ALL = 0.95  # of what a cut could take it took: the branches only wait
LITTLE = 0.6  # likewise: it freed too little to cut again
SLOWED = math.log(1.25)
KNOWN = 8  # branches that tell a run time
PATIENT = 10.0  # seconds to wait for them before the next cut
LATER = 60.0  # seconds for which a limit that was right is not cut again


@attrs.frozen
class Cpu:
    """Remember what was cut for the CPU's sake.

    Attributes:
        busy: seconds for which work has waited for cores. cuts: in a row without effect.
        above, avoided, pause: the limit before the last cut (0 for none), until when it is not
            tried again, and how long that is. stays: whether the cut was seen to have no effect.
        right, until: a limit below which cores fell idle, and until when that holds.
        run_time: the usual one when that was found.
        before, cut_at: what was seen before the first of those cuts; when the last one was.
        innocent: log run time of branches of which it was seen that they only wait; -inf for none.
        calm: whether the cores were ever seen not to be busy: else somebody else was there before.
    """

    busy: float = 0.0
    cuts: int = 0
    above: int = 0
    stays: bool = False
    avoided: float = -math.inf
    pause: float = PAUSE
    right: int = 0
    until: float = -math.inf
    run_time: float = 0.0
    before: Window | None = None
    cut_at: float = -math.inf
    innocent: float = -math.inf
    calm: bool = False


def is_pressed(now: Load) -> bool:
    """Tell whether cores are busy and work waits for them."""
    if now.cpu is None:
        return False
    if now.cpu_pressure is None:
        return now.cpu > BUSY_ALONE
    return now.cpu > BUSY and now.cpu_pressure > WAITING


def is_innocent(state: Cpu, window: Window) -> bool:
    """Tell whether branches were seen to wait only, and run no longer than they did then."""
    return state.innocent > -math.inf and not _slowed(state.innocent, window)


def _slowed(mean: float, window: Window) -> bool:
    return window.n >= KNOWN and window.mean - math.sqrt(window.mean_variance) > mean + SLOWED


def reach(state: Cpu, now: Load, busy: float | None, window: Window) -> float:
    """Return the limit up to which cores allow growth; infinite where cpu is unknown.

    ``busy`` is what was usual, for when a reading is missing; ``window`` is of this limit.
    """
    cpu = busy if now.cpu is None else now.cpu
    if cpu is None:
        return math.inf
    innocent = is_innocent(state, window)
    if cpu > STILL and (state.calm or not innocent):
        return now.limit
    if innocent:
        return math.inf
    most = now.limit * AIM / max(cpu, 0.01)
    if state.above and now.t < state.avoided:
        most = min(most, state.above - 1)
    return max(now.limit, most)


def press(
    state: Cpu,
    now: Load,
    dt: float,
    settled: bool,
    run_time: float,
    window: Window,
    proven: Window | None,
) -> tuple[Cpu, float, str]:
    """Return the state, a cap (infinite for none), and its cause.

    ``window`` is what was seen of this limit, ``proven`` of one that was not too high.
    """
    if not is_pressed(now):
        cuts = 0 if (now.cpu or 0.0) < STILL else state.cuts
        calm = state.calm or (now.cpu is not None and now.cpu < STILL)
        return attrs.evolve(state, busy=0, cuts=cuts, calm=calm), math.inf, ""
    if not settled:
        return state, math.inf, ""
    state = attrs.evolve(state, busy=state.busy + dt, stays=state.above > 0)
    # Long ones that began together are busy together, and a while later they are not.
    if state.busy < min(LONGEST_BUSY, max(BUSY_S, run_time)) or _is_excused(
        state, now, window, proven
    ):
        return state, math.inf, ""
    least = max(1, math.floor((now.cores or 1.0) * 0.75))
    if now.t < state.until and run_time < SLOWER * state.run_time:
        least = max(least, state.right)
    # What had no effect was too little: after a fifth, halves.
    target = max(least, math.floor(now.limit * (0.5 if state.cuts else 0.8)))
    if target >= now.limit:
        return state, math.inf, ""
    known = 0 < state.above <= now.limit * 1.3 and now.t < state.avoided + state.pause
    pause = min(LONGEST, state.pause * 2) if known else PAUSE
    state = attrs.evolve(
        state,
        busy=0,
        cuts=state.cuts + 1,
        above=max(int(now.limit), state.above if state.cuts else 0),
        stays=False,
        avoided=now.t + pause,
        pause=pause,
        before=state.before if state.cuts else window,
        cut_at=now.t,
    )
    return state, target, cause(now)


def _is_excused(state: Cpu, now: Load, window: Window, proven: Window | None) -> bool:
    """Tell whether it is not, or not yet, known that the cores are these branches' matter."""
    if is_innocent(state, window) or acquit(state, now, window, proven)[1]:
        return True
    if proven is not None and proven.limit < window.limit and window.n >= KNOWN:
        return window.mean - proven.mean < SLOWED
    before = state.before
    if not state.cuts or before is None or before.n < KNOWN or window.limit >= before.limit:
        return False
    if window.n < KNOWN:
        return now.t < state.cut_at + PATIENT
    bought, _ = gain(window, before)
    return window.mean < before.mean + SLOWED and bought > LITTLE


def acquit(state: Cpu, now: Load, window: Window, proven: Window | None) -> tuple[Cpu, float, str]:
    """Return the state, a limit to go back to (0 for none), and its cause: a cut freed nothing.

    Fewer branches that only wait run as long as more of them did. They are not cut any further;
    but while the cores are busy nothing comes back either, unless they were busy from the very
    beginning: more pressure must raise no limit.
    """
    before = state.before
    if not state.above or before is None or now.cpu is None:
        return state, 0.0, ""
    if now.cpu > STILL and state.calm:
        return state, 0.0, ""
    if min(window.n, before.n) < KNOWN or window.limit >= before.limit:
        return state, 0.0, ""
    vague = math.sqrt(before.mean_variance + window.mean_variance)
    known = math.inf if proven is None else proven.mean
    if window.mean > min(known, before.mean + vague) + SLOWED:  # somebody has come meanwhile
        return state, 0.0, ""
    bought, error = gain(window, before)
    if bought < LITTLE or bought + error < ALL:
        return state, 0.0, ""
    back = float(state.above)
    state = Cpu(innocent=window.mean, calm=state.calm)
    return state, back, f"{cause(now)}, and fewer ran no faster"


def relieve(state: Cpu, now: Load, settled: bool, run_time: float) -> tuple[Cpu, float, str]:
    """Return the state, a limit to go back to (0 for none), and its cause: a cut was too much."""
    if not state.above or not settled or now.cpu is None or now.cpu >= IDLE:
        return state, 0.0, ""
    back = min(float(state.above), math.ceil(now.limit * AIM / max(now.cpu, 0.01)))
    left = state.stays or now.cpu < LEFT
    if not left and back == state.above and back > now.limit + 1:
        back = math.ceil(math.sqrt(now.limit * back))
    state = attrs.evolve(state, right=int(back), until=now.t + LATER, run_time=run_time)
    if left:
        state = attrs.evolve(state, above=0, avoided=-math.inf, pause=PAUSE)
    return state, back, cause(now)


def cause(now: Load) -> str:
    """Say what is seen of the CPU."""
    cores = "" if now.cores is None else f" of {now.cores:g} cores"
    waits = "" if now.cpu_pressure is None else f", pressure {percent(now.cpu_pressure)}"
    return f"cpu {percent(now.cpu or 0.0)}{cores}{waits}"
