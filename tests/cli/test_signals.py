"""Ctrl-C and SIGTERM end the program in time, and nothing of it lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cli.shell import PROGRAM, environment, until_heard, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_clock,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals"),
]
both_loops = pytest.mark.parametrize("loop", ["trio", "asyncio"])
both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
GRACE = 5.0
# What runs lasts an hour, and what does not end by itself is named after the grace: a bound on the
# rest is for a program that hangs at its end, and leaves a busy machine its time.
IN_TIME = 20.0

FLOW = """
    import subprocess, sys, time
    from pathlib import Path
    import anyio
    from anabranch import Step

    def here(): Path("here").touch()
    async def nap(_):
        here()
        try: await anyio.sleep(3600)
        finally: Path("cleaned").touch()
    def thread(_):
        here()
        time.sleep(3600)
    def process(_):
        here()
        while True: pass
    async def spin(_):
        here()
        while True: pass
    async def stubborn(_):
        here()
        with anyio.CancelScope(shield=True): await anyio.sleep(3600)
    async def slow_end(_):
        here()
        try: await anyio.sleep(3600)
        finally:
            with anyio.CancelScope(shield=True): await anyio.sleep(1)
            Path("cleaned").touch()
    def program(_):
        here()
        subprocess.run(["sleep", "3600"])
    def nothing(_): pass

    programs = Step.parallel("s", {"sleepy": program}, timeout=None)
    naps = Step.parallel("s", {"a": nap, "b": nap}, timeout=None)
    threads = Step.parallel("s", {"sleepy\\x1b": thread, "ok": nothing}, timeout=None)
    processes = Step.parallel("s", {k: Step(k, process, lane="cpu") for k in "ab"}, timeout=None)
    spins = Step.parallel("s", {"spinner": spin}, timeout=None)
    stubborns = Step.parallel("s", {"mule": stubborn}, timeout=None)
    slow_ends = Step.parallel("s", {"a": slow_end}, timeout=None)
