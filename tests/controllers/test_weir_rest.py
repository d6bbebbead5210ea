"""The guards of Weir against a loop that lags, and against a limit that nobody reaches."""

import attrs

from anabranch.controllers._weir_rest import IDLE_S, Rest, lagging, reached, unused
from tests.controllers.loads import steady


def late(second, **changes):
    return attrs.evolve(steady(float(second), 64, cpu=0.95, loop_lag=0.9), **changes)


def test_one_late_sample_is_chance_and_two_in_a_row_halve_the_limit():
    state, most, cause = lagging(Rest(), late(0))
    assert (most, cause) == (float("inf"), "")
    state, most, cause = lagging(state, late(1))
    assert (most, cause) == (32, "the loop lags 0.9 s, cpu 95 %")
    _, most, _ = lagging(state, late(2))
    assert most == float("inf"), "after a cut it counts anew"


def test_a_sample_in_time_between_two_late_ones_excuses_them():
    state = Rest()
    for second, lag in enumerate((0.9, 0.0, 0.9)):
        state, most, _ = lagging(state, late(second, loop_lag=lag))
        assert most == float("inf")


def test_a_loop_that_lags_while_cpu_is_free_is_not_the_branches_fault():
    state = Rest()
    for second in range(3):
        state, most, _ = lagging(state, late(second, cpu=0.5))
        assert most == float("inf")


def idle(at, **changes):
    usual = {"queued": 0, "in_use": 3, "peak": 5}
    return attrs.evolve(steady(at, 64, cpu=0.1), **{**usual, **changes})


def test_a_limit_that_nobody_reached_for_long_is_one_and_a_half_of_what_was_used():
    state, most, _ = unused(Rest(), idle(0.0), 4)
    for at in (1.0, IDLE_S - 0.1):
        state, most, _ = unused(state, idle(at), 4)
        assert most == float("inf")
    state, most, cause = unused(state, idle(IDLE_S), 4)
    assert (most, cause) == (8, "only 5 of 64 were used")


def test_it_never_falls_below_what_is_asked_for():
    state, _, _ = unused(Rest(), idle(0.0), 10)
    _, most, _ = unused(state, idle(IDLE_S), 10)
    assert most == 10


def test_a_limit_that_was_reached_meanwhile_is_waited_for_anew():
    state, _, _ = unused(Rest(), idle(0.0), 4)
    state, _, _ = unused(state, idle(IDLE_S - 1, queued=1), 4)
    _, most, _ = unused(state, idle(IDLE_S + 1), 4)
    assert most == float("inf")


def test_a_limit_is_reached_by_a_queue_or_by_as_many_as_it_says():
    assert not reached(idle(0.0))
    assert reached(idle(0.0, queued=1))
    assert reached(idle(0.0, peak=64))
    assert reached(idle(0.0, in_use=64))
