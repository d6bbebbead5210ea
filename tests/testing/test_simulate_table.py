"""Plays are summed up without making a law look better than it is."""

from __future__ import annotations

import math

import attrs
import pytest

from anabranch.controllers import Fixed
from anabranch.testing import Simulation, Times, Work, simulate
from anabranch.testing._simulator._table import (
    as_markdown,
    cell_of,
    in_columns,
    quantile,
    summary_of,
)
from tests.testing._small import scenario


@pytest.fixture(scope="module")
def play() -> Simulation:
    return simulate(scenario(Work(wait=Times(1)), seconds=60, ceiling=10), Fixed(10))


def test_a_law_that_never_came_near_is_later_than_any(play: Simulation) -> None:
    times = [attrs.evolve(play, reached=each) for each in (1.0, None, None)]
    assert cell_of(times).reached is None
    assert summary_of(times).reached is None
    assert cell_of(times[:2] + times[:1]).reached == 1


def test_a_kill_in_one_seed_is_shown(play: Simulation) -> None:
    plays = [play, attrs.evolve(play, kills=1), play]
    assert str(cell_of(plays)).endswith(" K")
    assert not str(cell_of(plays[:1])).endswith(" K")
    assert summary_of(plays).killed == 1


def test_the_summary_is_in_the_terms_of_the_bars(play: Simulation) -> None:
    plays = [attrs.evolve(play, reversals=float(each), refusals=each) for each in range(11)]
    summary = summary_of(plays)
    assert summary.reversals == (5, 9)
    assert summary.refusals == (5, 9)
    assert summary.ratios[2] == 0
    lost = [attrs.evolve(play, goodput=-5.0), play]
    assert cell_of(lost[:1]).ratio == 0
    assert summary_of(lost).ratios[2] == 1


def test_a_quantile_lies_between_values() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2
    assert quantile([0.0, 10.0], 0.1) == 1
    assert math.isnan(quantile([], 0.5))


def test_tables_are_aligned() -> None:
    assert in_columns([["", "x"], ["long name", "1"]]) == "           x\nlong name  1"
    table = as_markdown(["", "a"], {"one": ["1"]})
    assert table == "|  | a |\n|---|---|\n| one | 1 |"
