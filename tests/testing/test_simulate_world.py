"""The simulated machine keeps its own laws: nothing is lost, shares are exact, memory is finite."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.testing import Downstream, Machine, Neighbour, Scenario, Times, Work, drawn
from anabranch.testing._simulator._branches import CALL, CPU, WAIT, Branch, drawn_time
from anabranch.testing._simulator._courses import at, memory_of, threads_of
from anabranch.testing._simulator._pool import Pool
from anabranch.testing._simulator._stations import Cores
from anabranch.testing._simulator._words import GIB, SHAPES, Shape
from anabranch.testing._simulator._world import World
from tests.testing._small import LOSSLESS, branch, brief, scenario

SECONDS = st.floats(0.01, 5, allow_nan=False)


# The three hardest ---------------------------------------------------------------------------


@pytest.mark.slow
@given(
    arrivals=st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=8),
    cores=st.sampled_from([0.5, 1.0, 2.0, 3.0]),
    switching=st.sampled_from([0.0, 0.05]),
)
def test_cores_are_shared_as_a_slow_model_says(
    arrivals: list[tuple[float, float]], cores: float, switching: float
) -> None:
    expected = slow_model(arrivals, cores, switching)
    assert ends_of(arrivals, cores, switching) == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 10_000), limits=st.lists(st.integers(1, 60), min_size=1, max_size=8))
@pytest.mark.slow
def test_no_branch_is_lost_or_done_twice_whatever_the_limits_are(
    seed: int, limits: list[int]
) -> None:
    world = Watched(brief(drawn(seed)), seed, limits)
    world.run()
    counts = world.counts
    assert counts.started == counts.succeeded + counts.failed + world.in_use
    assert counts.failed >= counts.refused + counts.killed - len(world.dying())
    assert set(world.ended.values()) <= {1}
    assert len(world.ended) + len(world.running) + counts.killed == counts.started
    assert not set(world.ended) & set(world.running)
    assert world.too_many == []
    assert world.cores.sharing.count >= 0


@pytest.mark.parametrize(("weight", "killed"), [(0.99, 0), (1.01, 1)])
def test_memory_kills_above_its_total_and_not_below(weight: float, killed: int) -> None:
    work = Work(wait=Times(10), memory=weight * GIB, ramp=4)
    machine = Machine(memory=4 * GIB, taken=0.0)
    world = World(scenario(work, seconds=9, supply=4, machine=machine), 0, 4)
    seen: list[float] = []
    kill = world._kill

    def watched(each: Branch) -> None:
        seen.append(world.now)
        kill(each)

    world._kill = watched  # type: ignore[method-assign]  # to see when
    world.run()
    assert world.counts.killed == killed
    assert seen == ([pytest.approx(4 / 1.01)] if killed else [])


# Cores and downstream ------------------------------------------------------------------------


def slow_model(arrivals: list[tuple[float, float]], cores: float, switching: float) -> list[float]:
    """Say when each is done, by taking a little from everybody's rest at each event."""
    rest = dict(enumerate(demand for _, demand in arrivals))
    begins = [begin for begin, _ in arrivals]
    ends, now = [0.0] * len(arrivals), 0.0
    while rest:
        inside = [i for i in rest if begins[i] <= now]
        crowd = max(1.0, len(inside) / cores)
        pace = 1 / (crowd * (1 + switching * (crowd - 1)))
        nexts = [begins[i] for i in rest if begins[i] > now]
        nexts += [now + rest[i] / pace for i in inside]
        then = min(nexts)
        for i in inside:
            rest[i] -= (then - now) * pace
            if rest[i] < 1e-9:
                ends[i] = then
                del rest[i]
        now = then
    return ends


def ends_of(arrivals: list[tuple[float, float]], cores: float, switching: float) -> list[float]:
    place = Cores(cores, switching)
    coming = sorted((begin, i, demand) for i, (begin, demand) in enumerate(arrivals))
    ends = [0.0] * len(arrivals)
    while coming or place.sharing.count:
        if coming and coming[0][0] <= place.sharing.due:
            begin, i, demand = coming.pop(0)
            place.sharing.add(begin, demand, branch(i))
            place.repace(begin)
        else:
            now = place.sharing.due
            ends[place.sharing.take().index] = now
            place.repace(now)
    return ends


def test_a_branch_never_has_more_than_one_core() -> None:
    assert ends_of([(0.01, 3.0)], 4, 0.0) == pytest.approx([3.01])


def test_busy_seconds_are_those_of_the_threads_that_there_are() -> None:
    world = World(scenario(Work(cpu=Times(5)), supply=2, machine=LOSSLESS), 0, 2)
    world.run()
    world.cores.repace(world.now)
    assert world.cores.busy == pytest.approx(10)
    assert world.cores.pressed == 0


def test_a_neighbour_takes_its_share_of_the_cores() -> None:
    work = Work(cpu=Times(2))
    neighbours = [Neighbour(threads=((0, 4.0),))]
    alone = World(scenario(work, machine=LOSSLESS), 0, 4)
    beside = World(scenario(work, machine=LOSSLESS, neighbours=neighbours), 0, 4)
    alone.run()
    beside.run()
    assert (alone.counts.succeeded, beside.counts.succeeded) == (36, 16)


@pytest.mark.parametrize(("limit", "share"), [(8, 1.0), (16, 1 / 1.3), (32, 1 / 1.9)])
def test_a_downstream_serves_best_at_its_knee(limit: int, share: float) -> None:
    calls = scenario(Work(call=Times(0.5)), seconds=100, downstream=Downstream(knee=8))
    world = World(calls, 0, limit)
    world.run()
    assert world.counts.succeeded == pytest.approx(1600 * share, rel=0.02)


