"""Descendants are found however deep they are, and whichever thread has started them."""

import subprocess
import sys
import threading

import psutil
import pytest

from anabranch.samplers import _tree
from anabranch.samplers._tree import descendants_of, tree

LINUX = sys.platform.startswith("linux")
NESTED = (
    "import subprocess, sys; "
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE); "
    "print(child.pid, flush=True); input()"
)


@pytest.fixture
def proc(tmp_path):
    """A /proc in which 1 has started 2 and 3 by two threads, and 3 has started 4."""

    def write(pid, thread, pids):
        folder = tmp_path / str(pid) / "task" / str(thread)
        folder.mkdir(parents=True)
        (folder / "children").write_text("".join(f"{each} " for each in pids))

    write(1, 1, [2])
    write(1, 11, [3])
    write(2, 2, [])
    write(3, 3, [4])
    return tmp_path


@pytest.mark.skipif(not LINUX, reason="only Linux tells whom a process has started")
def test_the_children_of_all_threads_and_theirs_are_told(proc):
    found = descendants_of(1, proc)
    assert sorted(found or []) == [2, 3, 4], "4 has ended since, which is no fault"


@pytest.mark.skipif(not LINUX, reason="only Linux tells whom a process has started")
def test_a_kernel_that_does_not_tell_is_no_empty_answer(proc):
    for file in proc.glob("1/task/*/children"):
        file.unlink()
    assert descendants_of(1, proc) is None
    assert descendants_of(99, proc) is None


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_a_grandchild_that_a_thread_has_started_is_found(told, monkeypatch):
    if not told:
        monkeypatch.setattr(_tree, "descendants_of", lambda pid: None)
    started = []
    goes_on = threading.Event()

    def start():
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen([sys.executable, "-c", NESTED], stdin=pipe, stdout=pipe, text=True)
        )
        goes_on.wait(60)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        while not started:
            pass
        with started[0] as child:
            grandchild = int(child.stdout.readline())
            pids = [each.pid for each in tree()]
            assert pids[0] == psutil.Process().pid
            assert {child.pid, grandchild} <= set(pids)
            assert len(pids) == len(set(pids))
    finally:
        goes_on.set()
        thread.join()
