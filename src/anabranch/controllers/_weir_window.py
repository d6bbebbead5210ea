"""Count what a limit yields, and tell how much slower branches are at one limit than at another.

Two things tell it: run times, by the mean of their logarithms, because one of a hundred times the
length would decide any other mean; and the rate, which by Little's law is the limit over the run
time. Just after a raise the short ones finish first, which the rate does not mind.
"""

from __future__ import annotations

import math

import attrs

from anabranch._load import Load

LEAST = 1e-4  # seconds: shorter run times are this


@attrs.frozen
class Window:
    """Sum up what was seen at one limit.

    Attributes:
        limit: at which it was seen. n, s, ss: number, sum and sum of squares of log run times.
        r, rr: sum and sum of squares of run times. done: branches that succeeded. span: seconds.
    """

    limit: int
    n: float = 0.0
    s: float = 0.0
    ss: float = 0.0
    r: float = 0.0
    rr: float = 0.0
    done: float = 0.0
    span: float = 0.0

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

    @property
    def rate_variance(self) -> float:
        """Variance of the logarithm of the rate: the more run times vary, the more it does."""
        if self.done < 2 or self.r <= 0:
            return 1.0
        return min(8.0, max(0.2, self.varied) + 1 / self.done) / self.done

    @property
    def varied(self) -> float:
        """Squared coefficient of variation of run times: 0 if all are equal, 1 if exponential."""
        return max(0.0, self.rr * self.n / self.r**2 - 1) if self.r > 0 else 0.0


def with_sample(window: Window, now: Load, dt: float, half_life: float = math.inf) -> Window:
    """Return the window with one more sample; older ones fade."""
    keep = 0.5 ** (dt / half_life) if half_life < math.inf else 1.0
    times = [max(LEAST, each) for each in now.latencies]
    logs = [math.log(each) for each in times]
    return Window(
        window.limit,
        n=window.n * keep + len(logs),
        s=window.s * keep + sum(logs),
        ss=window.ss * keep + sum([each * each for each in logs]),
        r=window.r * keep + sum(times),
        rr=window.rr * keep + sum([each * each for each in times]),
        done=window.done * keep + now.finished,
        span=window.span * keep + dt,
    )


def slower(before: Window, after: Window) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return by how much log run time rose, and its variance: by run times, then by the rate."""
    times = after.mean - before.mean, before.mean_variance + after.mean_variance
    if before.done < 1 or after.done < 1:
        return times, times
    rates = math.log(after.limit / after.rate) - math.log(before.limit / before.rate)
    return times, (rates, before.rate_variance + after.rate_variance)


def gain(low: Window, high: Window) -> tuple[float, float]:
    """Return d ln(throughput) / d ln(limit) from one window to another, and its standard error.

    1 is all that a limit can bring, 0 nothing, below it harm. One limit says nothing of it.
    """
    if low.limit == high.limit:
        return 1.0, math.inf
    (times, times_variance), (rates, rates_variance) = slower(low, high)
    total = times_variance + rates_variance
    rise = (times * rates_variance + rates * times_variance) / total
    width = math.log(high.limit / low.limit)
    error = math.sqrt(times_variance * rates_variance / total)
    # The two are of the same branches: together they know little more than the better one.
    return 1 - rise / width, 1.2 * error / abs(width)
