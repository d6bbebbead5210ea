"""Small scenarios, and laws that do as they are told."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import attrs

from anabranch import Bounds, Decision, Load
from anabranch.testing import Machine, Phase, Scenario, Senses, Times, Work
from anabranch.testing._simulator._branches import Branch

EXACT = Senses()
LOSSLESS = Machine(cores=4, switching=0.0, taken=0.0)


def scenario(
    work: Work, *, seconds: float = 20, supply: int | None = None, **more: Any
) -> Scenario:
    """Return a scenario of one phase, seen exactly."""
    phase = Phase(seconds=seconds, work=work, supply=supply)
    return Scenario(**{"name": "small", "phases": [phase], "senses": EXACT, **more})


def branch(index: int, began: float = 0.0, work: Work | None = None) -> Branch:
    """Return a branch of any work."""
    return Branch(index, began, work or Work(cpu=Times(1)), Random(0))


@attrs.frozen
class Told:
    """Decide the given limits, one after the other and again from the first."""

    limits: Sequence[int]
    again: float | None = None

    def initial(self, bounds: Bounds, /) -> tuple[Bounds, int]:
        """Return the state: how many were decided."""
        return bounds, 0

    def next(self, state: tuple[Bounds, int], load: Load, /) -> Decision:
        """Decide the next one, within the ceiling."""
        bounds, count = state
        limit = min(bounds.ceiling, self.limits[count % len(self.limits)])
        reason = "" if limit == load.limit else f"told to: {limit}"
        return Decision((bounds, count + 1), limit, reason, self.again)


def brief(scenario: Scenario, most: float = 6.0) -> Scenario:
    """Return a scenario of which no phase takes longer than so many seconds."""
    phases = [attrs.evolve(each, seconds=min(most, each.seconds)) for each in scenario.phases]
    return attrs.evolve(scenario, phases=phases)
