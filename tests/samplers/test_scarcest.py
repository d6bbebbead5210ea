"""Several samplers as one: for each signal the scarcest of what they tell."""

import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import ConfigurationError, Load
from anabranch._load import SIGNALS
from anabranch.samplers import Scarcest, default_samplers
from anabranch.samplers._checked import Checked
from anabranch.samplers._scarcest import scarcest

GIB = 2.0**30
NOTHING = dict.fromkeys(SIGNALS)


class Says:
    def __init__(self, says):
        self.says = says

    def sample(self):
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], {}),
        ([{}, {}], {}),
        ([{"cores": 4}, {"cores": 0.5}, {"cores": None}], {"cores": 0.5}),
        ([{"cpu": 0.2}, {"cpu": 0.9}], {"cpu": 0.9}),
        ([{"cpu": None}, {"cpu": 0.0}], {"cpu": 0.0}),
        ([{"loop_lag": 0.1}, {"cpu_pressure": 0.5}], {"loop_lag": 0.1, "cpu_pressure": 0.5}),
        (
            [
                {"memory_used": 1, "memory_total": 10},
                {"memory_used": 60, "memory_total": 64},
                {"memory_used": 90, "memory_total": 128},
            ],
            {"memory_used": 60, "memory_total": 64},
        ),
        (
            [{"memory_used": 5, "memory_total": 10}, {"memory_used": 9}, {"memory_total": 3}],
            {"memory_used": 5, "memory_total": 10},
        ),
        ([{"memory_used": 9}, {"memory_total": 12}], {"memory_used": 9, "memory_total": 12}),
        (
            [{"gpu_memory_used": 5, "gpu_memory_total": 9}, {"memory_used": 2}],
            {"gpu_memory_used": 5, "gpu_memory_total": 9, "memory_used": 2},
        ),
    ],
)
def test_the_scarcest_counts(samples, expected):
    assert scarcest(samples) == NOTHING | expected


figures = st.one_of(st.none(), st.floats(0, 1e12))
samples = st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(SIGNALS, figures)))


@pytest.mark.slow
@given(samples)
def test_order_and_repetition_change_nothing(drawn):
    assert scarcest(drawn) == scarcest(drawn[::-1]) == scarcest([*drawn, *drawn])


@pytest.mark.slow
@given(samples, samples)
def test_in_groups_or_at_once_is_the_same_where_pairs_are_whole(first, second):
    def whole(each):
        return {k: v for k, v in each.items() if not k.endswith(("_used", "_total"))}

    one, two = [whole(each) for each in first], [whole(each) for each in second]
    assert scarcest([scarcest(one), scarcest(two)]) == scarcest([*one, *two])


def test_several_that_wait_are_waited_for_at_once():
    """Each answers when both have been asked."""
    meeting = threading.Barrier(2, timeout=30)

    class Meets:
        def sample(self):
            meeting.wait()
            return {"cpu": 0.5}

    assert Scarcest([Meets(), Meets()], limit=30).sample()["cpu"] == 0.5
    assert not meeting.broken


def test_one_that_fails_costs_its_own_signals_only(caplog):
    sampler = Scarcest([Says(ValueError("x")), Says({"cpu": 50}), Says({"cores": 2, "cpu": 0.1})])
    assert sampler.sample() == NOTHING | {"cores": 2, "cpu": 0.1}
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_what_it_tells_makes_a_load():
    found = Scarcest([Says({"cores": 2, "cpu": 0.1})]).sample()
    assert Load(limit=3, **found).cores == 2


def test_they_may_be_nested():
    inner = Scarcest([Says({"cores": 2})])
    assert Scarcest([inner, Says({"cores": 3})]).sample()["cores"] == 2


def test_what_nobody_knows_is_said_once_and_not_at_first(caplog):
    caplog.set_level(logging.INFO, "anabranch")
    sampler = Scarcest([Says({"memory_total": GIB, "memory_used": 1})])
    said = []
    for _ in range(6):
        sampler.sample()
        said.append(len(caplog.records))
    assert said == [0, 0, 1, 1, 1, 1]
    (record,) = caplog.records
    assert record.levelname == "INFO"
    expected = "unknown here: cpu, cpu_pressure, memory_pressure, own_memory; "
    assert record.getMessage().startswith(expected)


def test_what_is_known_later_is_not_missing(caplog):
    caplog.set_level(logging.INFO, "anabranch")
    says = Says({})
    sampler = Scarcest([says])
    sampler.sample()
    says.says = {"cpu": 0, "cpu_pressure": 0, "memory_pressure": 0, "own_memory": 0}
    says.says |= {"memory_total": GIB}
    sampler.sample()
    sampler.sample()
    assert not caplog.records


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), True, "1"])
def test_a_time_that_no_sampler_could_keep_is_refused(limit):
    with pytest.raises(ConfigurationError, match="is no time that a sampler may take"):
        Scarcest([Says({})], limit=limit)


@pytest.mark.parametrize("given", [[7], 7, None, "cpu", [Says]])
def test_what_is_no_sampler_is_refused(given):
    with pytest.raises(ConfigurationError, match="is no sampler"):
        Scarcest(given)


# Those of every machine -------------------------------------------------------------------------


def test_the_default_samplers_tell_of_a_container(tree):
    files = {"a/b/cpu.max": "50000 100000", "a/b/memory.max": "1048576"}
    groups = tree({**files, "a/b/memory.current": "1048575"})
    found = Scarcest(default_samplers(groups)[:3]).sample()
    assert (found["cores"], found["cpu"]) == (0.5, None)
    assert (found["memory_used"], found["memory_total"]) == (2**20 - 1, 2**20)


def test_they_tell_no_signal_twice_and_none_that_does_not_exist(tree):
    names = [name for each in default_samplers(tree({}))[:4] for name in each.sample()]
    assert len(names) == len(set(names))
    assert set(names) <= set(SIGNALS)


def test_ours_are_asked_without_a_thread_of_their_own(tree, monkeypatch):
    def refuses(thread):
        raise RuntimeError("no thread can be had")

    sampler = Scarcest(default_samplers(tree({}))[:4])
    monkeypatch.setattr("threading.Thread.start", refuses)
    assert sampler.sample()["cores"] == 64
    assert Checked(Says({"cores": 3})).sample() == {}
