"""Lanes for computing, waiting and chunks: limits, nesting, results, errors, the end."""

import asyncio
import functools
import os
import threading
import time

import anyio
import anyio.from_thread
import pytest

from anabranch import (
    ConcurrencyManager,
    ConcurrencyManagerConfig,
    ConfigurationError,
    LaneError,
    QueueFull,
    SchedulerClosedError,
    get_concurrency_manager,
    run_cpu_bound,
    run_io_bound,
)
from anabranch.manager._global import _kept
from tests.branches import Watch
from tests.lanes import calls

CALM = ConcurrencyManagerConfig(enable_auto_throttle=False)


def manager_of(**options):
    return ConcurrencyManager(
        ConcurrencyManagerConfig(**{"enable_auto_throttle": False, **options})
    )


# The three hardest ---------------------------------------------------------------------------


@pytest.mark.real_clock
@pytest.mark.slow
async def test_cpu_in_chunk_in_io_on_limiters_of_one_ends():
    manager = manager_of(cpu_workers=1, io_workers=1, chunk_processor_workers=1)

    async def outer(n):
        return await manager.run_chunk(middle, n)

    async def middle(n):
        back = await manager.run_io(inner, n)
        return back + await manager.run_cpu(calls.add, n)

    async def inner(n):
        return await manager.run_chunk(calls.add, n)

    with anyio.fail_after(20):
        assert await manager.run_io(outer, 1) == 4
        assert await manager.map_io(outer, range(5)) == [2 * n + 2 for n in range(5)]


@pytest.mark.real_clock
async def test_threads_that_call_lanes_from_inside_lanes_of_one_end():
    manager = manager_of(io_workers=1, chunk_processor_workers=1)

    def outer(n):
        return anyio.from_thread.run(manager.run_chunk, middle, n)

    def middle(n):
        return anyio.from_thread.run(manager.run_io, calls.add, n)

    with anyio.fail_after(60):
        assert await manager.map_io(outer, range(5)) == [1, 2, 3, 4, 5]


async def test_whoever_comes_to_a_full_line_waits_and_nowait_is_refused():
    manager = manager_of(io_workers=1, max_queue_size=2)
    gate = anyio.Event()
    watch = Watch()

    async def work():
        watch.begin()
        await gate.wait()
        watch.end()

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(manager.run_io, work)
        await anyio.wait_all_tasks_blocked()
        assert manager.get_stats()["io"]["tasks_submitted"] == 3
        assert manager.get_stats()["io"]["tasks_queued"] == 2
        with pytest.raises(QueueFull, match="2 calls wait in the io lane already"):
            await manager.run_io_nowait(work)
        gate.set()
    assert len(watch.started) == 5
    assert await manager.run_io_nowait(plus, 1, b=2) == 3
    assert manager.get_stats()["io"]["tasks_queued"] == 0


async def test_a_place_in_line_goes_to_the_next_when_somebody_gives_up():
    manager = manager_of(io_workers=1, max_queue_size=1)
    ended = []

    async def work(n):
        await anyio.sleep(1)
        ended.append(n)

    async def call(n):
        with anyio.move_on_after(0.5 if n in (2, 3) else 100):
            await manager.run_io(work, n)

    async with anyio.create_task_group() as group:
        for n in range(6):
            group.start_soon(call, n)
            await anyio.wait_all_tasks_blocked()
    assert sorted(ended) == [0, 1, 4, 5]
    assert manager.get_stats()["io"]["tasks_queued"] == 0


# Calls ---------------------------------------------------------------------------------------


async def plus(a, b=1):
    await anyio.sleep(0)
    return a + b


async def fail(n):
    raise ValueError(f"no {n}")


@pytest.mark.real_clock
@pytest.mark.slow
async def test_each_lane_passes_arguments_and_keywords():
    manager = manager_of()
    for run in (manager.run_cpu, manager.run_io, manager.run_chunk):
        assert await run(calls.add, 1, two=2) == 3
    for each in (manager.map_cpu, manager.map_io, manager.map_chunks):
        assert await each(calls.add, (n for n in range(4)), two=2) == [2, 3, 4, 5]
        assert await each(calls.add, [1, 2], 5) == [6, 7]


async def test_async_functions_run_on_the_loop_under_the_lane_and_cpu_refuses_them():
    manager = manager_of(io_workers=3, chunk_processor_workers=2)
    for each, size in ((manager.map_io, 3), (manager.map_chunks, 2)):
        watch = Watch()
        assert await each(watch.sleeps, range(9)) == list(range(9))
        assert watch.peak == size
    with pytest.raises(ConfigurationError, match="run_cpu cannot run the async function plus"):
        await manager.run_cpu(plus, 1)
    with pytest.raises(ConfigurationError, match="map_cpu cannot run"):
        await manager.map_cpu(plus, [1])


