"""A law is judged beside the best fixed limits, and the same seed gives the same judgement."""

from __future__ import annotations

from itertools import pairwise

import pytest

from anabranch.controllers import AIMD, Fixed, replay
from anabranch.testing import (
    SCENARIOS,
    Downstream,
    Machine,
    Phase,
    Scenario,
    Times,
    Work,
    drawn,
    simulate,
)
from anabranch.testing._simulator._drawn import alone
from anabranch.testing._simulator._oracle import oracle_of
from anabranch.testing._simulator._run import Change, reversals_a_minute, seconds_until
from anabranch.testing._simulator._words import GIB
from anabranch.testing._simulator._world import World
from tests.testing._small import LOSSLESS, brief, scenario

WAITS = Work(wait=Times(0.5))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "drawn-3"])
def test_equal_seeds_play_alike_and_others_do_not(name: str) -> None:
    one, same, other = (simulate(name, AIMD(), seed, oracle=False) for seed in (1, 1, 2))
    assert one == same
    assert one.moments != other.moments


def test_the_loads_of_a_play_replay_to_its_limits() -> None:
    played = simulate("knee", AIMD(), 4, oracle=False)
    decided = replay(AIMD(), played.loads, bounds=played.scenario.bounds)
    assert [each.limit for each in decided[:-1]] == [load.limit for load in played.loads[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "incident", "heavy", "herd", "drawn-5"])
def test_no_fixed_limit_beats_the_oracle(name: str) -> None:
    scenario = brief(SCENARIOS.get(name) or drawn(5), 30)
    best = oracle_of(scenario, 2)
    for limit in {*range(1, 40, 3), 50, 64, 77, 100, 128, 200, 256}:
        if limit <= scenario.ceiling:
            world = World(scenario, 2, limit)
            world.run()
            assert sum(world.good) <= 1.03 * best.goodput


def test_the_oracle_knows_each_phase() -> None:
    cpu, waits = Work(cpu=Times(0.2)), Work(wait=Times(0.2))
    phases = [Phase(seconds=20, work=cpu), Phase(seconds=20, work=waits)]
    best = oracle_of(Scenario(name="two", phases=phases, machine=LOSSLESS, ceiling=32), 0)
    assert best.limits[0] >= 4
    assert best.limits[1] == 32
    assert best.goodputs == pytest.approx(
        (400, 3200), rel=0.05
    )  # the first is still busy when the second begins


def test_goodput_is_less_a_quarter_for_each_that_overload_has_lost() -> None:
    full = Downstream(knee=4, queue=0)
    played = simulate(scenario(Work(call=Times(1)), supply=8, downstream=full), Fixed(8))
    assert (played.goodput, played.refusals) == (3, 4)
    assert played.refusals_a_minute == 12
    assert played.ratio == 3 / 8


def test_reversals_are_counted_in_steady_state() -> None:
    limits = [10, 12, 11, 13, 13, 12]
    changes = [
        Change(t, old, new, "told")
        for t, old, new in zip((5, 10, 30, 40, 50), limits, limits[1:], strict=False)
        if old != new
    ]
    assert reversals_a_minute(scenario(WAITS, seconds=80), changes) == 2
    assert reversals_a_minute(scenario(WAITS, seconds=20), changes) is None


def test_the_time_until_it_is_near_the_oracle_is_that_of_five_seconds_together() -> None:
    best = (10.0,) * 20
    assert seconds_until([10.0] * 20, best) == 1
    assert seconds_until([0.0] * 10 + [10.0] * 10, best) == 15
    assert seconds_until([8.0] * 20, best) is None
    assert seconds_until([0.0] * 20, (0.0,) * 20) is None  # there was nothing to come near to


@pytest.mark.slow
def test_fixed_limits_do_as_badly_as_they_are_known_to() -> None:
    expected = {  # the shares of the design's own sketch, for limits of 10 and of 100
        "cpu-long": (0.97, 0.64),
        "cpu-short": (0.93, 0.51),
        "waits-256": (0.04, 0.39),
        "mixed": (0.42, 0.75),
        "knee": (0.32, 0.60),
        "refusals": (0.41, 0.0),
        "bimodal": (0.34, 0.64),
        "cold-start": (0.13, 0.88),
        "bursts": (1.0, 0.75),
    }
    for name, shares in expected.items():
        short = brief(SCENARIOS[name], 50)
        found = [simulate(short, Fixed(limit), 0).ratio for limit in (10, 100)]
        assert found == pytest.approx(shares, abs=0.08), name
    for name in ("heavy", "weight-doubles", "gpu", "herd", "neighbour-memory"):
        assert simulate(brief(SCENARIOS[name], 30), Fixed(100), 0, oracle=False).kills, name


@pytest.mark.parametrize("seed", range(30))
def test_a_drawn_scenario_is_the_same_for_its_seed_and_can_be_played(seed: int) -> None:
    assert drawn(seed) == drawn(seed) != drawn(seed + 1)
    assert drawn(seed).name == f"drawn-{seed}"
    assert simulate(brief(drawn(seed)), Fixed(4), seed, oracle=False).counts.started


def test_the_oracle_takes_no_limit_that_kills_where_another_does_not() -> None:
    work = Work(wait=Times(4), memory=2 * GIB, ramp=3)
    found = oracle_of(
        Scenario(
            name="kills",
            phases=[Phase(seconds=30, work=work)],
            machine=Machine(memory=16 * GIB, taken=0.1),
            ceiling=32,
        ),
        0,
    )
    assert found.limits == (7,)


def test_drawn_work_becomes_no_heavier_than_can_be_seen_in_time() -> None:
    heavier = 0
    for seed in range(300):
        scenario = drawn(seed)
        for one, two in pairwise([phase.work for phase in scenario.phases]):
            part = alone(one) / (1 + scenario.senses.late + one.onset + one.ramp / 2)
            if one.cpu.shape == one.wait.shape == "constant":
                part = min(1, part)
            assert two.memory <= one.memory * (1 + part / 5) + 1
            assert two.gpu_memory <= one.gpu_memory * (1 + part / 10) + 1
            heavier += two.memory > one.memory or two.gpu_memory > one.gpu_memory
    assert heavier > 10
