"""The guard of Weir against failures: how long a refused limit is left, and what comes back."""

import math

import attrs

from anabranch.controllers._weir_failures import PAUSE, STEP, Failures, count, reach, recovered
from tests.controllers.loads import steady

RUN_TIME = 1.0


def load(at, limit=64, **changes):
    usual = {"finished": 32, "failed": 0, "rejected": 0}
    return attrs.evolve(steady(float(at), limit), **{**usual, **changes})


def test_a_refused_limit_is_not_tried_again_for_a_while_and_then_by_small_steps():
    state = Failures(roof=64.0, until=20.0)
    assert reach(state, load(19, limit=40)) == 63
    assert reach(state, load(21, limit=40)) == 40 * STEP
    assert reach(state, load(21, limit=30)) == math.inf
    assert reach(state, load(20 + 3 * PAUSE, limit=40)) == math.inf


def test_a_limit_comes_back_for_the_most_part_when_failures_have_ended():
    state = count(Failures(cut_at=0.0, back=64), load(1, finished=16, failed=16), 1.0, RUN_TIME)
    assert recovered(state, load(1, finished=16, failed=16), RUN_TIME)[1] == 0
    for at in range(2, 12):
        state = count(state, load(at, limit=32), 1.0, RUN_TIME)
    state, back, cause = recovered(state, load(12, limit=32), RUN_TIME)
    assert back == int(64 * 0.9)
    assert cause == "failures have ended, 0 of 32 failed"
    assert recovered(state, load(13, limit=32), RUN_TIME)[1] == 0
