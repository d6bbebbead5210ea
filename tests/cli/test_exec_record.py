"""What an earlier run of exec has recorded is asked for job by job, however much it is."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anabranch.cli._exec_input import Reading, Rows
from anabranch.cli._exec_record import left, opened
from anabranch.cli._exec_template import Template
from anabranch.cli._exec_terms import Terms
from anabranch.cli._load import WrongUsageError
from anabranch.observe import Journal
from anabranch.observe import _database as database

JOBS = 50_000
FAILS = 1_000  # every such job has failed


def recorded(path: Path, *, count: int, **detail: Any) -> None:
    """Write a journal as a run of exec does, in another order than that of the input."""
    connection = database.connect(path, fsync=False)
    rows = []
    for seq in range(count, 0, -1):
        status = "succeeded" if seq % FAILS else "failed"
        kept = json.dumps({"command": f"true {seq}", **detail})
        rows.append((str(seq), status, "", "", 1, 0.0, 0.01, 1.0, kept))
    assert database.write(connection, rows) is None
    database.close(connection)


def todo(path: Path, count: int) -> closing[Rows]:
    path.write_text("".join(f"{seq}\n" for seq in range(1, count + 1)))
    return closing(Rows([["::::", str(path)]], Reading()))


@pytest.mark.slow
def test_a_long_record_is_compared_in_constant_memory(tmp_path: Path) -> None:
    recorded(tmp_path / "journal", count=JOBS)
    terms = Terms(journal=str(tmp_path / "journal"), resume=True)
    with todo(tmp_path / "todo", JOBS + 5) as rows:
        tracemalloc.start()
        with opened(terms) as past:
            pieces = left(rows, Template(["true"], by_shell=False), past, failed=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert rows.next() == (str(JOBS + 1),)
    assert past.last == JOBS
    assert [seq for seq, _ in pieces] == list(range(FAILS, JOBS + 1, FAILS))
    assert peak < 4_000_000, "80 bytes for each job that was recorded"


@pytest.mark.parametrize(("key", "detail"), [("step/a", '{"command": "true"}'), ("1", "{}")])
def test_a_journal_of_something_else_is_refused(tmp_path: Path, key: str, detail: str) -> None:
    path = tmp_path / "journal"
    connection = database.connect(path, fsync=False)
    database.write(connection, [(key, "succeeded", "", "", 1, 0.0, 0.0, 1.0, detail)])
    database.close(connection)
    with (
        pytest.raises(WrongUsageError, match="no job of anabranch exec"),
        opened(Terms(journal=str(path), resume=True)) as past,
        todo(tmp_path / "todo", 1) as rows,
    ):
        left(rows, Template(["true"], by_shell=False), past, failed=False)


def test_the_keys_of_what_is_done_can_be_asked_for(tmp_path: Path) -> None:
    recorded(tmp_path / "journal", count=FAILS)
    with Journal(tmp_path / "journal") as journal:
        assert len(set(journal.done())) == FAILS
        assert set(journal.done()) - set(journal.done(failed=False)) == {str(FAILS)}
