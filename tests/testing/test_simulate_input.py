"""What cannot be simulated is refused, with words."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from anabranch import Bounds, ConfigurationError, Decision, Load, UnknownOptionError
from anabranch.abc import Controller
from anabranch.controllers import Fixed
from anabranch.testing import (
    Downstream,
    Machine,
    Neighbour,
    Phase,
    Scenario,
    Senses,
    Times,
    Work,
    simulate,
)
from tests.testing._small import scenario

WAITS = Work(wait=Times(0.5))


@attrs.frozen
class Odd:
    """Decide what cannot be."""

    limit: Any

    def initial(self, bounds: Bounds, /) -> None:
        return None

    def next(self, state: None, load: Load, /) -> Decision:
        return Decision(None, self.limit, "odd")


@pytest.mark.parametrize("limit", [0, -1, 257, 2.5, math.nan, True, "8", None])
def test_a_limit_out_of_bounds_is_refused_with_the_name_of_the_law(limit: Any) -> None:
    law: Controller = Odd(limit)
    with pytest.raises(ConfigurationError, match=r"Odd at 0.25 s of small: .* from 1 to 256"):
        simulate(scenario(WAITS), law, oracle=False)


@attrs.frozen
class Mute:
    """Decide nothing."""

    def initial(self, bounds: Bounds, /) -> None:
        return None

    def next(self, state: None, load: Load, /) -> None:
        return None


def test_what_is_no_law_or_no_scenario_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Mute at 0\.25 s of small: None is no Decision"):
        simulate(scenario(WAITS), Mute(), oracle=False)
    with pytest.raises(ConfigurationError, match="is no controller"):
        simulate("knee", Fixed)
    with pytest.raises(ConfigurationError, match="is no scenario"):
        simulate(WAITS, Fixed(1))
    with pytest.raises(UnknownOptionError, match="did you mean 'seed'"):
        simulate("knee", Fixed(1), sede=1)


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(ConfigurationError, match="did you mean refusals"):
        simulate("refusal", Fixed(1))
    with pytest.raises(ConfigurationError, match="drawn-0"):
        simulate("drawn-x", Fixed(1))


REFUSED: dict[str, Callable[[], object]] = {
    "time below 0": lambda: Times(-1),
    "no number": lambda: Times(math.nan),
    "shape": lambda: Times(1, "gauss"),
    "no work": Work,
    "share of errors": lambda: Work(cpu=Times(1), errors=2),
    "no cores": lambda: Machine(cores=0),
    "percent": lambda: Machine(taken=50),
    "no knee": lambda: Downstream(knee=0),
    "course": lambda: Downstream(knee=8, speed=((2, 1), (1, 1))),
    "period": lambda: Neighbour(period=0),
    "signal": lambda: Senses(lacking=("temperature",)),
    "no seconds": lambda: Phase(seconds=0, work=WAITS),
    "supply": lambda: Phase(seconds=1, work=WAITS, supply=-1),
    "no phases": lambda: Scenario(name="empty", phases=[]),
    "no downstream": lambda: scenario(Work(call=Times(1))),
    "no device": lambda: scenario(Work(cpu=Times(1), gpu_memory=1.0)),
    "ceiling": lambda: scenario(WAITS, ceiling=0),
    "initial": lambda: scenario(WAITS, ceiling=4, initial=5),
    "unknown": lambda: scenario(WAITS, floor=1),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_a_scenario_that_cannot_be_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()
