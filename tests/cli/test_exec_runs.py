"""Rows of docs/how-to/from-gnu-parallel.md are true: how jobs run, how runs end, what is kept."""

from __future__ import annotations

import os
import sqlite3
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from anabranch.cli import _exec_gate, main
from anabranch.samplers._cores import cores
from tests.cli.rows import Exec, row

pytestmark = [pytest.mark.slow, pytest.mark.real_clock]

# Counts how many run at once: each job adds a file, counts them, and takes it away.
PEAK = "touch on.{#}; sleep 0.2; ls on.* | wc -l; rm on.{#}"


@pytest.fixture
def run(capfd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exec:
    monkeypatch.chdir(tmp_path)
    return Exec(capfd)


def peak(run: Exec, *flags: str, jobs: int = 8) -> int:
    """Return the most jobs that were seen at once."""
    said = run(*flags, "--shell", PEAK, ":::", *map(str, range(jobs)))
    assert said.code == 0, said.err
    return max(map(int, said.lines))


@row("`-j N`")
def test_so_many_run_at_once(run: Exec) -> None:
    assert peak(run, "-j3") == 3
    assert peak(run, "--jobs=1", jobs=3) == 1
    assert peak(run, "-j", "auto", jobs=3) <= 10
    assert run("-j", "x", "echo", ":::", "a").code == 2
    assert run("-j", "1.5", "echo", ":::", "a").code == 2


@row("`-j N%`")
def test_a_share_of_the_cores(run: Exec) -> None:
    assert peak(run, "-j", "100%") == int(cores())
    assert peak(run, "-j", "1%", jobs=3) == 1


@row("`-j +N`, `-j -N`")
def test_beside_the_cores(run: Exec) -> None:
    assert peak(run, "-j+1") == int(cores()) + 1
    assert peak(run, "-j", "-1000", jobs=3) == 1


@row("`-j 0`")
def test_all_at_once(run: Exec) -> None:
    assert peak(run, "-j0", jobs=15) == 15


@row("`-P`, `--max-procs`")
def test_other_names_of_jobs(run: Exec) -> None:
    assert peak(run, "-P2", jobs=5) == 2
    assert peak(run, "--max-procs", "2", jobs=5) == 2


@row("`--load`")
def test_nothing_starts_while_too_much_wants_a_cpu(
    run: Exec, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    def busy_at_first() -> float:
        calls.append(time.monotonic())
        return 9.0 if len(calls) < 3 else 0.0

    monkeypatch.setattr(_exec_gate, "wanting", busy_at_first)
    assert run("--load", "4", "echo", ":::", "a").lines == ["a"]
    assert len(calls) == 3
    calls[:] = [0.0] * 3
    # What has just been started is not seen yet, and counts all the same: no herd passes.
    assert peak(run, "-j0", "--load", "2", jobs=9) <= 6
    assert run("--load", "0", "echo", ":::", "a").code == 2


def test_the_load_is_read_from_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "loadavg"
    file.write_text("0.52 0.58 0.59 5/389 12345\n")
    assert _exec_gate.wanting(file) == 4
    assert _exec_gate.wanting(tmp_path / "none") == os.getloadavg()[0]


@row("`--memfree`")
def test_nothing_starts_while_memory_is_short(run: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([1e9, 1e9, 3e9, 3e9])
    monkeypatch.setattr(_exec_gate, "free_memory", lambda: next(free))
    assert run("-k", "--memfree", "2G", "echo", ":::", "a", "b").lines == ["a", "b"]
    assert list(free) == []
    assert run("--memfree", "2X", "echo", ":::", "a").code == 2


@row("`--delay`")
def test_starts_are_apart(run: Exec) -> None:
    said = run("-j0", "-k", "--delay", "0.3", "date", "+%s%N", "-d", "now {}", ":::", "", "", "")
    times = [int(line) / 1e9 for line in said.lines]
    assert all(later - earlier > 0.2 for earlier, later in pairwise(times))


@row("`--timeout N`")
def test_a_job_that_takes_too_long_is_ended(run: Exec) -> None:
    said = run("--timeout", "0.5", "--shell", "echo {}; sleep {}", ":::", "0", "60")
    assert (said.code, sorted(said.lines)) == (1, ["0", "60"])
    assert "job 2: timed out after 0.5" in said.err
    assert run("--timeout", "0.1m", "sleep", "{}", ":::", "0").code == 0
    assert run("--timeout", "-1", "sleep", ":::", "0").code == 2


@row("`--timeout N%`")
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_job_that_takes_longer_than_others_is_ended(run: Exec, loop: str) -> None:
    args = ["0.1", "0.1", "0.1", "60", "0.1"]
    said = run("--loop", loop, "-j5", "--timeout", "500%", "sleep", ":::", *args)
    assert said.code == 1
    assert "job 4: timed out after" in said.err
    assert "(--timeout 500% of the median)" in said.err


@row("`--retries`")
def test_a_job_that_fails_is_tried_again(run: Exec) -> None:
    script = "echo {} >> tries; echo $(wc -l < tries); test $(wc -l < tries) = 3"
    assert (run("--retries", "5", "--shell", script, ":::", "a").lines) == ["3"]
    Path("tries").unlink()
    said = run("--retries", "2", "--shell", script, ":::", "a")
    assert (said.code, said.lines) == (1, ["2"])
    assert run("--retries", "0", "true", ":::", "a").code == 2


@row("`--halt now,fail=1`")
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_failure_ends_what_runs(run: Exec, loop: str) -> None:
    began = time.monotonic()
    flags = ["-j2", "--loop", loop, "--halt", "now,fail=1", "--shell"]
    said = run(*flags, "test {} = 60 || sleep 0.3; sleep {}; exit 7", ":::", "60", "0", "0")
    assert (said.code, said.lines) == (1, [])
    assert time.monotonic() - began < 20
    assert run("--halt", "at once", "true", ":::", "a").code == 2


@row("`--halt soon,fail=N`")
def test_failures_start_no_more_and_what_runs_ends(run: Exec) -> None:
    script = "test {} = slow && sleep 1 && echo ended; test {} = good || exit 1"
    said = run(
        "-j2", "--halt", "soon,fail=2", "--shell", script, ":::", "slow", *"ab", *["good"] * 9
    )
    assert said.lines == ["ended"]
    assert 2 <= said.code <= 3


@row("`--halt now,success=1`")
def test_the_first_success_is_enough(run: Exec) -> None:
    said = run("-j1", "--halt", "now,success=1", "sh", "-c", "exit $0", ":::", "3", "0", "3")
    assert said.code == 0


@row("`--halt soon,done=N`")
def test_a_number_of_jobs_is_enough(run: Exec) -> None:
    said = run(
        "-j1", "-k", "--halt", "soon,done=3", "sh", "-c", "echo $0; exit $0", ":::", *"01000"
    )
    assert (said.code, said.lines) == (1, ["0", "1", "0"])


@row("`--halt soon,done=N%`")
def test_a_share_of_all_jobs_is_enough(run: Exec) -> None:
    Path("in").write_text("0\n1\n0\n0\n0\n0\n0\n0\n")
    said = run("-j1", "-k", "--halt", "soon,done=50%", "sh", "-c", "echo $0; exit $0", "::::", "in")
    assert (said.code, said.lines) == (1, ["0", "1", "0", "0"])


@row("`--halt-on-error`")
def test_the_old_words_for_halt(run: Exec) -> None:
    for word, ran in {"0": 3, "never": 3, "1": 1, "2": 1}.items():
        said = run("-j1", "--halt-on-error", word, "sh", "-c", "echo $0; exit 1", ":::", *"abc")
        assert len(said.lines) == ran


@row("`--shell`")
def test_a_shell_reads_the_command_only_if_it_is_asked_for(run: Exec) -> None:
    evil = [
        "$(touch pwned)",
        "`touch pwned`",
        "'; touch pwned; '",
        '"; touch pwned; "',
        "a\nb",
        "-n",
    ]
    said = run("-k", "printf", "%s|", "{}", "x{}", ":::", *evil)
    assert said.out == "\n".join(f"{arg}|x{arg}|" for arg in evil)
    forms = """printf '%s|' {} "{}" '{}' x{}y "$(printf %s {})" "$(printf %s "{}")" """
    said = run("-k", "--shell", forms, ":::", *evil)
    expected = [f"{arg}|{arg}|{arg}|x{arg}y|{arg}|{arg}|" for arg in evil]
    assert said.out == "\n".join(expected)
    for form in ("`echo {}`", '"`echo {}`"', "$(echo '{}')", "\\{}", "# {}"):
        run("--shell", f"echo {form}", ":::", *evil)
    assert not Path("pwned").exists()
    refused = run("echo {} | wc", ":::", "a")
    assert (refused.code, refused.out) == (2, "")
    assert "give --shell" in refused.err


@row("exit code")
def test_the_exit_code_is_the_number_of_failed_jobs(run: Exec) -> None:
    said = run("-k", "sh", "-c", "exit $0", ":::", "0", "1", "2", "0", "255")
    assert said.code == 3
    assert run("-j20", "false", ":::", *map(str, range(100))).code == 100
    assert run("-j20", "false", ":::", *map(str, range(102))).code == 101
    assert run("--nosuch", "true", ":::", "a").code == 2
    assert run("sh", "-c", "kill -9 $$", ":::", "a").code == 1


# Records -------------------------------------------------------------------------------------


@row("`--joblog`")
def test_a_log_of_jobs(run: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hush-hush")
    said = run("-j1", "--joblog", "log", "sh", "-c", "echo; exit $0", ":::", "0", "3", "hush-hush")
    assert said.code == 2
    header, *lines = [line.split("\t") for line in Path("log").read_text().splitlines()]
    names = "Seq Host Starttime JobRuntime Send Receive Exitval Signal Command"
    assert header == names.split()
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert [line[1] for line in lines] == [":"] * 3
    assert abs(float(lines[0][2]) - time.time()) < 60
    assert [line[5] for line in lines] == ["1", "1", "1"]
    assert [line[6] for line in lines] == ["0", "3", "2"]
    assert lines[1][8] == "sh -c 'echo; exit $0' 3"
    assert lines[2][8].endswith(" '$MY_TOKEN'") or lines[2][8].endswith(" $MY_TOKEN")
    run("--jl", "log", "--timeout", "0.2", "sleep", ":::", "9")
    assert Path("log").read_text().splitlines()[1].split("\t")[6:8] == ["-1", "15"]
    assert run("--joblog", "nowhere/log", "true", ":::", "a").code == 2


@row("`--resume`")
@pytest.mark.parametrize("record", ["--journal", "--joblog"])
def test_what_is_recorded_as_done_is_left_out(run: Exec, record: str) -> None:
    command = ["sh", "-c", "echo $0; exit $0", ":::"]
    first = run("-j1", "-k", record, "kept", "--halt", "soon,done=2", *command, "0", "1", "0", "3")
    assert first.lines == ["0", "1"]
    resumed = run("-k", record, "kept", "--resume", *command, "0", "1", "0", "3")
    assert (resumed.lines, resumed.code) == (["0", "3"], 1)
    assert run("-k", record, "kept", "--resume", *command, "0", "1", "0", "3").lines == []
    other = run(record, "kept", "--resume", *command, "0", "2", "0", "3")
    assert (other.code, other.out) == (2, "")
    assert "job 2 was recorded as" in other.err
    shorter = run(record, "kept", "--resume", *command, "0", "1")
    assert (shorter.code, shorter.out) == (2, "")
    longer = run("-k", record, "kept", "--resume", *command, "0", "1", "0", "3", "4")
    assert longer.lines == ["4"]
    assert run("--resume", *command, "0").code == 2


@row("`--resume-failed`")
@pytest.mark.parametrize("record", ["--journal", "--joblog"])
def test_what_has_failed_runs_again(run: Exec, record: str) -> None:
    command = ["sh", "-c", "echo $0; test $0 = good || test -e ok", ":::", "good", "bad", "worse"]
    assert run("-k", record, "kept", *command).code == 2
    Path("ok").touch()
    again = run("-k", record, "kept", "--resume-failed", *command)
    assert (again.code, again.lines) == (0, ["bad", "worse"])
    assert run(record, "kept", "--resume-failed", *command).lines == []


@row("`--journal`")
def test_a_journal_keeps_what_is_done(run: Exec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hush-hush")
    assert run("--journal", "j", "echo", ":::", "a", "hush-hush").code == 0
    with sqlite3.connect("j") as connection:
        rows = connection.execute("SELECT key, status FROM outcomes ORDER BY key").fetchall()
    connection.close()
    assert rows == [("1", "succeeded"), ("2", "succeeded")]
    assert not any(b"hush" in file.read_bytes() for file in Path().iterdir())
    fresh = run("--journal", "j", "echo", ":::", "a", "hush-hush")
    assert (fresh.code, fresh.out) == (2, "")
    assert "has the jobs of an earlier run" in fresh.err
    Path("text").write_text("no database " * 100)
    assert "no SQLite database" in run("--journal", "text", "true", ":::", "a").err


@row("`--fsync`")
def test_records_may_be_forced_to_the_disk(run: Exec) -> None:
    assert run("--fsync", "--journal", "j", "--joblog", "l", "true", ":::", *"abc").code == 0
    assert len(Path("l").read_text().splitlines()) == 4
    assert run("--fsync", "true", ":::", "a").code == 2


@row("`--journal-failure`")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_stops_the_run_or_is_reported(run: Exec) -> None:
    full = run("--joblog", "/dev/full", "echo", ":::", "a")
    assert (full.code, full.out) == (2, "")
    assert "No space left" in full.err
    assert run("--journal-failure", "perhaps", "true", ":::", "a").code == 2


@row("`--loop`")
def test_both_loops_are_offered(run: Exec) -> None:
    assert run("--loop", "asyncio", "echo", ":::", "a").lines == ["a"]
    assert run("--loop", "trio", "echo", ":::", "a").lines == ["a"]
    assert run("--loop", "uv", "echo", ":::", "a").code == 2


@row("Ctrl-C")
@row("SIGTERM")
def test_signals_are_tested_elsewhere() -> None:
    text = (Path(__file__).parent / "test_exec_kill.py").read_text()
    assert "def test_a_signal_ends_it_in_time_with_one_line_and_a_whole_journal" in text
    assert "def test_what_ignores_sigterm_is_killed_after_the_grace" in text
    assert "def test_a_second_signal_means_at_once" in text


def test_help_names_the_flags_and_the_exit_codes(capfd: Any) -> None:
    assert main(["exec", "--help"]) == 0
    said = capfd.readouterr().out
    assert all(word in said for word in ("--keep-order", "-k", "--journal", "101", "{/.}"))
