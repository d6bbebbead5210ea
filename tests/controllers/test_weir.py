"""The default law on machines of which the right limit is known."""

from __future__ import annotations

import math
from itertools import pairwise

import attrs
import pytest

from anabranch import Bounds, Load
from anabranch.controllers import Weir
from anabranch.controllers._weir_epochs import Epochs
from anabranch.controllers._weir_growing import _served_no_more
from anabranch.controllers._weir_weight import Guesses, heard, mixed
from anabranch.controllers._weir_window import Window, gain
from anabranch.testing import simulate
from tests.controllers.loads import steady
from tests.controllers.machine import cores, downstream, limits, play, served, waiting

GIB = 2.0**30


@pytest.mark.parametrize("count", [2, 4, 16])
def test_a_neighbour_on_the_cpu_lowers_the_limit_and_its_leaving_raises_it(count):
    machine = cores(count, lambda second: 2.0 * count if 40 <= second < 60 else 0.0)
    found = limits(play(Weir(), Bounds(ceiling=256, initial=count), machine, 80))
    before, after = found[38], found[-1]
    assert before == count
    assert min(found[39:44]) < before  # seconds 40 to 44
    assert max(found[59:69]) >= before  # seconds 60 to 69
    assert after == before


@pytest.mark.parametrize("count", [1, 2, 4, 16, 64])
def test_cpu_work_is_given_as_many_branches_as_there_are_cores(count):
    found = play(Weir(), Bounds(ceiling=256, initial=min(10, 2 * count)), cores(count), 120)
    assert 0.9 * count <= found[-1].limit <= 1.1 * count


@pytest.mark.parametrize(
    "machine", [cores(4), waiting(), downstream(32)], ids=["cpu", "wait", "call"]
)
def test_a_steady_load_has_a_steady_limit(machine):
    found = limits(play(Weir(), Bounds(ceiling=256, initial=8), machine, 300))
    changes = [b - a for a, b in pairwise(found[60:]) if a != b]
    turns = sum((a > 0) != (b > 0) for a, b in pairwise(changes))
    assert turns <= 3 * 4, found  # a minute; and never the same up and down all the time
    assert max(found[60:]) <= 1.6 * min(found[60:])


def test_what_waits_is_doubled_up_to_the_ceiling():
    found = limits(play(Weir(), Bounds(ceiling=200, initial=10), waiting(cpu=0.1), 40))
    assert found[-1] == 200
    assert all(b <= 2 * a for a, b in pairwise(found))


def test_a_downstream_is_given_what_it_serves_well():
    found = limits(play(Weir(), Bounds(ceiling=256, initial=10), downstream(32), 120))
    assert 26 <= found[-1] <= 42


@pytest.mark.parametrize("seed", [7000, 7002, 7008])
def test_a_ceiling_that_was_reached_too_soon_is_left_for_what_serves_more(seed):
    """A service gets ten times as quick while it is doubled, so all of that looks good."""
    found = [each.limit for each in simulate("cold-start", Weir(), seed, oracle=False).moments]
    assert max(found) == 256
    assert 60 <= found[-1] <= 110


def test_a_limit_that_serves_no_more_than_half_of_it_is_not_doubled():
    """Run times that say little must not outweigh that as few end as before."""
    state = Epochs(Window(8))
    slow = attrs.evolve(Window(4), done=40.0, span=10.0, n=40.0)
    state = attrs.evolve(state, past=((1.0, slow),))
    same = attrs.evolve(Window(8), done=40.0, span=10.0, n=40.0)
    more = attrs.evolve(Window(8), done=75.0, span=10.0, n=75.0)
    assert _served_no_more(attrs.evolve(state, window=same), 1.0)
    assert not _served_no_more(attrs.evolve(state, window=more), 1.0)
    few = attrs.evolve(Window(8), done=5.0, span=1.0, n=5.0)
    assert not _served_no_more(attrs.evolve(state, window=few), 4.0)


def test_refusals_cut_to_what_is_served_and_are_not_provoked_soon():
    def machine(_, limit):
        refused = max(0, limit - 24) * 4
        counts = served(min(limit, 24), 0.5)
        return counts | {"failed": refused, "rejected": refused}

    found = play(Weir(), Bounds(ceiling=256, initial=10), machine, 120)
    refusing = [each for each in found if "refused" in each.reason]
    assert 18 <= found[-1].limit <= 26
    assert 1 <= len(refusing) <= 8
    assert refusing[0].reason.endswith(f"-> {refusing[0].limit}")


def test_errors_that_end_give_back_what_they_took():
    def machine(second, limit):
        if 30 <= second < 35:
            return {"failed": limit, "ages": (0.1,) * limit}
        return served(limit, 0.5)

    found = play(Weir(), Bounds(ceiling=40, initial=10), machine, 60)
    assert limits(found)[28] == 40
    assert min(limits(found)[29:36]) <= 20
    assert found[-1].limit >= 36
    assert any(each.reason.startswith("failures have ended") for each in found)


def test_branches_that_are_heavy_are_fewer_than_would_fill_memory():
    def machine(_, limit):
        own = limit * 0.3 * GIB
        known = {"memory_total": 4 * GIB, "memory_used": min(4 * GIB, own + 0.4 * GIB)}
        return served(limit, 2.0) | known | {"own_memory": own, "cpu": 0.2}

    found = play(Weir(), Bounds(ceiling=256, initial=4), machine, 120)
    assert max(limits(found)) * 0.3 + 0.4 <= 0.9 * 4
    assert found[-1].limit >= 7


