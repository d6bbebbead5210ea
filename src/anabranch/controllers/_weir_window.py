"""Count what a limit yields, and tell how much slower branches are at one limit than at another.

Run times are summed up by the mean of their logarithms, for people and for the guard of cores:
one of a hundred times the length would decide any other mean. Limits are compared by the ages at
which branches end, which needs no time to settle.
"""

from __future__ import annotations

import math
import operator

import attrs

from anabranch._load import Load
from anabranch.controllers._weir_life import Life, lived, slowed

LEAST = 1e-4  # seconds: shorter run times are this
TELL = 5  # branches that tell a rate
UNEVEN = 1.5  # of the variance that chance alone gives a rate
MORE = 0.05  # of log rate: less is not worth a move
KEPT, LEFT = 120.0, 8  # seconds for which limits are remembered that were left, and how many


@attrs.frozen
class Window:
    """Sum up what was seen at one limit.

    Attributes:
        limit: at which it was seen. n, s, ss: number, sum and sum of squares of log run times.
        done: branches that succeeded. span: seconds.
        life: at which ages how many ended.
    """

    limit: int
    n: float = 0.0
    s: float = 0.0
    ss: float = 0.0
    done: float = 0.0
    span: float = 0.0
    life: Life = attrs.field(factory=Life, repr=False)

    @property
    def mean(self) -> float:
        """Mean log run time."""
        return self.s / self.n if self.n else 0.0

    @property
    def rate(self) -> float:
        """Branches that succeeded, a second."""
        return self.done / self.span if self.span else 0.0

    @property
    def mean_variance(self) -> float:
        """Variance of the mean; what few samples say is trusted less."""
        if self.n < 2:
            return 1.0
        spread = max(0.0, self.ss / self.n - self.mean**2) + 0.3 / self.n
        return (spread + 1e-3) / self.n


Past = tuple[tuple[float, Window], ...]  # what was seen of limits, and until when


def with_sample(window: Window, now: Load, dt: float, half_life: float = math.inf) -> Window:
    """Return the window with one more sample; older ones fade."""
    keep = 0.5 ** (dt / half_life) if half_life < math.inf else 1.0
    logs = [math.log(max(LEAST, each)) for each in now.latencies]
    return Window(
        window.limit,
        n=window.n * keep + len(logs),
        s=window.s * keep + sum(logs),
        ss=window.ss * keep + sum([each * each for each in logs]),
        done=window.done * keep + now.finished,
        span=window.span * keep + dt,
        life=lived(window.life, now, dt, keep),
    )


def slower(before: Window, after: Window, since: float = math.inf) -> tuple[float, float]:
    """Return by how much log run time rose from one window to another, and its variance.

    ``since`` is for how many seconds they may have been slower, on average; infinite for always.
    """
    return slowed(before.life, after.life, since)


def gain(low: Window, high: Window) -> tuple[float, float]:
    """Return d ln(throughput) / d ln(limit) from one window to another, and its standard error.

    1 is all that a limit can bring, 0 nothing, below it harm. One limit says nothing of it.
    """
    if low.limit == high.limit:
        return 1.0, math.inf
    width = math.log(high.limit / low.limit)
    rise, variance = slower(low, high)
    return 1 - rise / width, math.sqrt(variance) / abs(width)


def ahead(low: Window, high: Window) -> tuple[float, float]:
    """Return by how much the log rate rose from one window to another, and its standard error.

    It is the plainest measure, but says nothing until as many end as begin: in a run time.
    """
    if min(low.done, high.done) < TELL:
        return 0.0, math.inf
    return math.log(high.rate / low.rate), math.sqrt(UNEVEN / low.done + UNEVEN / high.done)


def by_rates(low: Window, high: Window, run_time: float) -> tuple[float, float]:
    """Return the gain by what was served, and its standard error: infinite while all is young."""
    if min(low.span, high.span) < run_time:
        return 1.0, math.inf
    width = math.log(high.limit / low.limit)
    more, error = ahead(low, high)
    return more / width, error / abs(width)


def surest_gain(low: Window, high: Window, run_time: float) -> tuple[float, float]:
    """Return the gain by run times or by what was served, whichever is known better."""
    return min(gain(low, high), by_rates(low, high, run_time), key=operator.itemgetter(1))


def remembered(past: Past, window: Window, t: float) -> Past:
    """Return what was seen of the limits of late, this window among them."""
    others = [each for each in past if each[1].limit != window.limit and each[0] > t - KEPT]
    return (*others[1 - LEFT :], (t, window))


def better(past: Past, window: Window, reach: float, errors: float) -> int:
    """Return the limit within ``reach`` that served more, by so many ``errors``; 0 for none."""
    found, most = 0, MORE
    for _, one in past:
        if one.limit == window.limit or one.limit > reach:
            continue
        more, error = ahead(window, one)
        if more - errors * error > most:
            found, most = one.limit, more - errors * error
    return found


def yields(window: Window) -> str:
    """Say what a window has seen."""
    return f"{window.rate:.3g}/s, run time {math.exp(window.mean):.3g} s"
