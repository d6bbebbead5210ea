"""While the machine is busy fewer functions run at once: seen by their number."""

import itertools

import anyio
import pytest

from anabranch import Bounds, ConcurrencyManager, ConcurrencyManagerConfig, Load
from anabranch._host import current_host
from anabranch.manager._lanes import OneLane
from anabranch.manager._throttle import LEAST, WHOLE, ThrottleLaw
from tests.branches import Watch


class Machine:
    """A sampler whose machine is as busy as it is told."""

    def __init__(self):
        self.cpu = 0.1
        self.memory = 0.1
        self.samples = 0

    def sample(self):
        self.samples += 1
        return {"cpu": self.cpu, "memory_used": self.memory * 2**30, "memory_total": 2**30}


@pytest.fixture
def machine():
    return Machine()


def manager_of(machine, **options):
    config = ConcurrencyManagerConfig(io_workers=20, chunk_processor_workers=10, **options)
    return ConcurrencyManager(config, samplers=[machine])


# The three hardest ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["cpu", "memory"])
async def test_fewer_functions_run_while_the_machine_is_busy_and_more_when_it_is_calm(
    machine, signal
):
    manager, watch = manager_of(machine), Watch()
    seen = []

    async def look():
        for busy in (0.1, 0.99, 0.1):
            setattr(machine, signal, busy)
            await anyio.sleep(20.1)
            seen.append((watch.running, manager.throttle_factor))

    async with anyio.create_task_group() as group:
        group.start_soon(manager.map_io, works, [watch] * 3000, 1)
        await look()
        group.cancel_scope.cancel()
    assert seen == [(20, 1.0), (2, 0.1), (20, 1.0)]


async def works(watch, n):
    return await watch.sleeps(n, 0.37)


@pytest.mark.slow
async def test_single_calls_are_throttled_as_well_by_whichever_of_them_is_there(machine):
    manager, watch = manager_of(machine), Watch()

    async def caller():
        while True:
            await manager.run_chunk(works, watch, 1)

    async with anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(caller)
        await anyio.sleep(5.1)
        assert watch.running == 10
        machine.cpu = 0.99
        await anyio.sleep(20)
        assert watch.running == 1
        assert manager.get_stats()["chunk"]["limit"] == 1
        machine.cpu = 0.1
        await anyio.sleep(20)
        assert watch.running == 10
        group.cancel_scope.cancel()


async def test_nothing_is_sampled_while_nothing_runs_and_what_was_seen_long_ago_is_forgotten(
    machine,
):
    manager, watch = manager_of(machine), Watch()
    machine.cpu = 0.99
    with anyio.move_on_after(20):
        await manager.map_io(works, (watch for _ in itertools.count()), 1)
    assert manager.throttle_factor == 0.1
    samples = machine.samples
    await anyio.sleep(100)
    assert machine.samples == samples
    machine.cpu = 0.1
    again = Watch()
    with anyio.move_on_after(0.2):
        await manager.map_io(again.sleeps, range(20), 100)
    assert again.peak == 20


# The law -------------------------------------------------------------------------------------

LAW = ThrottleLaw(0.85, 0.8)
BOUNDS = Bounds(ceiling=WHOLE, floor=LEAST)


@pytest.mark.parametrize(
    ("limit", "load", "becomes"),
    [
        (100, {"cpu": 0.9}, 70),
        (100, {"cpu": 0.85}, 100),
        (100, {"memory_used": 81, "memory_total": 100}, 70),
        (100, {"memory_used": 79, "memory_total": 100}, 100),
        (12, {"cpu": 0.9}, 10),
        (50, {"cpu": 0.5}, 60),
        (95, {"cpu": 0.5}, 100),
        (50, {"cpu": 0.8}, 50),
        (50, {"cpu": 0.5, "memory_used": 75, "memory_total": 100}, 50),
        (50, {}, 50),
    ],
)
def test_the_law(limit, load, becomes):
    state = LAW.initial(BOUNDS)
    decision = LAW.next(state, Load(limit=limit, **load))
    assert decision.limit == becomes
    assert bool(decision.reason) == (becomes != limit)
    assert decision == LAW.next(state, Load(limit=limit, **load))


def test_the_reason_has_its_figures():
    load = Load(limit=100, cpu=0.97, memory_used=50, memory_total=100)
    assert LAW.next(BOUNDS, load).reason == "cpu 97% of 85%: 100 % -> 70 %"


async def test_throttling_may_be_switched_off(machine):
    manager, watch = manager_of(machine, enable_auto_throttle=False), Watch()
    machine.cpu = 0.99
    with anyio.move_on_after(20):
        await manager.map_io(works, (watch for _ in itertools.count()), 1)
    assert machine.samples == 0
    assert manager.throttle_factor == manager._throttle_factor == 1.0


async def test_a_small_lane_that_is_cut_still_runs_one():
    lane = OneLane("chunk", 2, current_host(), None, 10)
    lane.resize(0.3)
    assert lane.limiter.total_tokens == 1
    lane.resize(1.0)
    assert lane.limiter.total_tokens == 2