"""


class Program:
    """A run of the program, its descendants with it."""

    def __init__(self, folder: Path, target: str, *args: str) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [*PROGRAM, "run", target, *args],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, as a terminal gives it
        )

    def wait_until_it_runs(self) -> None:
        give_up = time.monotonic() + 30
        while not (self._folder / "here").exists():
            assert time.monotonic() < give_up, "it never ran"
            assert self._process.poll() is None, self._process.communicate()
            time.sleep(0.02)

    def wait_until_it_has_children(self) -> None:
        give_up = time.monotonic() + 30
        while not psutil.Process(self._process.pid).children():
            assert time.monotonic() < give_up, "it started none"
            time.sleep(0.02)

    def strike_again(self, number: signal.Signals) -> None:
        until_heard(self._process.pid, number)
        self.strike(number)

    def strike(self, number: signal.Signals, *, alone: bool = False) -> None:
        self.family = [psutil.Process(self._process.pid)]
        self.family += self.family[0].children(recursive=True)
        self.struck_at = time.monotonic()
        (os.kill if alone else os.killpg)(self._process.pid, number)

    def end(self) -> tuple[int, str, float]:
        """Return the exit code, what it said, and how long it took; see that nothing is left."""
        out, err = self._process.communicate(timeout=60)
        took = time.monotonic() - self.struck_at
        assert out == ""
        _, alive = psutil.wait_procs(self.family, timeout=10)
        assert not alive
        return self._process.returncode, err, took

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@contextmanager
def running(folder: Path, target: str, *args: str) -> Iterator[Program]:
    write(folder, FLOW)
    program = Program(folder, target, *args)
    try:
        program.wait_until_it_runs()
        yield program
    finally:
        program.kill()


@both_loops
@both_signals
@pytest.mark.parametrize("name", ["naps", "processes", "slow_ends"])
def test_a_signal_ends_the_run_in_order_with_one_line(
    tmp_path: Path, name: str, number: signal.Signals, loop: str
) -> None:
    with running(tmp_path, f"flow.py:{name}", "--loop", loop) as program:
        time.sleep(0.2)
        program.strike(number)
        code, said, took = program.end()
    words = "interrupted by Ctrl-C" if number == signal.SIGINT else "ended by SIGTERM"
    assert (code, said) == (128 + number, f"anabranch: {words}\n")
    assert took < IN_TIME
    assert (tmp_path / "cleaned").exists() == (name != "processes")


@both_loops
def test_threads_that_cannot_be_stopped_are_named_and_end_with_the_process(
    tmp_path: Path, loop: str
) -> None:
    with running(tmp_path, "flow.py:threads", "--loop", loop) as program:
        program.strike(signal.SIGINT)
        code, said, took = program.end()
    assert code == 130
    assert said.count("\n") == 1
    assert "threads that cannot be stopped" in said
    assert "sleepy\\x1b" in said
    assert took < IN_TIME


@both_signals
@pytest.mark.parametrize("name", ["processes", "programs"])
def test_child_processes_end_though_the_signal_did_not_reach_them(
    tmp_path: Path, name: str, number: signal.Signals
) -> None:
    with running(tmp_path, f"flow.py:{name}") as program:
        program.wait_until_it_has_children()
        program.strike(number, alone=True)
        assert len(program.family) > 1
        code, _, took = program.end()
    assert code == 128 + number
    assert took < IN_TIME


@both_loops
@pytest.mark.parametrize(("name", "branch"), [("spins", "spinner"), ("stubborns", "mule")])
def test_what_does_not_stop_is_named_and_ended_after_the_grace(
    tmp_path: Path, name: str, branch: str, loop: str
) -> None:
    with running(tmp_path, f"flow.py:{name}", "--loop", loop) as program:
        time.sleep(0.3)  # the observer hears of the branch a moment after it began
        program.strike(signal.SIGINT)
        code, said, took = program.end()
    assert code == 130
    assert said.count("\n") == 1
    assert f"not stopped within 5 s: {branch}" in said
    assert ("in spin" in said) == (name == "spins")
    assert GRACE <= took < GRACE + IN_TIME


@both_loops
@pytest.mark.parametrize("name", ["spins", "stubborns", "slow_ends"])
def test_a_second_signal_means_at_once(tmp_path: Path, name: str, loop: str) -> None:
    with running(tmp_path, f"flow.py:{name}", "--loop", loop) as program:
        program.strike(signal.SIGINT)
        program.strike_again(signal.SIGINT)
        code, said, took = program.end()
    assert (code, said) == (130, "anabranch: interrupted by Ctrl-C, and again: ended at once\n")
    assert took < GRACE


@both_signals
def test_a_signal_while_the_file_is_imported_ends_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    text = "import time\nfrom pathlib import Path\nPath('here').touch()\ntime.sleep(3600)"
    write(tmp_path, text, "late.py")
    with running(tmp_path, "late.py") as program:
        program.strike(number)
        code, said, took = program.end()
    assert code == 128 + number
    assert said.count("\n") == 1
    assert took < IN_TIME


def test_a_file_that_swallows_the_first_signal_does_not_swallow_the_second(tmp_path: Path) -> None:
    text = """
        import time
        from pathlib import Path
        while True:
            try:
                Path("here").touch()
                time.sleep(3600)
            except BaseException: pass
    """
    write(tmp_path, text, "mule.py")
    with running(tmp_path, "mule.py") as program:
        program.strike(signal.SIGINT)
        program.strike_again(signal.SIGINT)
        code, _, took = program.end()
    assert code == 130
    assert took < GRACE


def test_a_signal_reaches_a_reader_of_events_that_stalls(tmp_path: Path) -> None:
    text = """
        from pathlib import Path
        from anabranch import Step
        def one(n):
            if n == 20_000: Path("here").touch()
        many = Step.map_over("many", one, items=range(50_000), max_concurrency=5)
    """
    write(tmp_path, text, "many.py")
    with running(tmp_path, "many.py:many", "--json") as program:  # and nobody reads the pipe
        time.sleep(1)
        program.strike(signal.SIGINT)
        out, err = program._process.communicate(timeout=60)
    assert program._process.returncode == 130, (out[-300:], err)
    assert err == "anabranch: interrupted by Ctrl-C\n"
