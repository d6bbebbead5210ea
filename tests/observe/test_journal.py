"""A journal holds each outcome before anybody hears of it, and later runs take up what is left."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

from anabranch import ConfigurationError, Job, JournalError, Outcome, Status, open_scheduler
from anabranch._redact import Redaction
from anabranch.observe import Journal
from tests.branches import fails, read, sleep, statuses, submit
from tests.cli.shell import environment

pytestmark = [pytest.mark.real_clock]


def program(folder: Path, text: str, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Start a Python program in a folder."""
    return subprocess.Popen(
        [sys.executable, "-c", dedent(text), *args],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


HUNDRED = """
    import os, sys
    import anyio
    from anabranch import Job, open_scheduler
    from anabranch.observe import Journal

    ran = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async def work(n):
        os.write(ran, b"%d\\n" % n)
        await anyio.sleep(0.001)

    async def main():
        with Journal("journal") as journal:
            print("open", flush=True)
            async with open_scheduler(4, recorder=journal) as scheduler:
                scheduler.feed(journal.left(Job(str(n), work, (n,)) for n in range(2000)))
                async for outcome in scheduler.outcomes:
                    print(outcome.key, flush=True)
    anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_what_was_heard_of_is_in_the_journal_of_a_killed_run_and_never_runs_again(
    tmp_path: Path, loop: str
) -> None:
    heard: set[str] = set()
    for patience in (0, 3, 50, 400):
        with program(tmp_path, HUNDRED, loop) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "open\n"
            for _ in range(patience):
                heard.add(run.stdout.readline().strip())
            run.kill()
            heard |= set(run.stdout.read().split("\n")[:-1])
        ran = (tmp_path / "ran").read_text().split() if (tmp_path / "ran").exists() else []
        assert [key for key in heard if ran.count(key) > 1 + 4] == []
        with Journal(tmp_path / "journal") as journal:
            done = {entry.key for entry in journal.entries() if entry.done}
        assert heard <= done
    with program(tmp_path, HUNDRED, loop) as run:
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, err
    assert not heard & set(out.split())
    assert heard | set(out.split()[1:]) >= {str(number) for number in range(2000)} - done
    with Journal(tmp_path / "journal") as journal:
        assert sorted(int(entry.key) for entry in journal.entries()) == list(range(2000))


FULL = """
    import resource, sys
    import anyio
    from anabranch import Job, JournalError, open_scheduler
    from anabranch.observe import Journal

    async def main():
        with Journal("journal", describe=lambda outcome: {"ballast": "x" * 5000}) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            async with open_scheduler(2, recorder=journal, recorder_failure=sys.argv[2]) as s:
                s.feed(Job(str(n), anyio.sleep, (0.001,)) for n in range(100))
                async for outcome in s.outcomes:
                    print(outcome.key, outcome.status, flush=True)
    try:
        anyio.run(main, backend=sys.argv[1])
    except JournalError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize("wish", ["stop", "report"])
def test_a_full_disk_stops_the_run_or_is_reported_and_leaves_a_whole_journal(
    tmp_path: Path, loop: str, wish: str
) -> None:
    with program(tmp_path, FULL, loop, wish) as run:
        out, err = run.communicate(timeout=60)
    assert run.returncode == (3 if wish == "stop" else 0), err
    assert ("journal cannot be written" in err) == (wish == "stop")
    lines = [line.split() for line in out.splitlines()]
    succeeded = {key for key, status in lines if status == "succeeded"}
    assert (len(succeeded) == 100) == (wish == "report")
    with Journal(tmp_path / "journal") as journal:
        kept = [entry.key for entry in journal.entries()]
    assert 0 < len(kept) < 50
    assert set(kept) <= succeeded


async def test_two_runs_on_one_journal_are_one_too_many(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as first:
        with (
            pytest.raises(ConfigurationError, match="held by another run"),
            Journal(tmp_path / "journal"),
        ):
            pass
        await first.record(Outcome("a", Status.SUCCEEDED))
    with Journal(tmp_path / "journal") as second:
        assert second.find("a") is not None


@pytest.mark.slow
def test_another_process_cannot_open_a_journal_that_is_held_until_its_holder_is_killed(
    tmp_path: Path,
) -> None:
    text = """
        import time
        from anabranch.observe import Journal
        with Journal("journal"):
            print("open", flush=True)
            time.sleep(60)
    """
    with program(tmp_path, text) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with (
            pytest.raises(ConfigurationError, match="held by another run"),
            Journal(tmp_path / "journal"),
        ):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with Journal(tmp_path / "journal") as journal:
            assert list(journal.entries()) == []


async def test_a_resumed_run_runs_what_is_not_done(tmp_path: Path) -> None:
    def jobs() -> list[Job]:
        return [
            Job("good", sleep, (0.01,)),
            Job("bad", fails, (ValueError("bad"),)),
            Job("late", sleep, (9,), timeout=0.01),
            Job("stopped", sleep, (9,)),
        ]

    with Journal(tmp_path / "journal") as journal:
        async with open_scheduler(4, recorder=journal) as scheduler:
            scheduler.feed(jobs())
            await anyio.sleep(0.1)
            scheduler.cancel("stopped", reason="enough")
        entries = {entry.key: entry for entry in journal.entries()}
    assert {key: str(entry.status) for key, entry in entries.items()} == {
        "good": "succeeded",
        "bad": "failed",
        "late": "timed_out",
        "stopped": "cancelled",
    }
    assert entries["stopped"].reason == "enough"
    assert entries["bad"].error == "ValueError('bad')"
    assert entries["good"].ran_s >= 0.01
    with Journal(tmp_path / "journal") as journal:
        assert [job.key for job in journal.left(jobs())] == ["stopped"]
        assert [job.key for job in journal.left(jobs(), failed=True)] == ["bad", "late", "stopped"]


async def test_a_branch_that_is_recorded_again_has_one_entry(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        await journal.record(Outcome("a", Status.CANCELLED, reason="enough"))
        await journal.record(Outcome("b", Status.SUCCEEDED))
        await journal.record(Outcome("a", Status.SUCCEEDED, attempts=2))
        assert [(entry.key, entry.attempts) for entry in journal.entries()] == [("a", 2), ("b", 0)]


@pytest.mark.parametrize("fsync", [False, True])
async def test_many_are_recorded_side_by_side(tmp_path: Path, fsync: bool) -> None:
    with Journal(tmp_path / "journal", fsync=fsync) as journal:
        async with open_scheduler(50, recorder=journal) as scheduler:
            for number in range(300):
                submit(scheduler, str(number), sleep, 0)
            assert statuses(await read(scheduler)) == {"succeeded": 300}
        assert len(list(journal.entries())) == 300


async def test_odd_keys_reasons_and_errors_come_back_as_they_were(tmp_path: Path) -> None:
    class MuteError(Exception):
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    odd = "a\0b\udc80\n\x1b['\""
    with Journal(tmp_path / "journal", describe=lambda _: {"argv": [odd]}) as journal:
        await journal.record(Outcome(odd, Status.FAILED, error=MuteError(), reason=odd))
        entry = journal.find(odd)
    assert entry is not None
    assert (entry.key, entry.reason, entry.detail) == (odd, odd, {"argv": [odd]})
    assert "Mute" in entry.error


async def test_the_file_holds_no_secret_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "hush-hush-hush")
    monkeypatch.setenv("DB_PASSWORD", "hush-hush")
    monkeypatch.setenv("HOME_TOWN", "visible-town")
    words = ["curl", "hush-hush-hush", "--user=me:hush-hush", "visible-town"]
    with Journal(tmp_path / "journal", describe=lambda _: {"argv": words}) as journal:
        error = ValueError("hush-hush-hush was wrong")
        await journal.record(Outcome("a", Status.FAILED, error=error, reason="hush-hush"))
        entry = journal.find("a")
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"hush" not in held
    assert entry is not None
    assert entry.detail["argv"] == ["curl", "$MY_API_TOKEN", "--user=me:$DB_PASSWORD", words[3]]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", True),
        ("GITHUB_TOKEN", True),
        ("PGPASSWORD", True),
        ("SSH_PRIVATE", True),
        ("OPENAI_API_KEY", True),
        ("PWD", False),
        ("PATH", False),
        ("GIT_AUTHOR_NAME", False),
        ("KEYBOARD", False),
    ],
)
def test_a_variable_is_a_secret_by_its_name(name: str, secret: bool) -> None:
    assert (Redaction({name: "abcdefgh"}).text("xabcdefghx") == f"x${name}x") == secret


