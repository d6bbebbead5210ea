"""The measure of branches counts what it says, and fails below what it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import _coverage
from scripts._coverage import Seen, main

TOLD = {
    "summary": {
        "num_statements": 10,
        "missing_lines": 2,
        "num_branches": 8,
        "missing_branches": 2,
    },
    "missing_lines": [3, 4],
    "missing_branches": [[2, 3], [7, -1]],
}


def test_a_row_names_the_lines_and_the_branches_that_no_test_takes():
    seen = _coverage.seen_of(Path("src/anabranch/lanes/_room.py"), TOLD)
    assert seen == Seen("lanes/_room.py", 10, 2, 8, 2, "3 4 2->3 7->end")
    assert seen.percent == 75
    assert "3 4 2->3 7->end" in _coverage.told([seen], lines=True)
    assert "3 4 2->3 7->end" not in _coverage.told([seen], lines=False)


def test_branches_are_added_up_and_not_their_percentages():
    rows = [Seen("a", 10, 0, 2, 2), Seen("b", 10, 0, 98, 0), Seen("c", 4, 1, 0, 0)]
    assert [row.percent for row in rows] == [0, 100, 75]
    assert _coverage.total(rows).percent == 98


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(_coverage, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


def test_without_a_run_there_is_nothing_to_tell(kept):
    with pytest.raises(SystemExit, match="nothing was measured yet"):
        main(["--report"])
    with pytest.raises(SystemExit, match="2"):
        main(["--report", "-k", "glob"])


@pytest.mark.slow
def test_a_run_of_one_file_measures_the_lower_floors_alone_and_processes_too(kept, capsys):
    chosen = ["--all", "-q", "-p", "no:cacheprovider", "tests/lanes/test_process.py", "-k"]
    assert main([*chosen, "another_process or traceback", "--least", "99"]) == 1
    said = capsys.readouterr().out
    assert "below 99 %" in said
    names = [line.split()[0] for line in said.splitlines() if ".py " in line]
    assert "lanes/_child.py" in names
    assert not [name for name in names if name.startswith(("cli", "testing", "observe"))]
    rows = {row.name: row for row in _coverage.read()}
    assert rows["lanes/_child.py"].missed_lines < rows["lanes/_child.py"].lines / 2
    assert main(["--report", "--least", "1"]) == 0
