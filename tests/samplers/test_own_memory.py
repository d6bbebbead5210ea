"""Own memory: what was added since the first sample, by processes that come, go and hide."""

import psutil
import pytest

from anabranch.samplers import OwnMemory, Scarcest
from anabranch.samplers._descendants import LONGEST_PAUSE_S, PAUSES, Descendants

MB = 2**20
ERRORS = [psutil.NoSuchProcess(4711), psutil.ZombieProcess(4711), psutil.AccessDenied(4711)]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


class Process:
    def __init__(self, mb, error=None, started=0.0):
        self.rss = mb * MB
        self.error = error
        self.started = started

    def create_time(self):
        return self.started

    def memory_info(self):
        if self.error is not None:
            raise self.error
        return self


def test_what_was_there_at_first_is_not_counted():
    processes = [Process(500)]
    sampler = OwnMemory(lambda: processes)
    assert sampler.sample() == {"own_memory": 0.0}
    processes[0].rss += 10 * MB
    assert sampler.sample() == {"own_memory": 10 * MB}


def test_children_count():
    processes = [Process(500)]
    sampler = OwnMemory(lambda: processes)
    sampler.sample()
    processes += [Process(300), Process(200)]
    assert sampler.sample() == {"own_memory": 500 * MB}


def test_less_than_at_first_is_0():
    processes = [Process(500), Process(100)]
    sampler = OwnMemory(lambda: processes)
    sampler.sample()
    del processes[1]
    assert sampler.sample() == {"own_memory": 0.0}


@each_error
def test_a_child_that_has_gone_or_hides_counts_nothing(error):
    processes = [Process(500), Process(100)]
    sampler = OwnMemory(lambda: processes)
    sampler.sample()
    processes[0].rss += 300 * MB
    processes[1].error = error
    assert sampler.sample() == {"own_memory": 300 * MB}


def test_what_a_child_held_at_first_goes_with_it_and_hides_no_other():
    processes = [Process(500), *(Process(100) for _ in range(8))]
    sampler = OwnMemory(lambda: processes)
    sampler.sample()
    del processes[1:]
    processes += [Process(300), Process(300)]
    assert sampler.sample() == {"own_memory": 600 * MB}


def test_children_that_had_just_begun_at_the_first_sample_are_the_branches_own(clock):
    young = [Process(300, started=clock() - 0.2) for _ in range(4)]
    processes = [Process(500, started=clock() - 0.3), Process(100, started=clock() - 9), *young]
    assert OwnMemory(lambda: processes, clock).sample() == {"own_memory": 1200 * MB}


def test_it_can_begin_anew():
    processes = [Process(500)]
    sampler = OwnMemory(lambda: processes)
    every = Scarcest([Scarcest([sampler])])
    every.sample()
    processes[0].rss += 100 * MB
    assert every.sample()["own_memory"] == 100 * MB
    every.forget()
    assert every.sample()["own_memory"] == 0
    processes[0].rss += 30 * MB
    assert every.sample()["own_memory"] == 30 * MB


@each_error
def test_a_process_that_cannot_read_itself_is_unknown(error):
    assert OwnMemory(lambda: [Process(1, error), Process(100)]).sample() == {"own_memory": None}


@pytest.mark.parametrize("error", [*ERRORS, OSError(24, "Too many open files")])
def test_a_table_that_cannot_be_read_is_unknown(error):
    def fails():
        raise error

    assert OwnMemory(fails).sample() == {"own_memory": None}


@each_error
@pytest.mark.parametrize("call", ["__init__", "children", "memory_info", "create_time", "ppid"])
def test_whatever_psutil_raises_at_whichever_call_costs_the_signal_at_most(
    monkeypatch, call, error
):
    def fails(*args, **options):
        raise error

    monkeypatch.setattr(psutil.Process, call, fails)
    for _ in range(2):
        found = OwnMemory().sample()["own_memory"]
        assert found is None or found >= 0


def test_unknown_at_first_counts_from_when_it_is_known():
    processes = [Process(500, ERRORS[0])]
    sampler = OwnMemory(lambda: processes)
    sampler.sample()
    processes[0].error = None
    assert sampler.sample() == {"own_memory": 0.0}


# Whom to look at ------------------------------------------------------------------------------


def test_the_table_is_read_seldom_where_that_takes_long(clock):
    walks = []

    def walk():
        walks.append(clock.now)
        clock.now += 0.002
        return []

    descendants = Descendants(walk, clock, clock)
    began = clock.now
    while clock.now < began + 100:
        descendants.list()
        clock.now += 0.25
    assert len(walks) <= 100 / (PAUSES * 0.002) + 1
    assert len(walks) * 0.002 < 0.005 * 100


def test_a_slow_table_is_read_every_ten_seconds_all_the_same(clock):
    walks = []

    def walk():
        walks.append(clock.now)
        clock.now += 3
        return []

    descendants = Descendants(walk, clock, clock)
    descendants.list()
    clock.now += LONGEST_PAUSE_S
    descendants.list()
    assert len(walks) == 2


def test_what_others_make_it_wait_is_no_cost(clock):
    walks = []

    def walk():
        walks.append(clock.now)
        clock.now += 3
        return []

    descendants = Descendants(walk, clock, lambda: 0.0)
    for _ in range(4):
        descendants.list()
    assert len(walks) == 4


def test_this_process_comes_first():
    assert Descendants().list()[0] == psutil.Process()
