"""Draw how laws did in a scenario: the limit, the load and the throughput over time."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

from anabranch.testing._chart import Line, Panel, line_chart
from anabranch.testing._simulator._run import Simulation
from anabranch.testing._simulator._words import Scenario

SMOOTH = 5  # seconds over which throughput is averaged


def plot(plays: Mapping[str, Simulation]) -> str:
    """Return an SVG of one scenario played by laws of these names; the load is the first's."""
    name, first = next(iter(plays.items()))
    scenario, oracle = first.scenario, first.oracle
    marks = tuple(accumulate(phase.seconds for phase in scenario.phases[:-1]))
    limits = [
        Line(
            law,
            [(0, scenario.initial), *((each.t, each.new) for each in play.changes), _last(play)],
            steps=True,
        )
        for law, play in plays.items()
    ]
    rates = [
        Line(law, _smooth([each.rate for each in play.moments])) for law, play in plays.items()
    ]
    if oracle is not None:
        best = _held(scenario, [float(each) for each in oracle.limits])
        limits.append(Line("best fixed", best, steps=True, dashed=True))
        rates.append(Line("best fixed", _smooth(list(oracle.seconds)), dashed=True))
    load = [
        Line("cpu", [(each.t, 100 * each.cpu) for each in first.moments]),
        Line("memory", [(each.t, 100 * each.memory) for each in first.moments]),
    ]
    crowd = [
        (each.t, 100 * each.downstream) for each in first.moments if each.downstream is not None
    ]
    if crowd:
        load.append(Line("downstream", crowd))
    of = f" ({name})" if len(plays) > 1 else ""
    panels = [
        Panel("limit", limits, marks=marks),
        Panel(f"load in percent{of}", load, top=205 if crowd else 105, marks=marks),
        Panel("branches that succeed, a second", rates, marks=marks),
    ]
    return line_chart(f"{scenario.name}, seed {first.seed}: {', '.join(plays)}", panels)


def _last(play: Simulation) -> tuple[float, float]:
    limit = play.changes[-1].new if play.changes else play.scenario.initial
    return play.scenario.seconds, limit


def _held(scenario: Scenario, values: list[float]) -> list[tuple[float, float]]:
    begins = accumulate((phase.seconds for phase in scenario.phases), initial=0.0)
    points = list(zip(begins, values, strict=False))
    return [*points, (scenario.seconds, values[-1])]


def _smooth(rates: list[float]) -> list[tuple[float, float]]:
    points = []
    for end in range(1, len(rates) + 1):
        window = rates[max(0, end - SMOOTH) : end]
        points.append((float(end), sum(window) / len(window)))
    return points
