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
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: run_script(script, grace=10.0))
            while not told.exists() or told.read_text() != "ready":
                await anyio.sleep(0.02)
            group.cancel_scope.cancel()
    assert told.read_text() == "asked"
