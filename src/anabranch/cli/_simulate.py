"""Play laws in the simulator, and print how well they did beside the best fixed limits."""

from __future__ import annotations

import json as as_text
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import attrs
from cyclopts import Parameter, Token

from anabranch._terminal import counted_on_stderr
from anabranch.abc import Controller
from anabranch.cli._exits import OK, guarded
from anabranch.cli._load import WrongUsageError
from anabranch.cli._stdout import results_only, write
from anabranch.controllers import Fixed, named
from anabranch.testing import SCENARIOS, Simulation, simulate
from anabranch.testing._simulator._plot import plot as drawing_of
from anabranch.testing._simulator._scenarios import scenario_named
from anabranch.testing._simulator._table import Cell, cell_of, in_columns

DRAWN: Final = "drawn"
MOST: Final = 10_000  # seeds
HEAD: Final = ("", "of best", "kills", "refused/min", "turns/min", "s to 90 %", "best fixed")


@attrs.frozen
class Play:
    """Name one play: which law in which scenario, by which seed."""

    law: str
    scenario: str
    seed: int


def _seeds(_: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    return seeds_of(",".join(token.value for token in tokens))


def simulate_command(
    *,
    controller: Annotated[tuple[str, ...], Parameter(negative=())] = ("weir",),
    scenario: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    seeds: Annotated[tuple[int, ...], Parameter(converter=_seeds, n_tokens=1, negative=())] = (0,),
    plot: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Play controllers in the simulator, beside the best fixed limits that can be found.

    Args:
        controller: weir, gradient, aimd, or fixed-N for a limit of N; again for several.
        scenario: Its name, drawn-N, or drawn for the one of each seed; again for several.
            Without it: all that have names.
        seeds: By which branches are drawn: 0,3,10-19.
        plot: Draw limit, load and throughput of one scenario over time, into this SVG file.
        json: Print one JSON object a line, for each play.
    """
    work = partial(_simulate, controller, scenario, seeds, plot, as_json=json)
    return guarded(work, unwritable=plot)


def _simulate(
    controllers: Sequence[str],
    scenarios: Sequence[str],
    seeds: Sequence[int],
    plot_file: Path | None,
    *,
    as_json: bool,
) -> int:
    """Play each law in each scenario by each seed."""
    laws = {name: law_named(name) for name in controllers}
    names = list(dict.fromkeys(scenarios)) or list(SCENARIOS)
    for name in names:
        if name != DRAWN:
            scenario_named(name)
    _check_plot(plot_file, names, seeds)
    with results_only(as_json) as out:
        found: dict[Play, Simulation] = {}
        for play, simulation in _played(laws, names, seeds):
            found[play] = simulation
            if as_json:
                write(out, line_of(play, simulation))
        if plot_file is not None:
            plays = {play.law: simulation for play, simulation in found.items()}
            plot_file.write_text(drawing_of(plays), encoding="utf-8")
        if not as_json:
            write(out, table(found))
    return OK


def law_named(name: str) -> Controller:
    """Return a law by its name; ``fixed-20`` holds 20.

    Raises:
        ConfigurationError: there is none of that name.
    """
    word, _, limit = name.partition("-")
    if word == "fixed" and limit.isascii() and limit.isdecimal():
        return Fixed(int(limit))
    return named(name)


def seeds_of(text: str) -> tuple[int, ...]:
    """Read ``0,3,10-19``.

    Raises:
        ValueError: that is no such list, or a very long one.
    """
    seeds: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if not (low.isdecimal() and (high or low).isdecimal()) or len(low + high) > 18:
            raise ValueError(f"{part!r:.40} is no seed; give whole numbers as 0,3,10-19")
        first, last = int(low), int(high or low)
        if not first <= last < first + MOST:
            raise ValueError(f"{part!r:.40} is not 1 to {MOST:,} seeds in order")
        seeds += range(first, last + 1)
    return tuple(dict.fromkeys(seeds))


def line_of(play: Play, simulation: Simulation) -> str:
    """Return a play as a line of JSON."""
    oracle = simulation.oracle
    fields: dict[str, Any] = {
        "controller": play.law,
        "scenario": simulation.scenario.name,
        "seed": play.seed,
        "goodput": simulation.goodput,
        "ratio": simulation.ratio,
        "best_fixed": None if oracle is None else oracle.limits,
        "kills": simulation.kills,
        "refusals_a_minute": simulation.refusals_a_minute,
        "reversals_a_minute": simulation.reversals,
        "seconds_to_90_percent": simulation.reached,
        "moments": [attrs.asdict(moment) for moment in simulation.moments],
        "changes": [attrs.asdict(change) for change in simulation.changes],
    }
    return as_text.dumps(fields, allow_nan=False)


def table(found: Mapping[Play, Simulation]) -> str:
    """Return a table: all figures of one law, or the shares of several beside each other."""
    laws = list(dict.fromkeys(play.law for play in found))
    names = list(dict.fromkeys(play.scenario for play in found))
    plays = {
        (name, law): [found[each] for each in found if (each.scenario, each.law) == (name, law)]
        for name in names
        for law in laws
    }
    if len(laws) > 1:
        rows = [("", *laws)]
        rows += [(name, *(str(cell_of(plays[name, law])) for law in laws)) for name in names]
        return in_columns(rows) + "\nshares of the best fixed limits' goodput; K: memory has killed"
    only = [
        [name, *_figures(cell_of(plays[name, laws[0]])), _best(plays[name, laws[0]])]
        for name in names
    ]
    return in_columns([HEAD, *only])


def _figures(cell: Cell) -> list[str]:
    return [
        "-" if cell.ratio is None else f"{cell.ratio:.2f}",
        f"{cell.kills}",
        f"{cell.refusals:.0f}",
        "-" if cell.reversals is None else f"{cell.reversals:.1f}",
        "never" if cell.reached is None else f"{cell.reached:.0f}",
    ]


def _best(plays: Sequence[Simulation]) -> str:
    oracle = plays[0].oracle
    return "" if oracle is None else ", ".join(map(str, oracle.limits))


def _played(
    laws: Mapping[str, Controller], scenarios: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[Play, Simulation]]:
    plays = [Play(law, name, seed) for name in scenarios for seed in seeds for law in laws]
    for play in counted_on_stderr(plays, lambda play: f"{play.scenario}, {play.law}"):
        name = f"{DRAWN}-{play.seed}" if play.scenario == DRAWN else play.scenario
        yield play, simulate(name, laws[play.law], play.seed)


def _check_plot(file: Path | None, scenarios: Sequence[str], seeds: Sequence[int]) -> None:
    if file is not None and (len(scenarios), len(seeds)) != (1, 1):
        raise WrongUsageError(
            f"--plot draws one scenario by one seed, not {len(scenarios)} by {len(seeds)}; "
            f"give --scenario NAME"
        )
