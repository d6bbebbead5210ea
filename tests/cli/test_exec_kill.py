"""Whatever kills `anabranch exec`, its journal is whole, nothing lives on, and resume goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from anabranch.observe import Journal
from tests.cli.shell import PROGRAM, environment, until_heard

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_clock,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals"),
]
both_loops = pytest.mark.parametrize("loop", ["trio", "asyncio"])
both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
GRACE = 3.0
JOBS = 800
KILLS = 25


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    """Start `exec` as a terminal does, in a group of its own."""
    return subprocess.Popen(
        [*PROGRAM, "exec", *args],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def recorded(folder: Path, kind: str) -> list[str]:
    """List the numbers of the jobs that are recorded as done."""
    if kind == "journal":
        with Journal(folder / "record") as journal:
            return [entry.key for entry in journal.entries() if entry.done]
    if not (folder / "record").exists():
        return []
    lines = (folder / "record").read_text().split("\n")[1:]
    return [line.split("\t")[0] for line in lines if line.count("\t") == 8]


def wait_for(what: Path, seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not what.exists():
        assert time.monotonic() < give_up, f"{what} never came"
        time.sleep(0.01)


def wait_for_more(file: Path, seconds: float = 20) -> None:
    before, give_up = file.stat().st_size, time.monotonic() + seconds
    while file.stat().st_size == before:
        assert time.monotonic() < give_up, f"{file} did not grow"
        time.sleep(0.005)


def alive(mark: str) -> list[str]:
    """List the processes whose arguments hold `mark`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if mark in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