def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    text, other = tmp_path / "text", tmp_path / "other"
    text.write_text("no database, though it is long enough to have a header " * 40)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    before = {file: file.read_bytes() for file in (text, other)}
    for file, words in ((text, "no SQLite database"), (other, "no journal of anabranch")):
        with pytest.raises(ConfigurationError, match=words), Journal(file):
            pass
        assert file.read_bytes() == before[file]


def test_a_journal_of_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal"):
        pass
    with sqlite3.connect(tmp_path / "journal") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with (
        pytest.raises(ConfigurationError, match="of version 7, and this program writes 1"),
        Journal(tmp_path / "journal"),
    ):
        pass


@pytest.mark.parametrize("path", ["", "nowhere/journal", "bad\0name", "/dev/full"])
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigurationError), Journal(tmp_path / path):
        pass


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is no path"):
        Journal(7)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ConfigurationError, match="no option 'fsnc'"):
        Journal("a", fsnc=True)  # type: ignore[call-arg]  # that is the test


async def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(JournalError, match="not open"):
        await journal.record(Outcome("a", Status.SUCCEEDED))
    with journal:
        pass
    with pytest.raises(JournalError, match="closed"):
        await journal.record(Outcome("a", Status.SUCCEEDED))


def test_the_details_are_json(tmp_path: Path) -> None:
    async def main() -> None:
        with Journal(tmp_path / "journal", describe=lambda outcome: {"n": outcome.value}) as kept:
            await kept.record(Outcome("a", Status.SUCCEEDED, value=[1, {"b": None}]))

    anyio.run(main)
    with sqlite3.connect(tmp_path / "journal") as connection:
        rows = connection.execute("SELECT detail FROM outcomes").fetchall()
    connection.close()
    assert [json.loads(row[0]) for row in rows] == [{"n": [1, {"b": None}]}]
