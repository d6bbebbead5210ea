"""Bounds are whole numbers in order, and what cannot be meant is refused with a hint."""

import math

import pytest

from anabranch import Bounds, ConfigurationError


@pytest.mark.parametrize("field", ["floor", "ceiling", "initial"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3", None])
def test_what_is_no_limit_is_no_bound(field, value):
    with pytest.raises(ConfigurationError, match=f"{field}=.* is no limit; give a whole number"):
        Bounds(**{"ceiling": 4, field: value})


@pytest.mark.parametrize("value", [0.5, math.nan])
def test_a_share_is_told_from_a_number_of_branches(value):
    with pytest.raises(ConfigurationError, match="it is no share"):
        Bounds(ceiling=value)


@pytest.mark.parametrize("wrong", [{"floor": 5}, {"initial": 5}, {"floor": 3, "initial": 2}])
def test_bounds_are_in_order(wrong):
    with pytest.raises(ConfigurationError, match="does not hold"):
        Bounds(ceiling=4, **wrong)


def test_a_run_begins_at_the_ceiling_unless_it_is_said():
    assert Bounds(ceiling=4) == Bounds(ceiling=4, floor=1, initial=4)
