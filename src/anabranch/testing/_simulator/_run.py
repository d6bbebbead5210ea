"""Let a law drive a scenario, and tell how well it did beside the best fixed limits."""

from __future__ import annotations

from itertools import pairwise

import attrs

from anabranch._load import Load
from anabranch.abc import Controller
from anabranch.errors import ConfigurationError
from anabranch.testing._simulator._asking import GROWTH, Moment
from anabranch.testing._simulator._oracle import Oracle, oracle_of, spans_of
from anabranch.testing._simulator._scenarios import scenario_named
from anabranch.testing._simulator._words import Scenario
from anabranch.testing._simulator._world import Counts, World

SETTLED = 20.0  # seconds after the beginning of a phase
WINDOW = 5  # seconds over which a rate is compared
NEAR = 0.9


@attrs.frozen
class Change:
    """Say when and why a limit was moved."""

    t: float
    old: int
    new: int
    reason: str


@attrs.frozen(kw_only=True)
class Simulation:
    """Tell how a law did in a scenario.

    Attributes:
        goodput: branches that succeeded, less a quarter for each one lost by overload.
        oracle: what the best fixed limits of each phase reach; None if it was not asked for.
        kills, refusals: branches that memory and a full downstream have cost.
        minutes: how long it was.
        reversals: changes of the limit's direction a minute, in steady state, which is each phase
            without its first 20 seconds; None if there is no such time.
        reached: seconds until the goodput of five seconds was 90 % of the oracle's; None for never.
        moments: one for each second. changes: each of the limit's.
        loads: what the law was told, to be replayed.
    """

    scenario: Scenario
    seed: int
    goodput: float
    oracle: Oracle | None
    kills: int
    refusals: int
    minutes: float
    reversals: float | None
    reached: float | None
    counts: Counts
    moments: tuple[Moment, ...] = attrs.field(repr=False)
    changes: tuple[Change, ...] = attrs.field(repr=False)
    loads: tuple[Load, ...] = attrs.field(repr=False)

    @property
    def ratio(self) -> float | None:
        """Return the share of the oracle's goodput, 0 if more was lost than won."""
        if self.oracle is None or self.oracle.goodput <= 0:
            return None
        return max(0.0, self.goodput) / self.oracle.goodput

    @property
    def refusals_a_minute(self) -> float:
        """Return how many branches a minute a full downstream has refused."""
        return self.refusals / self.minutes


def simulate(
    scenario: Scenario | str, controller: Controller, seed: int = 0, *, oracle: bool = True
) -> Simulation:
    """Play a scenario under a controller; equal arguments give equal results.

    It is asked once a second of the scenario's time, or sooner as it wishes.

    Args:
        scenario: one of your own, or the name of one; ``drawn-7`` is the one drawn by the seed 7.
        controller: the law; what it raises is raised.
        seed: by which branches and noise are drawn.
        oracle: also look for the best fixed limits, which takes some twenty runs the first time.

    Raises:
        ConfigurationError: no scenario of that name; a limit outside of the scenario's bounds.
    """
    if isinstance(scenario, str):
        scenario = scenario_named(scenario)
    bounds = scenario.bounds
    state = controller.initial(bounds)
    changes: list[Change] = []
    loads: list[Load] = []

    def law(load: Load) -> tuple[int, float | None]:
        nonlocal state
        loads.append(load)
        decision = controller.next(state, load)
        new = decision.limit
        if isinstance(new, bool) or not isinstance(new, int) or not 1 <= new <= bounds.ceiling:
            raise ConfigurationError(
                f"{type(controller).__name__} at {load.t:g} s of {bounds_of(scenario)}: "
                f"limit={new!r:.80}; decide a whole number within the bounds"
            )
        state = decision.state
        given = min(new, GROWTH * int(load.limit))
        if given != load.limit:
            changes.append(Change(load.t, int(load.limit), given, decision.reason))
        return new, decision.again

    world = World(scenario, seed, bounds.initial, law)
    world.run()
    found = oracle_of(scenario, seed) if oracle else None
    return Simulation(
        scenario=scenario,
        seed=seed,
        goodput=sum(world.good),
        oracle=found,
        kills=world.counts.killed,
        refusals=world.counts.refused,
        minutes=scenario.seconds / 60,
        reversals=reversals_a_minute(scenario, changes),
        reached=None if found is None else seconds_until(world.good, found.seconds),
        counts=world.counts,
        moments=tuple(world.asking.moments) if world.asking else (),
        changes=tuple(changes),
        loads=tuple(loads),
    )


def bounds_of(scenario: Scenario) -> str:
    """Return a scenario's bounds in words."""
    return f"{scenario.name:.80}, from 1 to {scenario.ceiling}"


def reversals_a_minute(scenario: Scenario, changes: list[Change]) -> float | None:
    """Count how often the limit turned round in steady state."""
    steady = turns = 0.0
    for begin, end in spans_of(scenario):
        settled = begin + SETTLED
        steady += max(0.0, end - settled)
        within = [each for each in changes if begin <= each.t < end]
        turns += sum(
            (one.new > one.old) != (two.new > two.old) and two.t >= settled
            for one, two in pairwise(within)
        )
    return turns / (steady / 60) if steady else None


def seconds_until(good: list[float], best: tuple[float, ...]) -> float | None:
    """Return when the goodput of the last seconds was first near the oracle's; None for never."""
    for second in range(1, len(good) + 1):
        begin = max(0, second - WINDOW)
        wanted = sum(best[begin:second])
        if wanted > 0 and sum(good[begin:second]) >= NEAR * wanted:
            return float(second)
    return None
