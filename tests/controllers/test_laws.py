"""The laws beside the default one, the shadow, and names."""

from __future__ import annotations

import pytest

from anabranch import Bounds, ConfigurationError, Load, UnknownOptionError
from anabranch.controllers import AIMD, Fixed, Gradient, Shadow, Weir, named
from tests.controllers.loads import steady
from tests.controllers.machine import cores, limits, play, waiting

WIDE = Bounds(ceiling=100, initial=10)


def test_fixed_holds_what_the_run_began_with():
    assert set(limits(play(Fixed(), WIDE, cores(4), 30))) == {10}


def test_fixed_holds_its_own_limit_within_the_bounds():
    first = Fixed(40).next(Fixed(40).initial(WIDE), Load(limit=10))
    assert (first.limit, first.reason) == (40, "fixed limit: 10 -> 40")
    assert limits(play(Fixed(400), WIDE, waiting(), 3)) == [100] * 3


def test_aimd_adds_one_a_second_and_cuts_a_tenth():
    found = limits(play(AIMD(), WIDE, waiting(), 30))
    assert found[-1] == 10 + 29
    pressed = Load(t=1.0, limit=50, in_use=50, peak=50, queued=9, failed=9, rejected=9)
    cut = AIMD().next(AIMD().initial(Bounds(ceiling=100, initial=50)), pressed)
    assert (cut.limit, cut.reason) == (45, "9 of 9 refused: 50 -> 45")


def test_aimd_cuts_once_in_a_period():
    law = AIMD(period=5)
    state, limit = law.initial(Bounds(ceiling=100, initial=50)), 50
    for t in range(5):
        load = Load(t=float(t), limit=limit, in_use=50, peak=50, queued=9, failed=9, rejected=9)
        decision = law.next(state, load)
        state, limit = decision.state, decision.limit
    assert limit == 45


def test_aimd_saws_around_the_cores():
    found = limits(play(AIMD(), WIDE, cores(8), 120))[60:]
    assert 5 <= min(found) <= max(found) <= 12


def test_gradient_grows_while_run_times_are_usual_and_shrinks_when_they_rise():
    def machine(second, limit):
        return waiting(0.5 if second <= 30 else 2.0)(second, limit)

    found = limits(play(Gradient(), WIDE, machine, 40))
    assert found[29] > 30
    assert found[39] < 0.7 * found[29]


def test_gradient_grows_only_where_the_limit_is_reached():
    law = Gradient()
    state = law.initial(WIDE)
    for t in range(9):
        load = Load(t=float(t), limit=10, in_use=3, peak=3, finished=3, latencies=(1.0,) * 3)
        decision = law.next(state, load)
        state = decision.state
        assert decision.limit == 10


def test_a_shadow_decides_and_changes_nothing():
    law = Shadow(Weir())
    real = play(Weir(), WIDE, lambda s, _: cores(4)(s, 10), 10)
    found = play(law, WIDE, cores(4), 10)
    assert set(limits(found)) == {10}
    assert not any(each.reason for each in found)
    assert any(each.state.would.reason for each in found)
    assert found[0].state.would.limit == real[0].limit


def test_a_shadow_tells_what_the_law_would_do_from_the_limit_that_holds():
    found = play(Shadow(Weir()), WIDE, cores(4), 30)
    would = [each.state.would for each in found if each.state.would.reason]
    assert would
    assert all(each.reason.endswith(f": 10 -> {each.limit}") for each in would)


@pytest.mark.parametrize("law", [Fixed(), AIMD(), Gradient(), Weir()], ids=repr)
def test_a_law_has_a_name(law):
    assert named(type(law).__name__.lower()) == law


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigurationError, match="did you mean 'gradient'"):
        named("gradiant")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Weir(memory=83), "looks like percent: give 0.83"),
        (lambda: Weir(gpu_memory=0), "is no share"),
        (lambda: Weir(memory=float("nan")), "is not finite"),
        (lambda: AIMD(period=10**400), "is not finite; give"),
        (lambda: Weir(memory="much"), r"'much' \(str\) is no number"),
        (lambda: AIMD(period=0), "is not above 0"),
        (lambda: AIMD(decrease=90), "give 0.9"),
        (lambda: AIMD(increase=-1), "is not of at least 0"),
        (lambda: AIMD(latency=0.5), "is not of at least 1"),
        (lambda: AIMD(cpu=True), "is no number"),
        (lambda: Gradient(smoothing=20), "give 0.2"),
        (lambda: Gradient(window=float("inf")), "window=inf is not finite"),
        (lambda: Fixed(0.5), "it is no share"),
        (lambda: Fixed(0), "at least 1"),
        (lambda: Shadow(Weir), r"put \(\) after it"),
        (lambda: Shadow(3), "is no controller"),
        (lambda: Bounds(ceiling=4, floor=5), "does not hold"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, says):
    with pytest.raises(ConfigurationError, match=says):
        make()


def test_an_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(UnknownOptionError, match="did you mean 'memory'"):
        Weir(memry=0.5)


def test_a_law_can_be_asked_at_any_limit():
    for law in (AIMD(), Gradient(), Weir()):
        state = law.initial(WIDE)
        for t, limit in enumerate((10, 100, 1, 55)):
            decision = law.next(state, steady(float(t), limit))
            state = decision.state
            assert 1 <= decision.limit <= 100