@pytest.mark.parametrize("says", [True, False])
def test_a_full_downstream_refuses(says: bool) -> None:
    downstream = Downstream(knee=4, queue=2, says=says)
    world = World(scenario(Work(call=Times(1)), supply=10, downstream=downstream), 0, 10)
    world.run()
    assert (world.counts.succeeded, world.counts.refused) == (6, 4)
    assert world.counts.rejected == (4 if says else 0)
    assert sum(world.good) == 6 - 4 / 4


def test_in_an_outage_every_call_fails_and_none_is_lost_by_overload() -> None:
    downstream = Downstream(knee=4, outages=((0, 20),))
    world = World(scenario(Work(call=Times(1)), supply=9, downstream=downstream), 0, 3)
    world.run()
    assert (world.counts.failed, world.counts.refused, sum(world.good)) == (9, 0, 0)


def test_what_is_left_of_a_supply_is_dropped_when_the_next_phase_begins() -> None:
    once = scenario(Work(wait=Times(3)), seconds=4, supply=5)
    world = World(attrs.evolve(once, phases=once.phases * 2), 0, 1)
    world.run()
    assert (world.counts.started, world.counts.dropped) == (3, 3)


@pytest.mark.parametrize(("now", "value"), [(0, 2), (4, 2), (5, 4), (6, 6), (7, 1), (9, 1)])
def test_a_course_is_a_line_that_may_jump(now: float, value: float) -> None:
    assert at(((4, 2), (6, 6), (6, 6), (7, 6), (7, 1)), now, 0.0) == value
    assert at((), now, 3.0) == 3


def test_a_flapping_neighbour_is_there_half_of_the_time() -> None:
    flapping = (Neighbour(threads=((0, 4.0),), memory=((0, 0.5),), period=10),)
    assert [threads_of(flapping, now) for now in (0, 4.9, 5, 9.9, 10)] == [4, 4, 0, 0, 4]
    assert [memory_of(flapping, now) for now in (4, 6)] == [0.5, 0]


def test_work_is_done_in_rounds() -> None:
    work = Work(cpu=Times(1), wait=Times(2), call=Times(3), rounds=2)
    assert branch(0, 0.0, work).left == [(CPU, 0.5), (WAIT, 1), (CALL, 1.5)] * 2


@pytest.mark.parametrize("shape", SHAPES)
def test_times_have_their_mean(shape: Shape) -> None:
    rng = Random(1)
    drawn_ones = [drawn_time(Times(2.0, shape), rng) for _ in range(20_000)]
    assert sum(drawn_ones) / len(drawn_ones) == pytest.approx(2, rel=0.05)


# Memory --------------------------------------------------------------------------------------


def test_a_neighbour_that_takes_the_memory_has_branches_killed() -> None:
    work = Work(wait=Times(10), memory=GIB)
    takes = [Neighbour(memory=((4, 0.0), (4, 0.6)))]
    machine = Machine(memory=4 * GIB, taken=0.0)
    world = World(scenario(work, seconds=9, supply=3, machine=machine, neighbours=takes), 0, 3)
    world.run()
    assert (world.counts.killed, world.counts.failed, len(world.running)) == (2, 2, 1)


def test_a_branch_grows_in_a_line_from_its_onset() -> None:
    pool = Pool(100.0, 10.0, lambda each: each.memory)
    grows = branch(0, 0.0, Work(cpu=Times(1), memory=60.0, ramp=4, onset=2))
    assert pool.add(0.0, grows) == (2, 6)
    pool.turn(2.0, grows)
    assert [pool.own(t) for t in (2.0, 3.0, 6.0)] == [0, 15, 60]
    pool.turn(6.0, grows)
    assert pool.used(9.0) == 70
    pool.drop(9.0, grows)
    assert pool.used(9.0) == 10


def test_the_heaviest_is_killed() -> None:
    pool = Pool(100.0, 0.0, lambda each: each.memory)
    for index, weight in enumerate((20.0, 50.0, 40.0)):
        pool.add(0.0, branch(index, 0.0, Work(cpu=Times(1), memory=weight)))
    assert pool.due == 0.0
    assert pool.heaviest(0.0).index == 1


def test_memory_that_is_nearly_full_slows_everybody() -> None:
    pool = Pool(100.0, 96.0, lambda each: each.memory)
    assert pool.speed(0.0) == pytest.approx(0.55)
    pool.others = 92.0
    assert pool.speed(0.0) == 1


def test_a_killed_branch_keeps_its_token_until_it_is_noticed() -> None:
    work = Work(wait=Times(10), memory=GIB)
    machine = Machine(memory=GIB, taken=0.5)
    world = World(scenario(work, seconds=5.2, machine=machine), 0, 1)
    world.run()
    assert (world.counts.killed, world.counts.failed) == (11, 10)
    assert world.in_use == 1


# What watches --------------------------------------------------------------------------------


class Watched(World):
    """See each branch start and end."""

    def __init__(self, scenario: Scenario, seed: int, limits: list[int]) -> None:
        super().__init__(scenario, seed, limits[0], self.law)
        self.limits = limits
        self.asked = 0
        self.ended: Counter[int] = Counter()
        self.too_many: list[tuple[float, int]] = []

    def law(self, _: Any) -> tuple[int, float | None]:
        self.asked += 1
        return self.limits[self.asked % len(self.limits)], 0.25

    def dying(self) -> range:
        return range(self.in_use - len(self.running))

    def _start(self) -> None:
        super()._start()
        if self.in_use > self.limit:
            self.too_many.append((self.now, self.in_use))

    def _end(self, branch: Branch, **how: Any) -> None:
        self.ended[branch.index] += 1
        super()._end(branch, **how)
