"""The reaper ends what its table names, and nobody else; here its parts run in this process."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from anabranch.lanes import _reaper, _tree
from tests.lanes.scripts import Marked, python, shell

pytestmark = pytest.mark.slow  # real processes

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {}"


def started(argv, **options):
    return subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE, **options)


def test_a_leader_its_group_and_what_made_a_session_of_its_own_are_ended():
    marked = Marked()
    line = f"setsid {marked.sleep()} & {marked.sleep()} & wait"
    with started(shell(line)) as leader:
        marked.begun(2)
        _reaper.end({leader.pid}, set(), 0.0)
        assert marked.gone()
        assert leader.wait() != 0


def test_who_ignores_the_request_is_killed_after_a_second():
    with started(python(DEAF.format("time.sleep(60)"))) as deaf:
        deaf.stdout.readline()
        began = time.monotonic()
        _reaper.end({deaf.pid}, set(), 0.0)
        assert time.monotonic() - began >= _reaper.GRACE_S
        assert deaf.wait() == -9


def test_who_is_stopped_is_woken_to_hear_the_request():
    with started(["sleep", "60"]) as stopped:
        os.kill(stopped.pid, 19)
        _reaper.end({stopped.pid}, set(), 0.0)
        assert stopped.wait() == -15


def test_who_began_before_the_parent_did_is_somebody_elses_by_now():
    with started(["sleep", "60"]) as other:
        began = _reaper.processes([other.pid])[other.pid][3]
        _reaper.end({other.pid}, set(), began + 1)
        try:
            assert other.poll() is None
        finally:
            other.kill()


def test_who_can_write_to_a_pipe_is_ended_and_who_only_reads_is_not():
    reads, writes = os.pipe()
    inode = os.fstat(writes).st_ino
    with (
        started(["sleep", "60"], pass_fds=(writes,)) as writer,
        started(["sleep", "60"], pass_fds=(reads,)) as reader,
    ):
        known = _reaper.processes()
        assert _reaper.holders({inode}, known) == {writer.pid}, "this process holds it too"
        assert _reaper.holders({inode}, known, kept=True) == {writer.pid}
        assert _reaper.holders(set(), known) == set()
        _reaper.end(set(), {inode}, 0.0)
        assert writer.wait() == -15
        assert reader.poll() is None
        reader.kill()
    os.close(reads)
    os.close(writes)


CLOSES = "import os, time; os.set_inheritable({}, False); print(flush=True); time.sleep(60)"


def test_who_will_lose_a_pipe_when_it_becomes_another_program_does_not_keep_it():
    reads, writes = os.pipe()
    inode = os.fstat(writes).st_ino
    with started(python(CLOSES.format(writes)), pass_fds=(writes,)) as child:
        try:
            child.stdout.readline()
            known = _reaper.processes([child.pid])
            assert _reaper.holders({inode}, known) == {child.pid}
            assert _reaper.holders({inode}, known, kept=True) == set()
            assert _tree.holding({inode}, 0.0) == {}
        finally:
            child.kill()
    os.close(reads)
    os.close(writes)


def test_a_family_is_the_groups_the_sessions_and_all_that_descends_from_them():
    known = {  # parent, group, session, and when it began
        10: (1, 10, 10, 0.0),
        11: (10, 10, 10, 0.0),
        12: (11, 12, 12, 0.0),  # a session of its own
        13: (12, 12, 12, 0.0),
        14: (1, 14, 10, 0.0),  # a job of its shell, whose parent has ended
        20: (1, 20, 20, 0.0),
        os.getpid(): (10, 10, 10, 0.0),
    }
    assert _reaper.family({10}, known) == {10, 11, 12, 13, 14}
    assert _reaper.family({99}, known) == set()


def test_who_has_ended_is_in_no_list_and_no_signal_to_it_is_an_error():
    with started(["true"]) as ended:
        while _reaper.processes([ended.pid]):  # a zombie until it is waited for
            time.sleep(0.01)
        assert _reaper.is_there(ended.pid)
        ended.wait()
    assert not _reaper.is_there(ended.pid)
    assert not _reaper.processes([ended.pid])
    assert not _reaper.holds(ended.pid, {"pipe:[1]"})
    _reaper.strike(os.kill, ended.pid, False)
    _reaper.strike(os.killpg, ended.pid, True)
    assert _reaper.is_there(1), "of somebody else, perhaps"


def test_without_a_table_of_processes_groups_are_ended_all_the_same(monkeypatch):
    monkeypatch.setattr(_reaper, "processes", dict)
    monkeypatch.setattr(_reaper, "TOTAL_S", 0.2)
    with started(shell("sleep 60; true")) as leader:
        _reaper.end({leader.pid}, set(), 0.0)
        assert leader.wait() == -15


@pytest.mark.parametrize("asked", ["by its descriptor", "again and again"])
def test_the_end_of_the_parent_is_waited_for(asked, monkeypatch):
    if asked == "again and again":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with started(shell("sleep 0.3")) as parent:
        watch = _reaper.descriptor_of(parent.pid)
        assert (watch is None) == (asked == "again and again" or not hasattr(os, "pidfd_open"))
        waiter = threading.Thread(target=parent.wait)  # else it is there, as a zombie
        waiter.start()
        _reaper.wait_for(parent.pid, watch)
        assert not _reaper.processes([parent.pid])
        waiter.join()
        if watch is not None:
            os.close(watch)


def test_a_parent_that_has_ended_already_has_no_descriptor():
    with started(["true"]) as ended:
        ended.wait()
    assert _reaper.descriptor_of(ended.pid) is None
    assert Path("/proc").exists() == bool(_reaper.processes())
