"""What a law is told in the simulator is what a regulator would tell it."""

from __future__ import annotations

import math
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import Load
from anabranch._load import SIGNALS
from anabranch._regulate import FIRST_S, HASTE_S, PERIOD_S, YOUNG_S
from anabranch._regulated import GROWTH
from anabranch._ruling import LEAST_AGAIN
from anabranch.controllers import Fixed
from anabranch.testing import Neighbour, Scenario, Senses, Times, Work, drawn, simulate
from anabranch.testing._simulator import _asking
from anabranch.testing._simulator._senses import evenly
from tests.testing._small import LOSSLESS, Told, brief, scenario

WAITS = Work(wait=Times(0.5))
SHARES = ("cpu", "cpu_pressure", "memory_pressure")


@given(
    seed=st.integers(0, 10_000),
    limits=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    again=st.sampled_from([None, 0.0, 0.25, 0.6, 5.0]),
)
@pytest.mark.slow
def test_loads_are_well_formed(seed: int, limits: list[int], again: float | None) -> None:
    played = simulate(brief(drawn(seed)), Told(limits, again), seed, oracle=False)
    for load in played.loads:
        check(load, played.scenario)
    times = [load.t for load in played.loads]
    assert all(two - one > 0.05 - 1e-6 for one, two in pairwise(times))
    assert played.counts.started >= sum(load.started for load in played.loads)
    assert played.counts.succeeded >= sum(load.finished for load in played.loads)


def check(load: Load, scenario: Scenario) -> None:
    assert 1 <= load.limit <= scenario.ceiling
    assert load.in_use <= load.peak
    assert 0 <= load.rejected <= load.failed
    assert len(load.latencies) == min(64, load.finished)
    assert len(load.ages) <= min(64, load.in_use)
    assert all(each >= 0 for each in (*load.latencies, *load.ages))
    for name in SIGNALS:
        value = getattr(load, name)
        assert value is None or (math.isfinite(value) and value >= 0)
        assert value is None or name not in SHARES or value <= 1
        assert name not in scenario.senses.lacking or value is None


def test_the_law_is_asked_first_soon_and_then_each_second() -> None:
    played = simulate(scenario(WAITS, seconds=4), Fixed(2), oracle=False)
    assert [load.t for load in played.loads] == [0.25, 1.25, 2.25, 3.25]


def test_the_limit_at_most_doubles_from_one_sample_to_the_next() -> None:
    played = simulate(scenario(WAITS, seconds=4, initial=3), Told([50]), oracle=False)
    assert [change.new for change in played.changes] == [6, 12, 24, 48, 50]
    assert [change.t for change in played.changes] == pytest.approx([0.25, 0.5, 0.6, 0.85, 0.95])


def test_what_was_seen_is_what_happened() -> None:
    alone = scenario(Work(cpu=Times(0.5)), seconds=5, machine=LOSSLESS)
    load = simulate(alone, Fixed(6), oracle=False).loads[-1]
    assert (load.limit, load.in_use, load.peak, load.queued) == (6, 6, 6, 1000)
    assert (load.cpu, load.cpu_pressure, load.cores) == (pytest.approx(1), 1.0, 4)
    assert load.latencies == pytest.approx([0.75] * load.finished)
    assert load.gpu_memory_used is None


def test_a_missing_reading_is_none_and_the_counts_stay() -> None:
    blind = scenario(WAITS, seconds=5, senses=Senses(missing=1.0))
    load = simulate(blind, Fixed(4), oracle=False).loads[-1]
    assert all(getattr(load, name) is None for name in SIGNALS)
    assert load.finished == 8


def test_a_late_reading_tells_of_before() -> None:
    neighbours = [Neighbour(threads=((5, 0), (5, 4.0)))]
    late = scenario(WAITS, seconds=12, neighbours=neighbours, senses=Senses(late=3))
    cpus = {round(load.t, 2): load.cpu for load in simulate(late, Fixed(2), oracle=False).loads}
    assert cpus[2.25] is None
    assert cpus[7.25] == 0
    assert cpus[9.25] == pytest.approx(1)


def test_no_sample_comes_while_the_sampler_is_stuck() -> None:
    stuck = scenario(WAITS, seconds=12, senses=Senses(stuck=((3, 9),)))
    loads = simulate(stuck, Fixed(2), oracle=False).loads
    assert [load.t for load in loads] == [0.25, 1.25, 2.25, 9, 10, 11]
    assert loads[3].finished > 20


def test_a_sampler_that_rests_is_silent_while_nothing_runs() -> None:
    once = scenario(WAITS, seconds=10, supply=2)
    twice = attrs.evolve(once, phases=once.phases * 2)
    assert len(simulate(twice, Fixed(2), oracle=False).loads) == 20
    resting = attrs.evolve(twice, senses=Senses(rests=True))
    loads = simulate(resting, Fixed(2), oracle=False).loads
    assert [load.t for load in loads] == [0.25, 1.25, 10.25, 11.25]


def test_it_is_asked_as_the_regulator_asks() -> None:
    assert (_asking.FIRST, _asking.PERIOD) == (FIRST_S, PERIOD_S)
    assert (_asking.HASTE, _asking.YOUNG) == (HASTE_S, YOUNG_S)
    assert (_asking.SOONEST, _asking.GROWTH) == (LEAST_AGAIN, GROWTH)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_at_most_64_values_are_picked_evenly(count: int) -> None:
    picked = evenly(list(range(count)))
    gaps = {two - one for one, two in pairwise(picked)}
    assert len(picked) == min(64, count)
    assert not gaps or max(gaps) - min(gaps) <= 1