@pytest.mark.real_clock
async def test_a_lane_bounds_single_calls_and_maps_together():
    manager = manager_of(io_workers=3)
    watch = Watch()

    def work(n):
        watch.begin()
        time.sleep(0.005)
        watch.end()
        return n

    async with anyio.create_task_group() as group:
        group.start_soon(manager.map_io, work, range(20))
        group.start_soon(manager.map_io, work, iter(range(20)))
        for n in range(20):
            group.start_soon(manager.run_io, work, n)
    assert (watch.peak, len(watch.started)) == (3, 60)
    assert manager.get_stats()["io"]["max_concurrent_tasks"] == 3


async def test_the_first_error_cancels_the_rest_of_a_map_and_is_raised():
    manager = manager_of(io_workers=4)
    watch = Watch()

    async def work(n):
        if n == 2:
            await anyio.sleep(1)
            raise ValueError("two")
        return await watch.sleeps(n, 100)

    start = anyio.current_time()
    with pytest.raises(ValueError, match="two"):
        await manager.map_io(work, range(10))
    assert anyio.current_time() - start < 2
    assert (watch.running, len(watch.started)) == (0, 3)


async def test_errors_stand_in_their_places_if_asked_for():
    manager = manager_of()

    async def work(n):
        return await (fail(n) if n % 2 else plus(n))

    found = await manager.map_io(work, range(4), return_exceptions=True)
    assert [found[0], found[2]] == [1, 3]
    assert [str(found[1]), str(found[3])] == ["no 1", "no 3"]


async def test_a_map_over_nothing_and_over_what_is_no_iterable():
    manager = manager_of()
    assert await manager.map_io(plus, []) == []
    assert await manager.map_io(plus, iter(())) == []
    assert sorted(await manager.map_io(plus, {1, 2})) == [2, 3]
    with pytest.raises(ConfigurationError, match=r"map_io: 3 .* is not iterable"):
        await manager.map_io(plus, 3)

    async def items():
        for n in range(3):
            yield n

    assert await manager.map_io(plus, items()) == [1, 2, 3]


@pytest.mark.parametrize("lane", ["io", "chunk"])
async def test_batches_keep_the_order_of_the_items(lane):
    manager = manager_of(chunk_batch_size=4)
    assert await manager.process_in_batches(plus, range(10), lane=lane) == list(range(1, 11))
    stats = manager.get_stats()[lane]
    assert stats["tasks_submitted"] == 3
    with pytest.raises(ConfigurationError, match="lane='disk' is none of"):
        await manager.process_in_batches(plus, [1], lane="disk")
    with pytest.raises(ConfigurationError, match="batch_size=0"):
        await manager.process_in_batches(plus, [1], batch_size=0)


@pytest.mark.real_clock
@pytest.mark.slow
async def test_batches_go_into_processes():
    manager = manager_of()
    found = await manager.process_in_batches(calls.add, range(10), batch_size=5, lane="cpu")
    assert found == list(range(1, 11))


@pytest.mark.real_clock
@pytest.mark.slow
async def test_the_cpu_lane_is_processes_or_threads():
    assert await manager_of().run_cpu(os.getpid) != os.getpid()
    assert await manager_of(use_processes=False).run_cpu(os.getpid) == os.getpid()
    manager = manager_of()
    with pytest.raises(LaneError, match="the function"):
        await manager.run_cpu(lambda: 1)
    with pytest.raises(LaneError, match="died"):
        await manager.run_cpu(calls.kills_itself)
    assert await manager.run_cpu(calls.add, 1) == 2


@pytest.mark.real_clock
@pytest.mark.slow
async def test_cpu_workers_are_that_many_processes_whatever_the_cores():
    manager = manager_of(cpu_workers=4)
    began = time.monotonic()
    await manager.map_cpu(time.sleep, [0.5] * 4)
    assert time.monotonic() - began < 1.6


async def test_a_cancelled_call_is_cancelled_and_counted():
    manager = manager_of()
    with anyio.move_on_after(1):
        await manager.run_io(anyio.sleep, 100)
    stats = manager.get_stats()["io"]
    assert (stats["tasks_cancelled"], stats["tasks_running"]) == (1, 0)


@pytest.mark.asyncio_only
@pytest.mark.real_clock
@pytest.mark.slow
async def test_wait_for_ends_a_call_in_a_process():
    manager = manager_of()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(manager.run_cpu(time.sleep, 60), 0.3)
    assert await manager.run_cpu(calls.add, 1) == 2


# What it tells -------------------------------------------------------------------------------


