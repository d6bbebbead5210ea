"""Loads come back bit for bit, and get the same decisions again."""

from __future__ import annotations

import json
import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import Bounds, ConfigurationError, Load
from anabranch.controllers import Weir, from_json, read_loads, replay, to_json
from tests.controllers.loads import ABSURD, bounds, drive, sequences
from tests.controllers.machine import cores, play


def bits(load: Load) -> str:
    return repr(attrs.astuple(load))


@pytest.mark.slow
@given(fields=st.fixed_dictionaries(ABSURD), limit=st.floats(allow_nan=False))
def test_a_load_comes_back_bit_for_bit(fields, limit):
    load = Load(**(fields | {"limit": limit, "t": 1e-300}))
    line = to_json(load)
    assert "\n" not in line
    assert bits(from_json(line)) == bits(load)


@pytest.mark.parametrize("value", [-0.0, math.inf, -math.inf, 0.1 + 0.2, 5e-324, None, math.nan])
def test_odd_numbers_come_back(value):
    load = Load(cpu=value, limit=math.inf)
    assert bits(from_json(to_json(load))) == bits(load)


def test_a_line_is_json_for_everybody():
    def refuse(word):
        raise AssertionError(word)

    told = json.loads(to_json(Load(limit=math.inf, cpu=None)), parse_constant=refuse)
    assert told["limit"] == "inf"
    assert told["cpu"] is None


@pytest.mark.slow
@given(within=bounds(), told=sequences())
def test_written_loads_get_the_decisions_of_the_run(within, told):
    decided, limit, lines = drive(Weir(), within, told), within.initial, []
    for fields, decision in zip(told, decided, strict=True):
        lines.append(to_json(Load(**(fields | {"limit": limit}))) + "\n")
        limit = decision.limit
    assert replay(Weir(), read_loads(lines), within) == decided


def test_blank_lines_are_skipped_and_what_is_left_out_has_its_default():
    assert list(read_loads(["\n", '{"t": 3, "limit": 2}\n', "  "])) == [Load(t=3, limit=2)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no JSON object"),
        ('{"cpu": "much"}', "cpu='much' is no number"),
        ('{"cpu": true}', "cpu=True is no number"),
        ('{"latencies": 3}', "is no list of seconds"),
        ('{"limit": null}', "limit=None is no number"),
        ('{"cpus": 1}', "did you mean 'cpu'"),
    ],
)
def test_a_line_that_is_no_load_is_named(line, says):
    with pytest.raises(ConfigurationError, match=f"line 2: .*{says}"):
        list(read_loads(["{}", line]))


def test_bounds_of_a_replay_are_those_of_the_run_unless_said():
    loads = [Load(t=float(t), limit=300) for t in range(3)]
    assert [each.limit for each in replay(Weir(), loads)] == [300] * 3
    assert replay(Weir(), []) == []
    with pytest.raises(ConfigurationError, match="no controller"):
        replay("weir", loads)
    with pytest.raises(ConfigurationError, match="is no Bounds"):
        replay(Weir(), loads, 300)
    with pytest.raises(ConfigurationError, match=r"is no Load; read lines with read_loads"):
        replay(Weir(), [to_json(loads[0])])


def test_another_law_can_be_asked_about_the_same_run():
    decided = play(Weir(), Bounds(ceiling=64, initial=8), cores(4), 30)
    assert decided[-1].limit < 8
