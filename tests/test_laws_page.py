"""The page about laws: its figures are made, and none of a scenario is left out."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from anabranch.controllers import Fixed, Weir
from anabranch.testing import SCENARIOS, Change, Simulation, simulate
from anabranch.testing._simulator._table import Cell
from scripts import _laws

EXPLANATION = Path(__file__).parent.parent / "docs/explanation"
PAGE = (EXPLANATION / "laws.md").read_text(encoding="utf-8")


def cell(ratio: float, kills: int = 0) -> Cell:
    return Cell(ratio=ratio, kills=kills, refusals=0.0, reversals=None, reached=None)


@pytest.mark.parametrize(
    ("ours", "other", "words"),
    [
        (cell(0.95), cell(0.99), ""),
        (cell(0.69), cell(0.5), "under 0.7"),
        (cell(0.9, kills=1), cell(0.5), "kills"),
        (cell(0.8), cell(0.9), "AIMD is better"),
        (cell(0.8), cell(0.9, kills=2), ""),
        (cell(0.2, kills=1), cell(0.9), "kills, under 0.7, AIMD is better"),
    ],
)
def test_a_weak_row_says_so(ours: Cell, other: Cell, words: str) -> None:
    assert _laws.weakness({"AIMD": other, "Weir": ours}) == words


def test_a_section_is_made_anew_between_its_marks() -> None:
    page = "a\n<!-- made: x -->\nold\n<!-- end -->\nb\n<!-- made: y -->\n<!-- end -->\n"
    expected = page.replace("old", r"new \1").replace("y -->\n", "y -->\nalso\n")
    assert _laws.filled(page, {"x": r"new \1", "y": "also"}) == expected
    with pytest.raises(SystemExit, match="no marks for 'z'"):
        _laws.filled(page, {"z": ""})


@pytest.fixture(scope="module")
def play() -> Simulation:
    return simulate("bursts", Fixed(10))


def test_the_bars_are_told_of_each_law(play: Simulation) -> None:
    plays = {(f"drawn-{i}", law): [play] for i in range(3) for law in _laws.LAWS}
    table = _laws.drawn_table(plays)
    assert table.startswith("| 3 drawn scenarios |")
    assert "| under 0.50 (1 of 60) | 0 of 3 |" in table


def test_the_largest_moves_are_told_in_order(play: Simulation) -> None:
    moves = [Change(t, old, new, f"why {t}") for t, old, new in ((1, 8, 9), (2, 9, 90))]
    told = _laws.moves(attrs.evolve(play, changes=tuple(moves)), most=1)
    assert told == "- 2 s, 9 to 90: why 2"


def test_every_scenario_with_a_name_has_its_row() -> None:
    section = re.search(r"<!-- made: named -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert section
    rows = re.findall(r"^\| `([\w-]+)` \|", section[1], re.MULTILINE)
    assert rows == list(SCENARIOS)


@pytest.mark.slow
def test_every_reason_of_the_default_law_is_explained() -> None:
    page = (EXPLANATION / "controller.md").read_text(encoding="utf-8")
    section = page.partition("## What a reason means")[2].partition("\n## ")[0]
    examples = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    begins = re.compile("|".join(map(begin_of, examples)))
    plays = [simulate(name, Weir(), 0, oracle=False) for name in SCENARIOS]
    reasons = {change.reason for play in plays for change in play.changes}
    assert len(examples) > 10
    assert not [reason for reason in reasons if not begins.match(reason)]


def begin_of(example: str) -> str:
    """Return a pattern of what begins as an example does, with any figures, or cores unknown."""
    words = re.split(r": \d+ -> |, \.\.\.| of \d+ cores", example)[0]
    return re.sub(r"\d+(\\\.\d+)?", r"[\\d.]+(e[+-]?\\d+)?", re.escape(words))


def test_every_section_is_filled() -> None:
    sections = re.findall(r"<!-- made: (\w+) -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert [name for name, _ in sections] == ["named", "drawn", "plots"]
    assert all(text.strip() for _, text in sections)
