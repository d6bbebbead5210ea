"""A batch with a journal is taken up where it ended: what is held as done does not run again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from anabranch import ConcurrentExecutor, ConfigurationError, JournalError, ResourceManager
from anabranch.observe import Journal
from tests.cli.shell import environment
from tests.executor.machine import Machine, scripts

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

NOTES = "import sys; open('ran', 'a').write(sys.argv[1] + '\\n'); "
BATCH = """
    import sys
    from pathlib import Path
    import anyio
    from anabranch import ConcurrentExecutor
    from anabranch.observe import Journal

    async def main():
        modules = [(f"m{n}", "note.py", [str(n)]) for n in range(120)]
        with Journal("journal") as journal:
            print("open", flush=True)
            results = await ConcurrentExecutor(4, journal=journal).execute_batch(modules)
        assert [each["module_id"] for each in results] == [f"m{n}" for n in range(120)]
        assert all(each["success"] for each in results), results
    anyio.run(main, backend=sys.argv[1])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    scripts(tmp_path)
    (tmp_path / "note.py").write_text(f"{NOTES}print('noted')")
    (tmp_path / "fails.py").write_text(f"{NOTES}sys.exit('no ' + sys.argv[1])")
    return tmp_path


def ran(folder: Path) -> list[str]:
    notes = folder / "ran"
    return sorted(notes.read_text().split()) if notes.exists() else []


