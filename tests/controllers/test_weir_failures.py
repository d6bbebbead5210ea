"""The guard of Weir against refusals and failures: when it cuts, how far, and for how long."""

import math

import attrs

from anabranch.controllers._weir_failures import (
    LONGEST,
    PAUSE,
    STEP,
    Failures,
    count,
    heed,
    reach,
    recovered,
)
from tests.controllers.loads import steady

RUN_TIME = 1.0


def load(at, limit=64, **changes):
    usual = {"finished": 32, "failed": 0, "rejected": 0}
    return attrs.evolve(steady(float(at), limit), **{**usual, **changes})


def after(state, now, raised_at=-math.inf):
    state = count(state, now, 1.0, RUN_TIME)
    return heed(state, now, 1.0, RUN_TIME, raised_at)


def test_refusals_cut_to_what_was_served_by_littles_law_and_at_most_by_half():
    state, most, cause = after(Failures(), load(0, finished=40, failed=8, rejected=8))
    assert most == 40
    assert cause == "8 of 48 refused"
    _, most, _ = after(Failures(), load(0, finished=10, failed=8, rejected=8))
    assert most == 32
    assert state.roof == 64


def test_a_single_refusal_is_chance():
    _, most, cause = after(Failures(), load(0, failed=1, rejected=1))
    assert (most, cause) == (math.inf, "")


def test_a_refused_limit_is_not_tried_again_for_a_while_and_then_by_small_steps():
    state = Failures(roof=64.0, until=20.0)
    assert reach(state, load(19, limit=40)) == 63
    assert reach(state, load(21, limit=40)) == 40 * STEP
    assert reach(state, load(21, limit=30)) == math.inf
    assert reach(state, load(20 + 3 * PAUSE, limit=40)) == math.inf


def test_who_is_refused_again_waits_twice_as_long_each_time():
    state, at, pauses = Failures(), 0.0, []
    for _ in range(6):
        at += 1.0 if state.until < 0 else state.until - at + 1.0
        state, most, _ = after(state, load(at, finished=40, failed=8, rejected=8))
        assert most < math.inf
        pauses.append(state.pause)
    assert pauses == [PAUSE, 2 * PAUSE, 4 * PAUSE, 8 * PAUSE, LONGEST, LONGEST]


def test_other_failures_halve_the_limit_once_and_give_it_back_when_they_end():
    state, most, cause = after(Failures(), load(0, finished=16, failed=16))
    assert (most, cause) == (32, "16 of 32 failed")
    assert state.back == 64
    state, most, _ = after(state, load(2, limit=32, finished=16, failed=16))
    assert most == math.inf, "they may have any cause, and it has been halved"
    for at in range(3, 12):
        state = count(state, load(at, limit=32), 1.0, RUN_TIME)
    _, back, cause = recovered(state, load(12, limit=32), RUN_TIME)
    assert back == int(64 * 0.9)
    assert cause == "failures have ended, 0 of 32 failed"
