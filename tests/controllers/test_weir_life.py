"""Told by the ages at which branches end, a slower place is seen at once, however long they are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from anabranch import Load
from anabranch.controllers._weir_life import Life, lived, slowed

STEP = 0.25
LENGTHS: dict[str, Callable[[random.Random], float]] = {
    "exponential": lambda rng: rng.expovariate(1.0),
    "heavy": lambda rng: math.exp(rng.gauss(-0.845, 1.3)),
    "bimodal": lambda rng: 7.0 if rng.random() < 0.1 else 1 / 3,
}
Branches = list[tuple[float, float]]  # age, and what is left to do


def played(
    life: Life,
    branches: Branches,
    slow: float,
    seconds: float,
    length: Callable[[], float],
    step: float = STEP,
) -> Life:
    """Return what is counted of branches that get on ``slow`` times as slowly."""
    for _ in range(round(seconds / step)):
        ended: list[float] = []
        for place, branch in enumerate(branches):
            age, left = branch
            rest = step
            while left * slow <= rest:
                ended.append(age + left * slow)
                rest -= left * slow
                age, left = 0.0, length()
            branches[place] = (age + rest, left - rest / slow)
        load = Load(
            in_use=len(branches),
            finished=len(ended),
            latencies=ended[:64],
            ages=[age for age, _ in branches[:64]],
        )
        life = lived(life, load, step)
    return life


@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize("slow", [1.0, 2.0, 4.0])
def test_how_much_slower_branches_are_is_told_within_a_run_time_of_a_raise(shape, slow):
    found = []
    for seed in range(15):
        rng = random.Random(seed)

        def length(rng: random.Random = rng) -> float:
            return LENGTHS[shape](rng)

        branches = [(0.0, length()) for _ in range(20)]
        before = played(Life(), branches, 1.0, 1.5, length)
        branches += [(0.0, length()) for _ in range(20)]
        after = played(Life(), branches, slow, 1.5, length)
        found.append(slowed(before, after)[0])
    middle = sorted(found)[7]
    assert middle == pytest.approx(math.log(slow), abs=0.45), found


def test_who_has_been_slow_only_since_a_moment_ago_is_told_from_who_always_was():
    """Most of what they have done was done at full speed: more ended than slow ones would have."""
    rng = random.Random(2)
    branches = [(0.0, rng.uniform(0.5, 1.5)) for _ in range(60)]
    before = played(Life(), branches, 1.0, 4.0, lambda: rng.uniform(0.5, 1.5), 0.05)
    after = played(Life(), branches, 4.0, 0.5, lambda: rng.uniform(0.5, 1.5), 0.05)
    always, _ = slowed(before, after)
    lately, _ = slowed(before, after, 0.25)
    assert lately > always
    assert lately == pytest.approx(math.log(4), abs=0.6)


def test_one_that_is_long_among_short_ones_is_no_sign_of_slowness():
    rng = random.Random(1)
    short = played(Life(), [(0.0, 0.3)] * 20, 1.0, 3.0, lambda: 0.3)
    branches: Branches = [(0.0, 0.3)] * 18 + [(0.0, 50.0)] * 2
    after = played(Life(), branches, 1.0, 3.0, lambda: 0.3 + 1e-6 * rng.random())
    rise, variance = slowed(short, after)
    assert rise - 2 * math.sqrt(variance) < 0.1


def test_without_a_witness_nothing_is_told():
    some = played(Life(), [(0.0, 1.0)] * 4, 1.0, 3.0, lambda: 1.0)
    assert slowed(Life(), some) == (0.0, math.inf)
    assert slowed(some, Life()) == (0.0, math.inf)


def test_the_time_that_is_counted_is_the_time_that_branches_ran():
    life = played(Life(), [(0.0, 0.7)] * 10, 1.0, 20.0, lambda: 0.7)
    assert sum(life.spent) == pytest.approx(10 * 20.0, rel=0.05)
    assert sum(life.ended) == life.count


def test_branches_of_which_no_run_time_is_told_are_no_witnesses():
    load = Load(t=1.0, limit=4, in_use=4, finished=6, ages=(0.5,) * 4)
    untold = lived(Life(), load, 1.0)
    some = played(Life(), [(0.0, 1.0)] * 4, 1.0, 3.0, lambda: 1.0)
    assert slowed(untold, some) == (0.0, math.inf)
