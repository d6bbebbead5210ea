"""Who counts as load before a sample shows it: scripts that have just started, and no others."""

import pytest

from anabranch import ConcurrentExecutor, ResourceManager
from anabranch.executor import _resources
from anabranch.executor._reserve import Reserve
from tests.executor.machine import GB, scripts

FOUR_CORES = {"cpu_count": 4, "cpu_percent": 0.0, "memory_available_gb": 32.0}


class Shows:
    """Show a CPU share of four cores."""

    def __init__(self, cpu):
        self.cpu = cpu

    def sample(self):
        return {"cpu": self.cpu, "cores": 4, "memory_total": 32 * GB, "memory_used": GB}


class Clock:
    """Stand still: a script counts for half a second, and a machine may take longer to ask."""

    def monotonic(self):
        return 10.0

    def sleep(self, seconds):
        assert not seconds


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Take no time for the two first readings, and a fresh one each time."""
    monkeypatch.setattr(_resources, "FIRST_S", 0.0)
    monkeypatch.setattr(_resources, "SHARED_S", -1.0)


def test_a_script_counts_until_a_sample_of_half_a_second_after_its_start():
    reserve = Reserve()
    reserve.seen(0.0, FOUR_CORES)
    reserve.start(10.0)
    assert reserve.held(10.4) == (25.0, 0.0)
    assert reserve.held(10.5) == (0.0, 0.0)


def test_a_script_that_has_ended_counts_no_more():
    reserve = Reserve()
    reserve.seen(0.0, FOUR_CORES)
    tokens = [reserve.start(10.0), reserve.start(10.0)]
    assert reserve.held(10.1) == (50.0, 0.0)
    reserve.end(tokens[0], 10.1)
    reserve.end(tokens[0], 10.1)
    assert reserve.held(10.1) == (25.0, 0.0)


def test_a_script_that_was_refused_counts_nothing():
    machine = Shows(0.95)
    manager = ResourceManager(sampler=machine)
    for _ in range(10):
        room, _ = manager.admit()
        assert not room.ok
    machine.cpu = 0.1
    room, _ = manager.admit()
    assert room.ok


def test_scripts_of_a_core_each_are_let_in_until_80_percent_are_taken(monkeypatch):
    monkeypatch.setattr(_resources, "time", Clock())
    manager = ResourceManager(sampler=Shows(0.0))
    admitted = [manager.admit() for _ in range(4)]
    assert [room.ok for room, _ in admitted] == [True, True, True, True]
    assert not manager.admit()[0].ok
    admitted[0][1]()
    assert manager.admit()[0].ok


@pytest.mark.real_clock
@pytest.mark.slow
async def test_scripts_that_have_ended_leave_their_room_to_the_next(tmp_path):
    manager = ResourceManager(sampler=Shows(0.0))
    path = scripts(tmp_path)("ok.py")
    async with ConcurrentExecutor(2, resource_manager=manager) as executor:
        results = await executor.execute_batch([(f"m{n}", path, []) for n in range(3)])
    assert [result["success"] for result in results] == [True] * 3
    assert manager._reserve.held(0.0) == (0.0, 0.0)  # as if all who are counted had just begun
