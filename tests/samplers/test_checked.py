"""What a sampler tells is used only where it can be meant, and what cannot is said once."""

import itertools
import logging
import math
import threading
from decimal import Decimal
from fractions import Fraction

import pytest

from anabranch import ConfigurationError
from anabranch._load import SIGNALS
from anabranch.samplers._checked import LONGEST_LAG_S, SHARES, Checked, check_samplers


class Says:
    """A user's sampler that tells, or raises, what a test wants."""

    def __init__(self, says):
        self.says = says

    def sample(self):
        if isinstance(self.says, BaseException):
            raise self.says
        return self.says


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, "anabranch")
    return lambda: [record.getMessage() for record in caplog.records]


def checked(says):
    return Checked(Says(says)).sample()


GOOD = {
    "cores": 0.5,
    "cpu": 1.0,
    "cpu_pressure": 0.0,
    "memory_used": 0.0,
    "memory_total": 2.0**40,
    "memory_pressure": 0.25,
    "own_memory": 123.0,
    "gpu_memory_used": 7.0,
    "gpu_memory_total": 2.0**20,
    "loop_lag": 0.001,
}


def test_what_can_be_meant_is_told_as_it_is(log):
    assert set(GOOD) == set(SIGNALS)
    assert checked(GOOD) == GOOD
    assert not log()


def test_none_is_unknown_and_nothing_to_speak_of(log):
    nothing = dict.fromkeys(SIGNALS)
    assert checked(nothing) == nothing
    assert checked({}) == {}
    assert not log()


@pytest.mark.parametrize("value", [1, Fraction(1, 2)])
def test_any_real_number_will_do(value):
    found = checked({"cpu": value})
    assert found == {"cpu": value}
    assert type(found["cpu"]) is float


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, -1, -0.001, "1", True, 1j, Decimal(1), [1], 10**400],
    ids=lambda value: repr(value)[:8],
)
def test_what_is_no_figure_is_unknown_and_said_once(log, name, value):
    sampler = Checked(Says({"cores": 4, name: value}), None)
    for _ in range(3):
        assert sampler.sample()[name] is None
    (said,) = log()
    assert f"Says tells {name}={value!r:.40}" in said


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize(
    ("value", "hint"), [(87, "is 0.87 meant?"), (1.5, "not percent"), (250, "")]
)
def test_percent_where_a_share_is_meant_is_refused_with_a_hint(log, name, value, hint):
    assert checked({name: value}) == {name: None}
    assert hint in log()[0]
    assert "is over 1; a share is 0 to 1, not percent" in log()[0]


def test_rounding_is_no_percentage(log):
    assert checked({"cpu": 1 + 1e-9}) == {"cpu": 1.0}
    assert not log()


@pytest.mark.parametrize("name", ["memory_total", "gpu_memory_total"])
def test_gigabytes_where_bytes_are_meant_are_refused_with_a_hint(log, name):
    assert checked({name: 64}) == {name: None}
    assert "sizes are bytes" in log()[0]


def test_no_cores_are_unknown_cores(log):
    assert checked({"cores": 0}) == {"cores": None}
    assert "tell None for unknown" in log()[0]


def test_a_night_in_a_bag_is_no_busy_loop():
    assert checked({"loop_lag": 36000}) == {"loop_lag": LONGEST_LAG_S}


def test_one_that_is_wrong_costs_no_other():
    assert checked({"cpu": 50, "cores": 4}) == {"cpu": None, "cores": 4}


def test_unknown_names_are_left_out_and_the_nearest_is_suggested(log):
    assert checked({"cpu_presure": 0.5, "cores": 4}) == {"cores": 4}
    assert "did you mean 'cpu_pressure'?" in log()[0]


@pytest.mark.parametrize("name", [7, None, ("cpu",), "", "\x1b[31m", "x" * 10_000])
def test_odd_names_are_left_out(log, name):
    assert checked({name: 0.5}) == {}
    assert len(log()[0]) < 500


@pytest.mark.parametrize("error", [ValueError("x" * 10_000), KeyError("k"), OSError(2, "no")])
def test_one_that_raises_tells_nothing_and_that_is_said_once(log, error):
    sampler = Checked(Says(error))
    for _ in range(3):
        assert sampler.sample() == {}
    (said,) = log()
    assert said.startswith(f"sampler Says raised {error!r}"[:60])
    assert len(said) < 400


def test_one_that_ends_the_program_ends_nothing(log):
    assert checked(SystemExit(1)) == {}
    assert "SystemExit" in log()[0]


@pytest.mark.parametrize("value", [None, 0.5, [("cpu", 0.5)], {"cpu"}, "cpu"])
def test_what_is_no_mapping_tells_nothing(log, value):
    assert checked(value) == {}
    assert "return {'cpu': 0.5} or the like" in log()[0]


def test_an_async_sampler_tells_nothing_and_is_not_left_unawaited(log):
    class Late:
        async def sample(self):
            return {"cpu": 0.5}

    assert Checked(Late()).sample() == {}
    assert "coroutine" in log()[0]


def test_a_sample_without_end_comes_to_an_end():
    class Endless(dict):
        def items(self):
            return (("cpu", 0.5) for _ in itertools.count())

    assert checked(Endless()) == {"cpu": 0.5}


def test_ever_new_complaints_come_to_an_end(log):
    sampler = Says({})
    checks = Checked(sampler, None)
    for n in range(200):
        sampler.says = {f"signal-{n}": 1}
        checks.sample()
    assert len(log()) == 32
    assert log()[-1].endswith("more of this kind is not told")


@pytest.mark.slow
def test_one_that_hangs_is_left_alone(log):
    go_on = threading.Event()

    class Hangs:
        calls = 0

        def sample(self):
            self.calls += 1
            go_on.wait()
            return {"cpu": 0.5}

    sampler = Hangs()
    checks = Checked(sampler, limit=0.02)
    try:
        assert [checks.sample() for _ in range(20)] == [{}] * 20
        assert sampler.calls == 1
        (said,) = log()
        assert "sampler Hangs no answer for" in said
    finally:
        go_on.set()


# What is handed in ------------------------------------------------------------------------------


class Async:
    async def sample(self):
        return {}


class Attribute:
    sample = 7


def test_samplers_are_one_or_several():
    one, two = Says({}), Says({})
    assert check_samplers("X", one) == (one,)
    assert check_samplers("X", [one, two]) == (one, two)
    assert check_samplers("X", ()) == ()


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (Says, "give one of it: Says()"),
        (Async(), "is async"),
        (Attribute(), "sample()"),
        (7, "sample()"),
        ({"cpu": 0.5}, "sample()"),
        ([Says({}), "cpu"], "'cpu' (str)"),
        (Says({}).sample, "sample()"),
    ],
)
def test_what_is_no_sampler_is_refused(given, hint):
    with pytest.raises(ConfigurationError) as caught:
        check_samplers("ConcurrencyConfig: samplers", given)
    assert hint in str(caught.value)
    assert str(caught.value).startswith("ConcurrencyConfig: samplers: ")


def test_an_error_that_cannot_be_shown_costs_a_signal_and_no_run(log):
    class ShyError(Exception):
        def __repr__(self):
            raise KeyError("no repr")

    assert checked(ShyError()) == {}
    assert log() == ["sampler Says raised a ShyError that cannot be shown; its signals are unknown"]
