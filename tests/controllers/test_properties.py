"""What every law promises, whatever it is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch import Bounds, Load
from anabranch._load import SIGNALS
from anabranch.controllers import Weir, replay
from tests.controllers.loads import (
    ABSURD,
    ADAPTIVE,
    LAWS,
    SENSIBLE,
    bounds,
    drive,
    drive_from,
    sequences,
)

each_law = pytest.mark.parametrize("law", LAWS, ids=repr)
each_adaptive = pytest.mark.parametrize("law", ADAPTIVE, ids=repr)
each_few = settings(max_examples=30)  # of each law, with each kind: hundreds for each claim
both_kinds = pytest.mark.parametrize("fields", [SENSIBLE, ABSURD], ids=["sensible", "absurd"])

UNKNOWN = dict.fromkeys(SIGNALS)
PRESSED = {
    "cpu": {"cpu": 1.0},
    "waiting": {"cpu": 1.0, "cpu_pressure": 1.0},
    "memory": {"memory_used": 2.0**40},
    "refusals": {"failed": 300, "rejected": 300},
    "lag": {"loop_lag": 10.0, "cpu": 1.0, "cpu_pressure": 1.0},
}


@pytest.mark.slow
@each_law
@both_kinds
@each_few
@given(data=st.data(), within=bounds())
def test_a_limit_stays_within_its_bounds_and_changes_with_a_reason_only(law, fields, data, within):
    told = data.draw(sequences(fields))
    limit = within.initial
    for decision in drive(law, within, told):
        assert isinstance(decision.limit, int)
        assert within.floor <= decision.limit <= within.ceiling
        assert bool(decision.reason) == (decision.limit != limit)
        if decision.reason:
            assert decision.reason.endswith(f": {limit} -> {decision.limit}")
            assert any(letter.isalpha() for letter in decision.reason)
        assert decision.again is None or decision.again >= 0.25
        limit = decision.limit


@pytest.mark.slow
@each_law
@both_kinds
@each_few
@given(data=st.data(), within=bounds())
def test_equal_loads_get_equal_decisions(law, fields, data, within):
    told = data.draw(sequences(fields))
    first, second = drive(law, within, told), drive(law, within, told)
    assert first == second
    assert [repr(each) for each in first] == [repr(each) for each in second]


@pytest.mark.slow
@each_law
@each_few
@given(within=bounds(), told=sequences(), limits=st.lists(st.floats(allow_nan=False), max_size=20))
def test_limits_that_others_set_are_taken_as_they_are(law, within, told, limits):
    loads = [Load(**(fields | {"limit": n})) for fields, n in zip(told, limits, strict=False)]
    for load, decision in zip(loads, replay(law, loads, within), strict=True):
        assert within.floor <= decision.limit <= within.ceiling
        assert bool(decision.reason) == (decision.limit != load.limit)


@pytest.mark.slow
@each_adaptive
@pytest.mark.parametrize("pressed", PRESSED.values(), ids=PRESSED)
@each_few
@given(within=bounds(), told=sequences())
def test_more_pressure_never_raises_the_limit(law, pressed, within, told):
    before, last = drive(law, within, told[:-1]), told[-1]
    state = before[-1].state if before else law.initial(within)
    limit = before[-1].limit if before else within.initial
    more = last | {name: value for name, value in pressed.items() if last[name] is not None}
    (calm,) = drive_from(law, state, limit, [last])
    (tight,) = drive_from(law, state, limit, [more])
    assert tight.limit <= calm.limit, (calm.reason, tight.reason)


@pytest.mark.slow
@each_adaptive
@each_few
@given(within=bounds(), told=sequences())
def test_where_nothing_is_known_and_nothing_ends_the_limit_does_not_grow(law, within, told):
    nothing = UNKNOWN | {"finished": 0, "latencies": (), "failed": 0, "rejected": 0}
    limits = [each.limit for each in drive(law, within, [each | nothing for each in told])]
    assert max(limits) <= within.initial


@pytest.mark.slow
@each_adaptive
@each_few
@given(within=bounds())
def test_without_any_signal_it_is_a_fixed_limit(law, within):
    told = [
        UNKNOWN | {"t": float(t), "in_use": within.initial, "peak": within.initial, "queued": 9}
        for t in range(60)
    ]
    assert {each.limit for each in drive(law, within, told)} == {within.initial}


@pytest.mark.slow
@each_law
def test_a_decision_is_quick(law):
    load = Load(
        t=1.0,
        limit=64,
        in_use=64,
        peak=64,
        queued=9,
        finished=64,
        latencies=(1.0,) * 64,
        ages=(1.0,) * 64,
        cpu=0.5,
        cores=4.0,
        memory_used=1e9,
        memory_total=4e9,
        own_memory=5e8,
    )
    fields = {name: getattr(load, name) for name in SENSIBLE}
    told = [fields | {"t": float(t)} for t in range(2000)]
    # A bound on work and not on time: 2,000 decisions must not pile anything up in the state.
    first, *_, last = drive(law, Bounds(ceiling=64), told)
    assert len(repr(last.state)) < 3 * len(repr(first.state)) + 1000


def test_a_law_is_a_value():
    assert Weir() == Weir()
    assert hash(Weir()) == hash(Weir())
    assert Weir() != Weir(memory=0.7)