async def batch(modules: list[Any], **options: Any) -> list[dict[str, Any]]:
    """Run a batch as a new program would: with a journal and an executor of its own."""
    with Journal("journal") as journal:
        return await ConcurrentExecutor(4, journal=journal, **options).execute_batch(modules)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_batch_that_was_killed_runs_nothing_again_that_it_has_recorded(
    folder: Path, loop: str
) -> None:
    done: set[str] = set()
    for patience in (0, 0.1, 0.15, 0.1, None):
        before = Counter(ran(folder))
        with subprocess.Popen(
            [sys.executable, "-c", BATCH.replace("\n    ", "\n"), loop],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "open\n"
            if patience is None:
                assert run.wait(60) == 0
            else:
                time.sleep(patience)
                run.kill()
                assert run.wait() == -signal.SIGKILL
        after = Counter(ran(folder))
        assert [key for key in done if after[key[1:]] != before[key[1:]]] == []
        with Journal(folder / "journal") as journal:
            keys = [entry.key for entry in journal.entries() if entry.done]
        assert len(keys) == len(set(keys))
        assert done <= set(keys)
        done = set(keys)
    assert done == {f"m{number}" for number in range(120)}


async def test_what_is_left_of_a_batch_runs_and_results_come_in_the_order_of_input(
    folder: Path,
) -> None:
    first = await batch([("b", "note.py", ["b"]), ("f", "fails.py", ["f"])])
    modules = [("a", "note.py", ["a"]), ("f", "fails.py", ["f"]), ("b", "note.py", ["b"])]
    results = await batch(modules)
    assert ran(folder) == ["a", "b", "f"]
    assert [each["module_id"] for each in results] == ["a", "f", "b"]
    assert [each["success"] for each in results] == [True, False, True]
    assert [each["stdout"] for each in results] == ["noted\n", "", ""]
    assert all(set(each) == set(first[0]) for each in results)
    assert results[1]["error"] == first[1]["error"] == "exit code 1: no f"
    assert results[2]["truncated"], "it has printed, and that is not told any more"
    assert (results[1]["exit_code"], results[1]["kind"]) == (1, "exit")
    assert results[2]["duration_s"] == first[0]["duration_s"]


async def test_another_command_under_a_recorded_id_is_refused_before_anything_starts(
    folder: Path,
) -> None:
    await batch([("a", "note.py", ["a"])])
    for module in [
        ("a", "note.py", ["other"]),
        ("a", "note.py"),
        ("a", "fails.py", ["a"]),
        ("a", "note.py", ["a"], folder),
        ("a", "note.py", "a b"),
    ]:
        with pytest.raises(ConfigurationError, match=r"'a' was recorded as 'note.py a', and is"):
            await batch([("new", "note.py", ["new"]), module])
    assert ran(folder) == ["a"]


async def test_what_failed_runs_again_when_asked(folder: Path) -> None:
    modules = [("a", "note.py", ["a"]), ("f", "fails.py", ["f"])]
    await batch(modules)
    await batch(modules, resume_failed=True)
    assert ran(folder) == ["a", "f", "f"]


async def test_what_never_began_or_was_stopped_is_left_to_do(folder: Path) -> None:
    full = ResourceManager(80, 0, sampler=Machine(folder, cpu=0.95))
    (rejected,) = await batch([("r", "note.py", ["r"])], resource_manager=full)
    assert rejected["kind"] == "resources"
    missing = [("m", "later.py", ["m"]), ("c", str(folder / "sleeps.py"))]
    with Journal("journal") as journal:
        executor = ConcurrentExecutor(journal=journal)
        async with anyio.create_task_group() as group:
            group.start_soon(executor.execute_batch, missing)
            await anyio.sleep(0.5)
            executor.cleanup()
    (folder / "later.py").write_text(f"{NOTES}")
    (folder / "sleeps.py").write_text(f"{NOTES}")
    results = await batch([("r", "note.py", ["r"]), missing[0], ("c", "note.py", ["c"])])
    assert [each["success"] for each in results] == [True, True, True]
    assert ran(folder) == ["c", "m", "r"]


async def test_an_id_that_comes_again_in_a_batch_is_taken_up_by_its_number(folder: Path) -> None:
    modules = [("a", "note.py", [str(number)]) for number in range(3)]
    await batch(modules[:2])
    await batch(modules)
    assert ran(folder) == ["0", "1", "2"]


async def test_a_timeout_is_done_and_keeps_its_words(folder: Path) -> None:
    module = [("late", folder / "sleeps.py", None, None, 0.3)]
    first = await batch(module)
    assert await batch(module) == first
    assert first[0]["error"] == "Module execution timed out after 0.3s"


async def test_what_is_no_text_is_known_again(folder: Path) -> None:
    modules = [
        (f"é\udcff{number}", "note.py", args)
        for number, args in enumerate([["é\udcff"], [b"\xff"], [Path("a b")], (x for x in "c")])
    ]
    (folder / "note.py").write_text("import os; open('ran', 'ab').write(b'x\\n')")
    assert all(each["success"] for each in await batch(modules))
    modules[-1] = (modules[-1][0], "note.py", (x for x in "c"))
    assert all(each["success"] for each in await batch(modules))
    assert len(ran(folder)) == 4


async def test_a_secret_is_neither_written_nor_in_the_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for secret in ("hunter2222", "hunter3333"):
        monkeypatch.setenv("MY_PASSWORD", secret)
        assert (await batch([("a", "note.py", [secret])]))[0]["success"]
        assert secret.encode() not in (folder / "journal").read_bytes()
    assert ran(folder) == ["hunter2222"]


async def test_a_journal_of_others_is_refused_where_an_id_is_theirs(folder: Path) -> None:
    from anabranch import Job, open_scheduler

    with Journal("journal") as journal:
        async with open_scheduler(1, recorder=journal) as scheduler:
            scheduler.submit(Job("a", anyio.sleep, (0,)))
            async for _ in scheduler.outcomes:
                pass
    with pytest.raises(ConfigurationError, match="holds 'a', and as no script"):
        await batch([("a", "note.py", ["a"])])
    assert (await batch([("b", "note.py", ["b"])]))[0]["success"]


async def test_a_journal_that_is_not_open_is_told_of(folder: Path) -> None:
    executor = ConcurrentExecutor(journal=Journal("journal"))
    with pytest.raises(JournalError, match="not open"):
        await executor.execute_batch([("a", "note.py", ["a"])])
    assert ran(folder) == []


async def test_what_describe_says_is_kept_beside(folder: Path) -> None:
    def described(outcome: Any) -> dict[str, Any]:
        return {"out": outcome.value.stdout.decode(), "module": "not this one"}

    for _ in range(2):
        with Journal("journal", describe=described) as journal:
            executor = ConcurrentExecutor(journal=journal)
            assert (await executor.execute_module("a", "note.py", ["a"]))["success"]
            entry = journal.find("a")
    assert entry is not None
    assert entry.detail["out"] == "noted\n"
    assert ran(folder) == ["a"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"resume_failed": 1}, "neither True nor False"), ({"resume_failed": True}, "give journal=")],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        ConcurrentExecutor(**options)
