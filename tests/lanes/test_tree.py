"""Whose a process is: told by its number and its start; it is asked to end before it is killed."""

import os
import signal
import subprocess
import sys

import anyio
import pytest

from anabranch.lanes import _tree
from anabranch.lanes._reaper import family
from anabranch.lanes._subprocess import run_script
from tests.lanes.scripts import PYTHON, shell

TELLS = """
import pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path(sys.argv[1]).write_text("asked")
    sys.exit()
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(60)
"""


def test_a_number_that_was_given_to_another_process_is_left_alone():
    me = os.getpid()
    began = _tree.began(me)
    assert _tree.living({me: began}) == {me: began}
    assert _tree.living({me: began - 1}) == {}


@pytest.mark.slow
def test_a_signal_is_not_sent_to_who_has_a_number_now():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        _tree.send(signal.SIGKILL, {child.pid: _tree.began(child.pid) - 1})
        assert child.poll() is None
        _tree.send(signal.SIGKILL, {child.pid: _tree.began(child.pid)})
        assert child.wait(10) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


def test_who_descends_from_a_script_is_found_at_any_depth():
    # pid: parent, group, session, when it began
    known = {10: (1, 10, 10, 1.0), 40: (30, 40, 40, 4.0), 30: (20, 30, 30, 3.0)}
    known |= {20: (10, 20, 20, 2.0), 99: (1, 99, 99, 9.0)}
    assert family({10}, known) == {10, 20, 30, 40}


@pytest.mark.slow
@pytest.mark.real_clock
async def test_what_has_a_session_of_its_own_is_asked_to_end_before_it_is_killed(tmp_path):
    told = tmp_path / "told"
    script = shell('setsid "$1" -c "$2" "$3" & wait', PYTHON, TELLS, str(told))
    finished = await run_script(script, timeout=3.0, grace=3.0)
    assert finished.kind == "timeout"
    assert told.read_text() == "asked"


@pytest.mark.slow
def test_who_holds_a_pipe_can_write_to_it():
    # Between fork and exec a child of ours has our end of every other script's pipe.
    reads, writes = os.pipe()
    waits = [sys.executable, "-c", "import time; time.sleep(60)"]
    reader = subprocess.Popen(waits, pass_fds=(reads,))
    writer = subprocess.Popen(waits, pass_fds=(writes,))
    try:
        found = _tree.holding([os.fstat(reads).st_ino], _tree.began(reader.pid))
        assert writer.pid in found
        assert reader.pid not in found
    finally:
        for child in (reader, writer):
            child.kill()
            child.wait()
        os.close(reads)
        os.close(writes)


@pytest.mark.slow
@pytest.mark.real_clock
async def test_what_starts_while_a_pipe_is_looked_for_is_left_alone():
    leaves = shell("setsid sleep 60 & exit 4")
    codes = []

    async def run(script):
        codes.append((await run_script(script)).exit_code)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(run, leaves)
        with anyio.move_on_after(3):
            while codes.count(4) < 10:
                for _ in range(5):
                    await run(shell("exit 9"))
    assert codes.count(4) == 10
    assert set(codes) == {4, 9}