def test_a_neighbour_on_memory_is_made_room_for():
    def machine(second, limit):
        others = 0.4 if second < 60 else min(4.0, 0.4 + 0.8 * (second - 60))
        own = limit * 0.5
        used = min(16.0, own + 2 * others)
        known = {"memory_total": 16 * GIB, "memory_used": used * GIB, "own_memory": own * GIB}
        return served(limit, 1.0) | known

    found = play(Weir(), Bounds(ceiling=256, initial=8), machine, 90)
    assert found[-1].limit < 0.7 * found[58].limit
    assert found[-1].limit * 0.5 + 8 < 14
    lowered = [each for each in found[59:] if each.reason]
    assert lowered[0].reason.startswith("memory ")


def test_who_does_not_use_the_limit_is_given_less_but_what_it_began_with():
    state, limit = Weir().initial(Bounds(ceiling=64, initial=4)), 4
    for second in range(60):
        busy = second < 30
        load = steady(float(second), limit, cpu=0.1)
        if not busy:
            load = attrs.evolve(load, in_use=1, peak=1, queued=0, finished=1, latencies=(1.0,))
        decision = Weir().next(state, load)
        state, limit = decision.state, decision.limit
        if second == 29:
            assert limit == 64
    assert limit == 4


def test_a_loop_that_lags_halves_the_limit():
    state = Weir().initial(Bounds(ceiling=64, initial=64))
    for second in range(4):
        load = steady(float(second), 64, cpu=0.95, loop_lag=0.9)
        decision = Weir().next(state, load)
        state = decision.state
        if decision.reason:
            break
    assert decision.limit == 32
    assert decision.reason == "the loop lags 0.9 s, cpu 95 %: 64 -> 32"


def test_memory_is_looked_at_more_often_while_it_fills():
    law = Weir()
    state = law.initial(Bounds(ceiling=64, initial=8))
    soon = []
    for second in range(5):
        load = steady(
            float(second),
            8,
            memory_used=3 * GIB,
            memory_total=4 * GIB,
            own_memory=2.4 * GIB,
        )
        decision = law.next(state, load)
        state = decision.state
        soon.append(decision.again)
    assert soon[-1] == 0.25


def test_a_gap_in_the_samples_is_no_evidence():
    law = Weir()
    state = law.initial(Bounds(ceiling=64, initial=8))
    for t in range(0, 400, 40):
        decision = law.next(state, steady(float(t), 8))
        state = decision.state
        assert decision.limit == 8


def test_a_clock_that_runs_back_decides_nothing():
    law = Weir()
    state = law.next(law.initial(Bounds(ceiling=64, initial=8)), steady(100.0, 8)).state
    for t in (100.0, 99.0, -5.0, float("-inf"), float("nan")):
        assert law.next(state, Load(t=t, limit=8, in_use=8, peak=8, queued=9)).limit == 8


def test_reasons_have_figures():
    found = play(Weir(), Bounds(ceiling=64, initial=8), cores(4), 30)
    reasons = [each.reason for each in found if each.reason]
    assert reasons[0] == "cpu 100 % of 4 cores, pressure 100 %: 8 -> 6"


def test_two_windows_of_one_limit_say_nothing_of_a_gain():
    window = Window(8, n=20, s=0.0, ss=1.0, done=20, span=5)
    assert gain(window, window) == (1.0, math.inf)


def test_memory_that_was_taken_for_ours_is_forgotten_once_ours_is_told():
    def machine(second, limit):
        own = None if second == 1 else 0.0
        known = {"memory_total": 16 * GIB, "memory_used": 8 * GIB, "own_memory": own}
        return served(limit, 1.0) | known

    found = play(Weir(), Bounds(ceiling=100, initial=4), machine, 60)
    assert found[-1].limit == 100


def test_branches_that_only_wait_are_cut_once_for_a_neighbour_and_get_it_back():
    def machine(second, limit):
        here = 10 <= second < 40
        seen = {"cores": 2, "cpu": 1.0 if here else 0.3, "cpu_pressure": 1.0 if here else 0.0}
        return waiting(0.1, **seen)(second, limit)

    found = play(Weir(), Bounds(ceiling=32, initial=32), machine, 70)
    assert min(limits(found)) == 25
    assert limits(found)[-1] == 32
    assert any("fewer ran no faster" in each.reason for each in found)


def test_short_branches_are_doubled_four_times_a_second():
    state, limit, t, decision = Weir().initial(Bounds(ceiling=256, initial=4)), 4, 0.0, None
    for _ in range(6):
        t += 0.25
        load = steady(t, limit, cpu=0.1)
        load = attrs.evolve(load, finished=2 * limit, latencies=(0.12,) * min(64, 2 * limit))
        decision = Weir().next(state, attrs.evolve(load, ages=(0.06,) * min(64, limit)))
        state, limit = decision.state, decision.limit
        assert decision.again == 0.25
    assert limit >= 64


@pytest.mark.parametrize("late", [0, 2])
def test_the_weight_of_a_grown_branch_is_found_from_young_ones(late):
    guesses = Guesses()
    for tick in range(100):  # three herds of ten, which are grown at eight seconds and end at nine
        t = 0.25 * tick
        then = max(0.0, t - late) % 9
        own = 10 * GIB * min(1.0, then / 8)
        guesses = heard(guesses, t, own, 10, [t % 9] * 10, 0.25, 9.0)
    found = mixed(guesses)
    assert found.each == pytest.approx(GIB, rel=0.2)
    assert found.grown == pytest.approx(min(1.0, t % 9 / 8), rel=0.3)
    assert found.reading == pytest.approx(own, rel=0.2)
