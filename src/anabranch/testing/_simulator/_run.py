"""Let a law drive a scenario, and tell how well it did beside the best fixed limits."""

from __future__ import annotations

from itertools import pairwise

import attrs

from anabranch._load import Decision, Load
from anabranch._options import exact
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


@exact("simulate")
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
        ConfigurationError: no scenario of that name, no controller, or a limit out of bounds.
    """
    if isinstance(scenario, str):
        scenario = scenario_named(scenario)
    _check(scenario, controller)
    asked = _Asked(scenario, controller)
    world = World(scenario, seed, scenario.initial, asked)
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
        reversals=reversals_a_minute(scenario, asked.changes),
        reached=None if found is None else seconds_until(world.good, found.seconds),
        counts=world.counts,
        moments=tuple(world.asking.moments) if world.asking else (),
        changes=tuple(asked.changes),
        loads=tuple(asked.loads),
    )


class _Asked:
    """Ask a controller within its bounds; keep what it was told, and what came of it."""

    def __init__(self, scenario: Scenario, controller: Controller) -> None:
        self.changes: list[Change] = []
        self.loads: list[Load] = []
        self._controller = controller
        self._scenario = scenario
        self._state = controller.initial(scenario.bounds)

    def __call__(self, load: Load) -> tuple[int, float | None]:
        self.loads.append(load)
        decision: object = self._controller.next(self._state, load)
        if not isinstance(decision, Decision):
            raise self._refusal(load, f"{decision!r:.80} is no Decision; return one")
        new: object = decision.limit
        fits = isinstance(new, int) and not isinstance(new, bool)
        if not fits or not 1 <= decision.limit <= self._scenario.ceiling:
            words = f"limit={new!r:.80}; decide a whole number from 1 to {self._scenario.ceiling}"
            raise self._refusal(load, words)
        self._state = decision.state
        given = min(decision.limit, GROWTH * int(load.limit))
        if given != load.limit:
            self.changes.append(Change(load.t, int(load.limit), given, decision.reason))
        return decision.limit, decision.again

    def _refusal(self, load: Load, words: str) -> ConfigurationError:
        where = f"{type(self._controller).__name__} at {load.t:g} s of {self._scenario.name:.80}"
        return ConfigurationError(f"{where}: {words}")


def _check(scenario: object, controller: object) -> None:
    if not isinstance(scenario, Scenario):
        raise ConfigurationError(
            f"simulate: {scenario!r:.80} is no scenario; give one, or the name of one"
        )
    if isinstance(controller, type) or not isinstance(controller, Controller):
        raise ConfigurationError(
            f"simulate: {controller!r:.80} is no controller; give one with initial() and next()"
        )


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
