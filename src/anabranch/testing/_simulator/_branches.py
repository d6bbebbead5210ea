"""Draw branches: what each of them does, and how much it takes.

The n-th branch of a seed is the same whatever the limit was, so that limits can be compared.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

from anabranch.testing._simulator._words import Times, Work

if TYPE_CHECKING:
    from anabranch.testing._simulator._stations import Sharing

CPU: Final = 0
WAIT: Final = 1
CALL: Final = 2
SIGMA: Final = 1.3  # of the heavy tail: a tenth of the branches takes half of the time
MODES: Final = (1 / 3, 7.0)


class Branch:
    """Be one branch that runs: what it has left to do, where it is, and what it weighs."""

    __slots__ = ("began", "fails", "gpu_memory", "index", "left", "memory", "place", "work")

    def __init__(self, index: int, began: float, work: Work, rng: random.Random) -> None:
        self.index = index
        self.began = began
        self.work = work
        self.place: Sharing | None = None
        self.left = _stages(work, rng)
        factor = _factor(work.spread, rng) if work.spread else 1.0
        self.memory = work.memory * factor
        self.gpu_memory = work.gpu_memory * factor
        self.fails = work.errors > 0 and rng.random() < work.errors


def _stages(work: Work, rng: random.Random) -> list[tuple[int, float]]:
    """Return what is to be done, the last first."""
    each = []
    if work.cpu.mean:
        each.append((CPU, drawn_time(work.cpu, rng) / work.rounds))
    if work.wait.mean:
        each.append((WAIT, drawn_time(work.wait, rng) / work.rounds))
    if work.call.mean:
        each.append((CALL, drawn_time(work.call, rng) / work.rounds))
    return each * work.rounds


def drawn_time(times: Times, rng: random.Random) -> float:
    """Draw seconds, so that their mean is that of ``times``."""
    if times.shape == "constant":
        return times.mean
    if times.shape == "exponential":
        return rng.expovariate(1.0) * times.mean
    if times.shape == "heavy":
        return _factor(SIGMA, rng) * times.mean
    return MODES[rng.random() < 0.1] * times.mean


def _factor(sigma: float, rng: random.Random) -> float:
    """Draw a log-normal factor with a mean of 1."""
    return math.exp(rng.gauss(-sigma * sigma / 2, sigma))
