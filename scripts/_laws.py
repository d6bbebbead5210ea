"""Play all laws in all scenarios, and write what came of it into the page about laws.

Run by scripts/laws.py, in the project's environment. A page's tables are between two marks,
so that its prose is written by hand and its figures never are.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import attrs

from anabranch.abc import Controller
from anabranch.controllers import AIMD, Fixed, Gradient, Weir
from anabranch.testing import SCENARIOS, Simulation, simulate
from anabranch.testing._simulator._plot import plot
from anabranch.testing._simulator._table import (
    Cell,
    Summary,
    as_markdown,
    cell_of,
    summary_of,
)

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "laws.md"
PLOTS = ROOT / "docs" / "plots"
UNSEEN = 7000  # the first seed of those that no law was tuned on
LAWS: dict[str, Controller] = {
    "fixed 10": Fixed(10),
    "fixed 100": Fixed(100),
    "AIMD": AIMD(),
    "Gradient": Gradient(),
    "Weir": Weir(),
}
OURS = "Weir"
DRAWN_OUT = (
    "mixed",
    "incident",
    "refusals",
    "outage",
    "heavy",
    "neighbour-cpu",
    "neighbour-memory",
    "cpu-waits-cpu",
)
ENOUGH = 0.7  # what is asked of a named scenario
CLEARLY = 0.05  # so much better another law must be to be named

Plays = dict[tuple[str, str], list[Simulation]]


def played(unit: tuple[str, int]) -> list[tuple[str, str, Simulation]]:
    """Play all laws in one scenario by one seed; what is bulky is left out."""
    name, seed = unit
    found = []
    for law, controller in LAWS.items():
        play = simulate(name, controller, seed)
        found.append((law, name, attrs.evolve(play, moments=(), loads=())))
    return found


def played_all(units: Sequence[tuple[str, int]], words: str) -> Plays:
    """Play in some processes, and tell a person how far it is."""
    plays: Plays = defaultdict(list)
    with ProcessPoolExecutor(max_workers=2) as pool:
        for count, found in enumerate(pool.map(played, units), start=1):
            for law, name, play in found:
                plays[name, law].append(play)
            if sys.stderr.isatty():
                print(f"\r{words}: {count} of {len(units)} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return plays


def named_table(plays: Plays) -> str:
    """Return the table of the scenarios that have names; the last column says what is weak."""
    rows = {}
    for name in SCENARIOS:
        cells = {law: cell_of(plays[name, law]) for law in LAWS}
        rows[f"`{name}`"] = [*(str(cell) for cell in cells.values()), weakness(cells)]
    return as_markdown(["of the best fixed limits", *LAWS, f"weak in {OURS}"], rows)


def weakness(cells: Mapping[str, Cell]) -> str:
    """Say what is wrong with our law in a scenario; nothing if nothing is."""
    ours = cells[OURS]
    words = ["kills"] if ours.kills else []
    if (ours.ratio or 0) < ENOUGH:
        words.append(f"under {ENOUGH:g}")
    others = {law: cell.ratio or 0 for law, cell in cells.items() if law != OURS and not cell.kills}
    best = max(others, key=lambda law: others[law], default="")
    if best and others[best] > (ours.ratio or 0) + CLEARLY:
        words.append(f"{best} is better")
    return ", ".join(words)


def drawn_table(plays: Plays) -> str:
    """Return how each law stands to the bars, over drawn scenarios."""
    rows: dict[str, list[str]] = defaultdict(list)
    for law in LAWS:
        of_law = [play for (_, other), found in plays.items() if other == law for play in found]
        for bar, words in bars(summary_of(of_law)).items():
            rows[bar].append(words)
    return as_markdown([f"{len(plays) // len(LAWS)} drawn scenarios", *LAWS], rows)


def bars(summary: Summary) -> dict[str, str]:
    """Return a law's figures, by what is asked of it."""
    middle, low, failures = summary.ratios
    return {
        "median of the shares (0.90 is asked)": f"{middle:.2f}",
        "tenth percentile (0.75)": f"{low:.2f}",
        "under 0.50 (1 of 60)": f"{failures} of {summary.plays}",
        "with a kill (1 of 60)": f"{summary.killed} of {summary.plays}",
        "turns a minute, median (2)": f"{summary.reversals[0]:.1f}",
        "turns a minute, ninth decile (5)": f"{summary.reversals[1]:.1f}",
        "refusals a minute, ninth decile (30)": f"{summary.refusals[1]:.0f}",
        "seconds to 90 %, median (15)": "never"
        if summary.reached is None
        else f"{summary.reached:.0f}",
    }


def plots(names: Iterable[str], write: bool) -> str:
    """Draw our law in some scenarios; return them with what moved the limit, in its own words."""
    parts = []
    for name in names:
        play = simulate(name, LAWS[OURS], 0)
        if write:
            PLOTS.mkdir(exist_ok=True)
            (PLOTS / f"{name}.svg").write_text(plot({OURS: play}), encoding="utf-8")
        share = "" if play.ratio is None else f", {play.ratio:.2f} of the best fixed limits"
        parts.append(f"### `{name}`{share}\n\n![{name}](../plots/{name}.svg)\n\n{moves(play)}")
    return "\n\n".join(parts)


def moves(play: Simulation, most: int = 6) -> str:
    """Return a play's largest moves, in order, in the words of the law."""
    largest = sorted(play.changes, key=lambda each: -abs(each.new - each.old) / each.old)[:most]
    kept = sorted(largest, key=lambda each: each.t)
    return "\n".join(f"- {each.t:.0f} s, {each.old} to {each.new}: {each.reason}" for each in kept)


def filled(page: str, sections: Mapping[str, str]) -> str:
    """Return the page with each section anew; a section that it has no marks for is an error."""
    for name, text in sections.items():
        marks = re.compile(rf"(<!-- made: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not marks.search(page):
            raise SystemExit(f"{PAGE} has no marks for {name!r}; put them where it belongs.")
        page = marks.sub(partial(_between, text), page)
    return page


def _between(text: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{text}\n{marks[2]}"


def main() -> None:
    """Play, print, and write."""
    parser = argparse.ArgumentParser(prog="laws.py", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="of each scenario that has a name")
    parser.add_argument("--drawn", type=int, default=60, help="scenarios to draw")
    parser.add_argument("--first", type=int, default=UNSEEN, help="the first seed of all")
    parser.add_argument("--print", action="store_true", help="write nothing")
    args = parser.parse_args()
    named = [(name, args.first + seed) for name in SCENARIOS for seed in range(args.seeds)]
    drawn = [(f"drawn-{args.first + seed}", args.first + seed) for seed in range(args.drawn)]
    sections = {
        "named": named_table(played_all(named, "scenarios with names")),
        "drawn": drawn_table(played_all(drawn, "drawn scenarios")),
        "plots": plots(DRAWN_OUT, write=not args.print),
    }
    if args.print:
        print("\n\n".join(sections.values()))
    else:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), sections), encoding="utf-8")
        print(f"{PAGE.relative_to(ROOT)} and {len(DRAWN_OUT)} plots are written.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
