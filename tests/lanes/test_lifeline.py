"""The table of what is to end with this process, and the eyes on the table of processes."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from anabranch.lanes import _lifeline, _reaper, _tree
from anabranch.lanes._lifeline import Lifeline
from anabranch.lanes._reaper import SLOT, family
from tests.lanes.scripts import PYTHON


class Table:
    """Be a lifeline whose table is a plain one, and that starts nobody."""

    def __new__(cls, monkeypatch, slots=4):
        monkeypatch.setattr(_lifeline, "SLOTS", slots)
        lifeline = Lifeline()
        lifeline._table = bytearray(slots * SLOT.size)
        return lifeline


def named(lifeline):
    return [slot for slot in SLOT.iter_unpack(lifeline._table) if slot != (0, 0)]


def test_a_script_is_named_by_its_pipe_and_then_by_its_number(monkeypatch):
    lifeline = Table(monkeypatch)
    slot = lifeline.enter(7)
    assert named(lifeline) == [(0, 7)]
    lifeline.started(slot, 123, 7)
    assert named(lifeline) == [(123, 7)]
    lifeline.leave(slot)
    assert named(lifeline) == []


def test_places_are_used_again_and_a_full_table_lets_scripts_run(monkeypatch):
    lifeline = Table(monkeypatch)
    slots = [lifeline.enter(i + 1) for i in range(4)]
    assert sorted(slots) == [0, 1, 2, 3]
    assert lifeline.enter(9) is None
    lifeline.started(None, 1, 1)
    lifeline.leave(None)
    lifeline.leave(slots[2])
    assert lifeline.enter(9) == slots[2]


def test_without_a_reaper_scripts_run_and_it_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(_lifeline, "PROGRAM", _lifeline.PROGRAM.with_name("nowhere.py"))
    lifeline = Lifeline()
    assert lifeline.enter(1) is None
    assert lifeline.enter(2) is None
    assert caplog.text.count("will outlive this process") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.slow
def test_a_process_that_was_forked_has_a_table_of_its_own():
    code = (
        "import os, anyio\nfrom anabranch.lanes._subprocess import run_script\n"
        "from anabranch.lanes._lifeline import LIFELINE\n"
        "def ran(): return anyio.run(run_script, ['true']).success\n"
        "assert ran() and LIFELINE._table is not None\n"
        "if not os.fork():\n"
        "    assert LIFELINE._table is None\n    os._exit(0 if ran() else 1)\n"
        "assert os.wait()[1] == 0 and ran()"
    )
    options = [] if sys.version_info < (3, 12) else ["-W", "ignore::DeprecationWarning"]
    subprocess.run([PYTHON, *options, "-c", code], check=True, timeout=20)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["no-such-program-anywhere", "true"])
def test_the_first_script_leaves_no_child_of_ours_though_it_never_began(program):
    code = (
        "import sys, anyio, psutil\nfrom anabranch.lanes._subprocess import run_script\n"
        "print(anyio.run(run_script, sys.argv[1:]).kind, psutil.Process().children())"
    )
    argv = [PYTHON, "-c", code, program]
    run = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert run.stdout == f"{'exit' if program == 'true' else 'not_found'} []\n", run.stderr


PROCESSES = {
    10: (1, 10, 10, 5.0),  # a script
    11: (10, 10, 10, 6.0),  # its child
    12: (11, 12, 12, 7.0),  # who made a session of its own
    13: (1, 13, 10, 8.0),  # an orphan in the session, in a group of its own
    14: (1, 14, 14, 9.0),  # nobody of ours
    15: (12, 12, 12, 9.0),
}


def test_a_family_is_group_session_and_descendants():
    assert family({10}, PROCESSES) == {10, 11, 12, 13, 15}
    assert family({12}, PROCESSES) == {12, 15}
    assert family(set(), PROCESSES) == set()


def test_only_who_is_outside_of_the_group_is_looked_for(monkeypatch):
    monkeypatch.setattr(_tree, "processes", lambda pids: PROCESSES)
    assert _tree.outside(10, {}) == {12: 7.0, 13: 8.0, 15: 9.0}
    assert _tree.group(10) == {10: 5.0, 11: 6.0}
    # A number that was given to another process meanwhile is nobody's of ours.
    assert 14 not in _tree.outside(10, {14: 1.0})
    assert 14 in _tree.outside(10, {14: 9.0})
    assert _tree.living({14: 1.0, 15: 9.0}) == {15: 9.0}


def test_a_number_that_is_another_process_by_now_is_never_signalled(monkeypatch):
    sent = []
    monkeypatch.setattr(_tree, "processes", lambda pids: PROCESSES)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    _tree.send(signal.SIGKILL, {14: 1.0, 15: 9.0, 99: 1.0})
    assert sent == [(15, signal.SIGKILL)]


@pytest.mark.parametrize(
    "error",
    [
        psutil.NoSuchProcess(1),
        psutil.AccessDenied(1),
        psutil.ZombieProcess(1),
        OSError(24, "Too many open files"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("where", ["processes", "pids", "Process"])
def test_a_table_that_cannot_be_read_costs_nothing_but_knowledge(monkeypatch, where, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(_tree, "processes", fails if where == "processes" else lambda _: {})
    if where != "processes":
        monkeypatch.setattr(psutil, where, fails)
    assert _tree.outside(os.getpid(), {1: 2.0}) == {}
    assert _tree.living({1: 2.0}) == {}
    assert where == "pids" or _tree.began(1) == 0
    _tree.send(signal.SIGKILL, {1: 2.0})


def test_without_proc_psutil_tells_the_same(monkeypatch):
    with_proc = _reaper.processes([os.getpid()])
    monkeypatch.setattr(_tree, "processes", lambda pids: {})
    table = _tree._read([os.getpid()])
    assert set(table) == {os.getpid()}
    if with_proc:
        assert table[os.getpid()][:3] == with_proc[os.getpid()][:3]
