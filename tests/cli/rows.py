"""Run `anabranch exec` in this process, and keep which row of the how-to each test is about."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from anabranch.cli import main

PAGE = Path(__file__).parents[2] / "docs/how-to/from-gnu-parallel.md"
TESTED: dict[str, str] = {}  # a row's first cell to the name of its test


@attrs.frozen
class Said:
    """What a run has printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Exec:
    """Run the program with the flags that it is given."""

    def __init__(self, capfd: Any) -> None:
        self._capfd = capfd

    def __call__(self, *words: str) -> Said:
        code = main(["exec", *words])
        captured = self._capfd.readouterr()
        return Said(code, captured.out, captured.err)


def row(cell: str) -> Callable[[Any], Any]:
    """Say which row a test is of."""

    def note(test: Any) -> Any:
        assert cell not in TESTED, f"{cell} has a test: {TESTED[cell]}"
        TESTED[cell] = test.__name__
        return test

    return note


def rows() -> list[tuple[str, str]]:
    """List the rows of the how-to: the first cell, and the second."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    found = [(each[1].strip(), each[2].strip()) for each in cells]
    return [each for each in found if each[0] != "GNU parallel"]