def gone(mark: str, seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while alive(mark):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(  # a hundred moments for the journal
    ("kind", "seed"), [*(("journal", seed) for seed in range(4)), ("joblog", 4)]
)
def test_after_kills_at_drawn_moments_every_job_is_recorded_once_and_none_done_ran_again(
    tmp_path: Path, kind: str, seed: int
) -> None:
    draw = random.Random(seed)
    (tmp_path / "todo").write_text("".join(f"{n}\n" for n in range(1, JOBS + 1)))
    job = ["-c", 'sleep 0.03; echo "$1" >> ran', "sh"]
    flags = [f"--{kind}", "record", "--resume", "--loop"]
    (tmp_path / "ran").touch()
    done: set[str] = set()
    midway = 0
    for _ in range(KILLS):
        ran = Counter((tmp_path / "ran").read_text().split())
        args = ["-j4", *flags, draw.choice(["trio", "asyncio"]), "sh", *job, "{}", "::::", "todo"]
        with start(tmp_path, *args) as run:
            if draw.random() < 0.8:  # else at a moment when perhaps nothing has begun
                wait_for_more(tmp_path / "ran")
            time.sleep(draw.uniform(0, 0.4))
            run.kill()
            said = run.communicate()[1]
            assert run.returncode == -signal.SIGKILL, said
        now = recorded(tmp_path, kind)
        assert len(now) == len(set(now)), "a job was recorded twice"
        assert done <= set(now), "a record was lost"
        again = Counter((tmp_path / "ran").read_text().split())
        assert [key for key in done if again[key] != ran[key]] == [], "ran again, and was done"
        midway += len(set(now)) > len(done)
        done = set(now)
    assert midway > KILLS / 4, "the moments were hardly ever within the run"
    with start(tmp_path, "-j16", *flags, "trio", "sh", *job, "{}", "::::", "todo") as run:
        _, said = run.communicate(timeout=120)
        assert (run.returncode, said) == (0, "")
    assert sorted(map(int, recorded(tmp_path, kind))) == list(range(1, JOBS + 1))
    assert set((tmp_path / "ran").read_text().split()) >= {str(n) for n in range(1, JOBS + 1)}


def test_nothing_lives_on_when_the_program_is_killed(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}-kill"
    script = f'touch here; sh -c "sh -c \\"sleep 3600; : {mark}\\"; :"; : {mark}'
    with start(tmp_path, "-j2", "sh", "-c", script, "{}", ":::", "1", "2") as run:
        wait_for(tmp_path / "here")
        run.kill()
        assert gone(mark, 15), alive(mark)


@both_signals
@both_loops
def test_a_signal_ends_it_in_time_with_one_line_and_a_whole_journal(
    tmp_path: Path, number: signal.Signals, loop: str
) -> None:
    mark = f"mark-{os.getpid()}-{loop}-{number}"
    script = f'test "$1" = 1 && exit; sleep 0.5; touch here; sleep 3600; : {mark}'
    args = ["--journal", "record", "--loop", loop, "-j2", "sh", "-c", script, "sh"]
    with start(tmp_path, *args, ":::", "1", "2", "3", "4") as run:
        wait_for(tmp_path / "here")
        began = time.monotonic()
        run.send_signal(number)
        out, said = run.communicate(timeout=60)
        took = time.monotonic() - began
    words = "interrupted by Ctrl-C" if number == signal.SIGINT else "ended by SIGTERM"
    assert (run.returncode, out, said) == (128 + number, "", f"anabranch: {words}\n")
    assert took < GRACE
    assert alive(mark) == []
    assert recorded(tmp_path, "journal") == ["1"]


@both_signals
@both_loops
def test_what_had_ended_and_waited_for_its_turn_is_printed_after_a_signal(
    tmp_path: Path, number: signal.Signals, loop: str
) -> None:
    script = 'echo "$0"; test "$0" = 1 && sleep 3600; test "$0" = 3 && touch here; :'
    args = ["-k", "-j3", "--journal", "record", "--loop", loop, "sh", "-c", script]
    with start(tmp_path, *args, ":::", "1", "2", "3") as run:
        wait_for(tmp_path / "here")
        time.sleep(1.5)  # nothing tells from outside that the end of a job was heard
        run.send_signal(number)
        out, _ = run.communicate(timeout=60)
    assert (run.returncode, out) == (128 + number, "2\n3\n")
    assert sorted(recorded(tmp_path, "journal")) == ["2", "3"]


@both_loops
def test_what_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path, loop: str) -> None:
    mark = f"mark-{os.getpid()}-{loop}-mule"
    script = f"trap '' TERM; touch here; while :; do sleep 0.1; done; : {mark}"
    with start(tmp_path, "--loop", loop, "sh", "-c", script, "sh", ":::", "1") as run:
        wait_for(tmp_path / "here")
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
        took = time.monotonic() - began
    assert (run.returncode, said) == (130, "anabranch: interrupted by Ctrl-C\n")
    assert GRACE <= took < GRACE + 20
    assert alive(mark) == []


@both_loops
def test_a_second_signal_means_at_once(tmp_path: Path, loop: str) -> None:
    mark = f"mark-{os.getpid()}-{loop}-twice"
    script = f"trap '' TERM; touch here; while :; do sleep 0.1; done; : {mark}"
    with start(tmp_path, "--loop", loop, "sh", "-c", script, "sh", ":::", "1") as run:
        wait_for(tmp_path / "here")
        run.send_signal(signal.SIGINT)
        until_heard(run.pid, signal.SIGINT)
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
        took = time.monotonic() - began
    assert run.returncode == 130
    assert said == "anabranch: interrupted by Ctrl-C, and again: ended at once\n"
    assert took < GRACE
    assert gone(mark, 15), alive(mark)


@both_loops
def test_a_signal_ends_a_run_that_waits_for_its_input(tmp_path: Path, loop: str) -> None:
    with subprocess.Popen(
        [*PROGRAM, "exec", "--loop", loop, "touch", "{}"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdin is not None
        assert run.stderr is not None
        run.stdin.write("here\n")
        run.stdin.flush()
        wait_for(tmp_path / "here")  # a line runs as soon as it has come
        run.send_signal(signal.SIGINT)
        assert run.wait(timeout=60) == 130
        assert run.stderr.read() == "anabranch: interrupted by Ctrl-C\n"
