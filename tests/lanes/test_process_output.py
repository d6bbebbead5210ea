"""What a worker process prints, logs and warns of arrives here, labelled, however it ends."""

import logging
from types import SimpleNamespace

import anyio
import pytest

from anabranch import Pipeline, Step, open_scheduler
from anabranch.errors import LaneError
from anabranch.lanes import _echo
from anabranch.lanes._echo import LONGEST, Echo
from anabranch.lanes._process import CPU_LANE
from tests.branches import read, submit
from tests.lanes import calls

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]


async def run(fn, *args, label="branch"):
    return await CPU_LANE.labelled(label).run(fn, args, {})


async def until(there):
    with anyio.fail_after(10):
        while not there():
            await anyio.sleep(0.01)


@pytest.fixture
def lines(monkeypatch):
    """Keep what is written to either stream, as it comes."""
    found = []

    class Stream:
        encoding = "utf-8"

        def write(self, text):
            found.extend(text.splitlines())

        def flush(self):
            pass

    # Not in sys itself: there pytest puts its own between the fixtures and the test.
    monkeypatch.setattr(_echo, "sys", SimpleNamespace(stdout=Stream(), stderr=Stream()))
    return found


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_prints_arrive_while_the_call_runs_and_also_when_it_is_killed(
    lines, tmp_path, stream
):
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "printer", calls.prints_and_waits, tmp_path / "p", stream, lane="cpu")
        await until(lambda: "[printer] before the end" in lines)
        scheduler.cancel("*")
        found = await read(scheduler)
    assert found["printer"].status == "cancelled"
    assert lines.count("[printer] before the end") == 1


async def test_prints_are_labelled_by_the_branch_of_a_pipeline(lines):
    step = Step("shell", lambda _: None)
    step = Step.parallel("s", {"a": Step("a", calls.add, lane="cpu"), "b": step})
    assert (await Pipeline([step]).run(1)).success
    step = Step("p", prints, lane="cpu")
    await Pipeline([Step.parallel("s", {"a": step, "b": step})]).run("words")
    assert sorted(lines) == ["[a] words", "[b] words"]


def prints(text):
    print(text)


async def test_a_line_without_an_end_and_lines_of_programs_arrive_before_the_result(lines):
    await run(calls.prints_without_end)
    assert sorted(lines) == ["[branch] no end", "[branch] nor here"]
    await run(calls.writes_with_a_child, label="shell")
    assert lines[-1] == "[shell] from a shell"


async def test_warnings_arrive(lines):
    await run(calls.warns)
    assert any("UserWarning: watch out" in line for line in lines)


async def test_records_arrive_with_their_level_name_and_traceback(caplog, lines):
    with caplog.at_level(logging.INFO):
        assert await run(calls.logs) == "logged"
    words = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert words[0] == ("lane.calls", "WARNING", "[branch] record 0")
    assert words[1][2].startswith("[branch] it went wrong\nTraceback")
    assert {record.branch for record in caplog.records} == {"branch"}
    assert len(words) == 2
    assert any("not all arguments converted" in line for line in lines)


async def test_levels_follow_the_parent_call_by_call(caplog, lines):
    logger = logging.getLogger("lane.calls")
    counts = []
    for level in (logging.DEBUG, logging.ERROR, logging.NOTSET):
        logger.setLevel(level)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            caplog.handler.setLevel(logging.NOTSET)
            await run(calls.logs)
        counts.append(len(caplog.records))
    assert counts == [3, 1, 2]


async def test_many_records_of_many_threads_at_debug_hold_nobody_up(caplog, lines):
    with caplog.at_level(logging.DEBUG):
        with anyio.fail_after(20):
            assert await run(calls.logs_from_threads, 500) == "logged"
    assert sum("record" in record.getMessage() for record in caplog.records) == 2000


async def test_records_of_a_call_that_is_killed_arrive(caplog, lines):
    with caplog.at_level(logging.INFO), pytest.raises(LaneError, match="SIGKILL"):
        await run(logs_and_dies)
    assert "[branch] record 0" in [record.getMessage() for record in caplog.records]


def logs_and_dies():
    calls.logs()
    calls.kills_itself()


async def test_stdin_of_a_process_is_empty():
    assert await run(calls.reads_stdin) == ""


async def test_a_label_cannot_steer_a_terminal(lines):
    await run(prints, "words", label="a\x1b[2J\nb")
    assert lines == ["[a\\x1b[2J\\nb] words"]


@pytest.mark.parametrize("broken", [ValueError("closed"), OSError("gone")])
async def test_a_stream_that_fails_costs_no_result(monkeypatch, broken):
    class Broken:
        def write(self, text):
            raise broken

    monkeypatch.setattr(_echo, "sys", SimpleNamespace(stdout=Broken()))
    await run(prints, "lost")
    monkeypatch.setattr(_echo, "sys", SimpleNamespace(stdout=None))
    await run(prints, "lost")


async def test_a_line_that_never_ends_is_cut(lines):
    echo = Echo("stdout")
    for _ in range(3):
        echo.feed(b"x" * LONGEST, "a")
    echo.end("a")
    assert [len(line) for line in lines] == [2 * LONGEST + 4, LONGEST + 4]
