"""Memory of this process and its descendants: what counts, what has gone, what may not be read."""

import subprocess
import sys

import psutil
import pytest

from anabranch.samplers import _tree
from anabranch.samplers._memory import MB, memory_mb
from anabranch.samplers._tree import tree

GONE = psutil.NoSuchProcess(4711)
ZOMBIE = psutil.ZombieProcess(4711)
DENIED = psutil.AccessDenied(4711)


class Figures:
    def __init__(self, rss, pss):
        self.rss = rss * MB
        self.pss = pss * MB


class Process:
    """A process whose figures are known, or which raises instead."""

    def __init__(self, rss=0, pss=0, *, rough=None, exact=None):
        self.figures = Figures(rss, pss)
        self.rough = rough
        self.exact = exact
        self.asked = 0

    def memory_info(self):
        if self.rough is not None:
            raise self.rough
        return self.figures

    def memory_full_info(self):
        self.asked += 1
        if self.exact is not None:
            raise self.exact
        return self.figures


@pytest.fixture(autouse=True)
def linux(monkeypatch):
    monkeypatch.setattr(psutil, "LINUX", True)


def test_pages_that_are_shared_count_once():
    forked = [Process(1000, 500), Process(1000, 400), Process(1000, 300)]
    assert memory_mb(0, forked) == 1200


def test_the_cheap_figure_will_do_where_it_is_low_enough():
    forked = [Process(1000, 500), Process(1000, 400)]
    assert memory_mb(2000, forked) == 2000
    assert [each.asked for each in forked] == [0, 0]
    assert memory_mb(1999, forked) == 900


def test_elsewhere_it_is_the_sum_of_resident_sizes(monkeypatch):
    monkeypatch.setattr(psutil, "LINUX", False)
    assert memory_mb(0, [Process(1000, 500), Process(1000, 400)]) == 2000


@pytest.mark.parametrize("error", [GONE, ZOMBIE, DENIED], ids=lambda error: type(error).__name__)
def test_a_child_that_cannot_be_read_counts_nothing(error):
    assert memory_mb(0, [Process(100, 90), Process(1000, 900, rough=error)]) == 90
    assert memory_mb(9999, [Process(100, 90), Process(1000, 900, rough=error)]) == 100


@pytest.mark.parametrize(
    ("error", "counts"), [(GONE, 0), (ZOMBIE, 0), (DENIED, 1000)], ids=["gone", "zombie", "denied"]
)
def test_a_child_that_goes_between_two_looks_counts_nothing(error, counts):
    """One that shows only its size counts with it: too much rather than nothing."""
    assert memory_mb(0, [Process(100, 90), Process(1000, 900, exact=error)]) == 90 + counts


def test_a_process_that_cannot_read_itself_knows_nothing():
    assert memory_mb(0, [Process(rough=DENIED), Process(100, 90)]) is None
    assert memory_mb(0, []) is None


@pytest.mark.parametrize("error", [GONE, ZOMBIE, DENIED, OSError(24, "Too many open files")])
def test_a_table_that_cannot_be_read_is_told(monkeypatch, error):
    def children(self, recursive):
        raise error

    monkeypatch.setattr(psutil.Process, "children", children)
    monkeypatch.setattr(_tree, "descendants_of", lambda pid: None)
    with pytest.raises(type(error)):
        memory_mb()


def test_the_tree_begins_with_this_process():
    assert tree()[0] == psutil.Process()


ALLOCATE = """
import sys
hog = bytearray(200 * 1024 * 1024)
hog[::4096] = b'x' * len(hog[::4096])
print('ready', flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("exact_above", [0.0, 1e9])
def test_what_a_child_allocates_is_seen(monkeypatch, exact_above):
    monkeypatch.undo()
    before = memory_mb(exact_above)
    with subprocess.Popen(
        [sys.executable, "-c", ALLOCATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        during = memory_mb(exact_above)
        child.communicate()
    assert during - before > 190
    assert memory_mb(exact_above) - before < 100


@pytest.mark.slow
@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells proportional sizes")
def test_what_is_forked_counts_once():
    """A child that shares 100 MB with its parent, and has written nothing."""
    code = """
import os, sys
from anabranch.samplers._memory import memory_mb
hog = bytearray(100 * 1024 * 1024)
hog[::4096] = b'x' * len(hog[::4096])
before = memory_mb(0)
reader, writer = os.pipe()
child = os.fork()
if not child:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
rough, exact = memory_mb(1e9), memory_mb(0)
os.close(writer)
os.waitpid(child, 0)
print(rough - before > 90, exact - before < 30)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True", "True"]