async def test_stats_have_three_keys_and_add_up():
    manager = manager_of()
    assert list(manager.get_stats()) == ["cpu", "io", "chunk"]
    assert manager.get_stats()["io"]["success_rate"] == 0.0
    await manager.map_io(plus, range(3))
    with pytest.raises(ValueError):
        await manager.run_io(fail, 1)
    stats = manager.get_stats()["io"]
    assert stats["tasks_submitted"] == 4
    assert (stats["tasks_completed"], stats["tasks_failed"]) == (3, 1)
    assert stats["success_rate"] == 75.0
    assert stats["errors_by_category"] == {"data": 1}
    assert stats["execution_time_p95"] >= stats["execution_time_p50"] >= 0
    assert manager.get_stats()["chunk"]["tasks_submitted"] == 0


async def test_without_metrics_the_keys_stay():
    manager = manager_of(enable_metrics=False, io_workers=7)
    await manager.run_io(plus, 1)
    assert list(manager.get_stats()) == ["cpu", "io", "chunk"]
    assert manager.get_stats()["io"] == {"tasks_queued": 0, "limit": 7}


# The end -------------------------------------------------------------------------------------


@pytest.mark.real_clock
@pytest.mark.slow
async def test_shutdown_ends_idle_processes_and_refuses_calls():
    manager = manager_of()
    pid = await manager.run_cpu(os.getpid)
    manager.shutdown(wait=True)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    manager.shutdown()
    with pytest.raises(SchedulerClosedError):
        await manager.run_io(plus, 1)
    with pytest.raises(SchedulerClosedError):
        async with manager:
            pass


@pytest.mark.real_clock
@pytest.mark.slow
async def test_shutdown_lets_a_busy_process_end_its_call():
    manager = manager_of()
    async with anyio.create_task_group() as group:

        async def work():
            assert await manager.run_cpu(calls.sleeps_and_tells, os.devnull, 0.5) == "slept"

        group.start_soon(work)
        await anyio.sleep(0.3)
        manager.shutdown()


async def test_leaving_the_block_waits_for_calls():
    ended = []

    async def work():
        await anyio.sleep(5)
        ended.append(1)

    async with anyio.create_task_group() as group:
        async with manager_of() as manager:
            group.start_soon(manager.run_io, work)
            await anyio.sleep(1)
        assert ended == [1]
        assert manager.is_shut_down


async def test_what_runs_while_the_block_is_left_may_call_on_and_nobody_else():
    async def work(manager):
        await anyio.sleep(1)
        return await manager.run_chunk(plus, 1)

    found = []

    async def first():
        found.append(await manager.run_io(work, manager))

    async def late():
        await anyio.sleep(0.5)
        with pytest.raises(SchedulerClosedError):
            await manager.run_io(plus, 1)

    async with anyio.create_task_group() as group:
        async with manager_of() as manager:
            group.start_soon(first)
            group.start_soon(late)
            await anyio.wait_all_tasks_blocked()
        assert found == [2]


def test_one_manager_serves_several_loops():
    manager = manager_of(io_workers=2)
    found = []

    async def work():
        watch = Watch()
        await manager.map_io(watch.sleeps, range(6))
        found.append(watch.peak)

    threads = [
        threading.Thread(target=functools.partial(anyio.run, work, backend=loop))
        for loop in ("trio", "asyncio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2, 2]
    assert manager.get_stats()["io"]["tasks_completed"] == 12
    assert manager._all == []  # lanes are gone with their loops


# The one of the process ----------------------------------------------------------------------


@pytest.fixture
def no_manager():
    yield
    for each in _kept:
        each.shutdown()
    _kept.clear()


async def test_there_is_one_manager_until_it_is_shut_down(no_manager):
    first = get_concurrency_manager(CALM)
    assert get_concurrency_manager() is first
    assert get_concurrency_manager(CALM) is first
    with pytest.raises(ConfigurationError, match="give a config with the first call only"):
        get_concurrency_manager(ConcurrencyManagerConfig(io_workers=3))
    first.shutdown()
    assert get_concurrency_manager(CALM) is not first


@run_cpu_bound
def where(n, *, add=0):
    """Say in which process."""
    return os.getpid(), n + add


@run_io_bound
def thread(n):
    return threading.get_ident(), n


@run_io_bound
async def waits(n):
    return threading.get_ident(), n


@pytest.mark.real_clock
@pytest.mark.slow
async def test_decorated_functions_run_in_their_lanes(no_manager):
    pid, value = await where(1, add=2)
    assert (pid != os.getpid(), value) == (True, 3)
    assert where.__doc__ == "Say in which process."
    ident, value = await thread(1)
    assert (ident != threading.get_ident(), value) == (True, 1)
    assert await waits(2) == (threading.get_ident(), 2)
    with pytest.raises(ConfigurationError, match="plus is async"):
        run_cpu_bound(plus)


@pytest.mark.parametrize("bad", [3, {"io_workers": 2}])
def test_what_is_no_config_is_refused(bad):
    with pytest.raises(ConfigurationError, match="is no ConcurrencyManagerConfig"):
        ConcurrencyManager(bad)
