"""Each pressure that the simple laws answer to cuts by itself, and is named with its figures."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from anabranch import Bounds, Load
from anabranch.controllers import AIMD, Gradient

WIDE = Bounds(ceiling=100, initial=50)
GIB = 2**30
FULL = Load(limit=50, in_use=50, peak=50, queued=9, finished=50, cpu=0.5, latencies=(1.0,) * 50)


def played(law: Any, *loads: Load) -> Any:
    """Return the last decision on loads of which each is a second after the one before."""
    decision, state, limit = None, law.initial(WIDE), 50
    for second, load in enumerate(loads):
        decision = law.next(state, attrs.evolve(load, t=float(second), limit=limit))
        state, limit = decision.state, decision.limit
    return decision


@pytest.mark.parametrize(
    ("pressure", "reason"),
    [
        ({"cpu": 0.99}, "cpu 99 %: 50 -> 45"),
        ({"cpu": 0.99, "cpu_pressure": 0.8}, "cpu 99 %: 50 -> 45"),
        ({"memory_used": 9 * GIB, "memory_total": 10 * GIB}, "memory 90 % of 10.0 GiB: 50 -> 45"),
        ({"failed": 20}, "20 of 70 failed: 50 -> 45"),
        ({"failed": 1, "rejected": 1}, "1 of 51 refused: 50 -> 45"),
    ],
)
def test_aimd_cuts_for_each_pressure_and_says_which(pressure, reason):
    assert played(AIMD(), attrs.evolve(FULL, **pressure)).reason == reason


@pytest.mark.parametrize(
    "calm",
    [
        {"cpu": 0.99, "cpu_pressure": 0.2},  # nobody waits for a CPU
        {"memory_used": 8 * GIB, "memory_total": 10 * GIB},
        {"failed": 1},
    ],
)
def test_aimd_goes_on_growing_where_there_is_no_pressure(calm):
    assert played(AIMD(), FULL, attrs.evolve(FULL, **calm)).limit == 51


def test_aimd_cuts_when_run_times_have_doubled():
    slower = attrs.evolve(FULL, latencies=(4.0,) * 50)
    decision = played(AIMD(), FULL, FULL, slower, slower)
    assert "run time" in decision.reason
    assert "1 s unloaded" in decision.reason
    assert decision.limit < 52


@pytest.mark.parametrize("latencies", [(), (1.0,) * 50])
def test_gradient_cuts_a_tenth_or_more_when_some_are_refused(latencies):
    refused = attrs.evolve(FULL, failed=9, rejected=9, latencies=latencies)
    before = played(Gradient(smoothing=1.0), FULL)
    decision = played(Gradient(smoothing=1.0), FULL, refused)
    assert decision.limit <= 0.9 * before.limit
    assert f"9 refused: {before.limit} -> " in decision.reason


def test_gradient_forgets_an_incident_faster_than_it_has_learned_it():
    law = Gradient(window=10.0)
    incident = [attrs.evolve(FULL, latencies=(9.0,) * 9)] * 30
    after = played(law, *incident, *[FULL] * 5).state.usual
    assert after < played(attrs.evolve(law, window=10.0), *incident).state.usual * 0.6
