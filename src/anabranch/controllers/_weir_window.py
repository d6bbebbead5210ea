"""Count what a limit yields: rate and run times with their uncertainty, and the gain between two.

Run times are told by the mean of their logarithms, because one of a hundred times the length
would decide any other mean.
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
        n, s, ss: number, sum and sum of squares of log run times. done: branches that succeeded.
        span: seconds. limit: at which it was seen.
    """

    limit: int
    n: float = 0.0
    s: float = 0.0
    ss: float = 0.0
    done: float = 0.0
    span: float = 0.0

    @property
    def mean(self) -> float:
        """Mean log run time."""
        return self.s / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Variance of the mean; what few samples say is trusted less."""
        if self.n < 2:
            return 1.0
        spread = max(0.0, self.ss / self.n - self.mean**2) + 0.3 / self.n
        return (spread + 1e-4) / self.n

    @property
    def rate(self) -> float:
        """Branches that succeeded, a second."""
        return self.done / self.span if self.span else 0.0


def with_sample(window: Window, now: Load, dt: float, half_life: float = math.inf) -> Window:
    """Return the window with one more sample; older ones fade."""
    keep = 0.5 ** (dt / half_life) if half_life < math.inf else 1.0
    logs = [math.log(max(LEAST, each)) for each in now.latencies]
    return attrs.evolve(
        window,
        n=window.n * keep + len(logs),
        s=window.s * keep + sum(logs),
        ss=window.ss * keep + sum([each * each for each in logs]),
        done=window.done * keep + now.finished,
        span=window.span * keep + dt,
    )


def gain(low: Window, high: Window) -> tuple[float, float]:
    """Return d ln(throughput) / d ln(limit) from one window to another, and its standard error.

    1 is all that a limit can bring, 0 nothing, below it harm.
    """
    width = math.log(high.limit / low.limit)
    times = 1 - (high.mean - low.mean) / width
    times_variance = (low.variance + high.variance) / width**2
    if low.done < 1 or high.done < 1:
        return times, math.sqrt(times_variance)
    rates = math.log(high.rate / low.rate) / width
    rates_variance = (1 / low.done + 1 / high.done) / width**2
    total = times_variance + rates_variance
    mean = (times * rates_variance + rates * times_variance) / total
    return mean, math.sqrt(times_variance * rates_variance / total)
