"""CPU percent of this process tree: differences, the CPUs that are allowed, processes that go."""

import subprocess
import sys
import threading

import psutil
import pytest

from anabranch.samplers._cpu import CpuPercent
from anabranch.samplers._differences import STALE_S

GONE = psutil.NoSuchProcess(4711)
ZOMBIE = psutil.ZombieProcess(4711)
DENIED = psutil.AccessDenied(4711)


class Times:
    def __init__(self, own, children):
        self.user = own / 2
        self.system = own / 2
        self.children_user = children
        self.children_system = 0.0


class Process:
    """A process whose CPU seconds are set, or which raises instead."""

    def __init__(self, own=0.0, children=0.0, error=None):
        self.own = own
        self.children = children
        self.error = error

    def cpu_times(self):
        if self.error is not None:
            raise self.error
        return Times(self.own, self.children)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reader(clock):
    return CpuPercent(clock, lambda: 4.0)


def test_the_first_reading_is_unknown_and_never_0(reader):
    assert reader.percent([Process(1234.0)]) is None


def test_it_is_the_share_of_all_cpus_that_are_allowed(reader, clock):
    process = Process(50.0)
    reader.percent([process])
    clock.now += 0.5
    process.own += 1.0
    assert reader.percent([process]) == pytest.approx(50.0)  # 1 of 4 * 0.5 seconds


def test_half_a_cpu_is_a_whole_of_what_is_allowed(clock):
    reader, process = CpuPercent(clock, lambda: 0.5), Process()
    reader.percent([process])
    clock.now += 1
    process.own += 0.25
    assert reader.percent([process]) == pytest.approx(50.0)


def test_an_idle_tree_is_0_once_that_is_known(reader, clock):
    reader.percent([Process(7.0)])
    clock.now += 0.5
    assert reader.percent([Process(7.0)]) == 0.0


def test_more_than_all_is_all(reader, clock):
    reader.percent([Process(0.0)])
    clock.now += 0.5
    assert reader.percent([Process(2.2)]) == 100.0


def test_whoever_asks_just_after_another_sees_the_same_and_not_0(reader, clock):
    process = Process()
    reader.percent([process])
    clock.now += 0.2
    process.own += 0.4
    assert reader.percent([process]) == pytest.approx(50.0)
    for _ in range(10):
        clock.now += 0.000_001
        assert reader.percent([process]) == pytest.approx(50.0, rel=0.001)


def test_a_difference_over_too_short_a_time_is_unknown(reader, clock):
    process = Process()
    reader.percent([process])
    clock.now += 0.001
    process.own += 0.01
    assert reader.percent([process]) is None


def test_five_threads_at_once_see_no_0(clock):
    process = Process()
    reader = CpuPercent(clock, lambda: 1.0)
    reader.percent([process])
    seen = []
    for _ in range(20):
        clock.now += 0.1
        process.own += 0.05
        threads = [
            threading.Thread(target=lambda: seen.append(reader.percent([process])))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 100
    assert all(figure == pytest.approx(50.0) for figure in seen)


def test_it_follows_within_half_a_second(reader, clock):
    process = Process()
    figures = []
    for step in range(20):
        figures.append(reader.percent([process]))
        clock.now += 0.1
        process.own += 0.4 if step < 9 else 0.0
    assert figures[1:10] == [pytest.approx(100.0)] * 9
    assert figures[15:] == [pytest.approx(0.0, abs=0.001)] * 5


def test_what_was_long_ago_says_nothing_of_now(reader, clock):
    process = Process()
    reader.percent([process])
    clock.now += STALE_S + 1
    process.own += 1
    assert reader.percent([process]) is None
    clock.now += 0.5
    process.own += 2
    assert reader.percent([process]) == pytest.approx(100.0)


def test_the_seconds_of_a_child_go_to_its_parent_at_its_end(reader, clock):
    parent, child = Process(1.0), Process(100.0)
    reader.percent([parent, child])
    clock.now += 0.5
    parent.children, parent.own = 100.5, 1.5  # it was waited for
    assert reader.percent([parent]) == pytest.approx(50.0)


def test_a_child_that_came_and_went_between_two_readings_counts(reader, clock):
    parent = Process(1.0)
    reader.percent([parent])
    clock.now += 0.5
    parent.children = 1.0
    assert reader.percent([parent]) == pytest.approx(50.0)


def test_an_orphan_that_takes_its_seconds_along_is_unknown_once(reader, clock):
    parent = Process(1.0)
    reader.percent([parent, Process(100.0)])
    clock.now += 0.5
    parent.own += 1.0
    assert reader.percent([parent]) is None
    clock.now += 0.5
    parent.own += 1.0
    assert reader.percent([parent]) == pytest.approx(50.0)


@pytest.mark.parametrize("error", [GONE, ZOMBIE, DENIED], ids=lambda error: type(error).__name__)
def test_a_child_that_cannot_be_read_counts_nothing(reader, clock, error):
    parent = Process(1.0)
    reader.percent([parent, Process(5.0, error=error)])
    clock.now += 0.5
    parent.own += 1.0
    assert reader.percent([parent, Process(5.0, error=error)]) == pytest.approx(50.0)


def test_a_process_that_cannot_read_itself_knows_nothing(reader, clock):
    for _ in range(3):
        assert reader.percent([Process(error=DENIED)]) is None
        clock.now += 0.5
    assert reader.percent([]) is None


SPIN = "print('ready', flush=True)\nwhile True: pass"


@pytest.mark.slow
def test_a_child_that_computes_is_seen(clock):
    """Real processes, and a clock that is set: half a second of CPU is half a second."""
    reader = CpuPercent(clock, lambda: 1.0)
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline() == b"ready\n"
            reader.percent()
            clock.now += 0.5
            process = psutil.Process(child.pid)
            began = process.cpu_times().user
            while process.cpu_times().user - began < 0.2:
                pass
            assert reader.percent() > 30
        finally:
            child.kill()
