"""Lanes called from inside lanes, of one place each, three deep: every combination ends."""

import itertools

import anyio
import anyio.from_thread
import pytest

from anabranch import ConcurrencyManager, ConcurrencyManagerConfig
from tests.lanes import calls

WAYS = ["io async", "io thread", "chunk async", "chunk thread"]
CONFIG = ConcurrencyManagerConfig(
    cpu_workers=1, io_workers=1, chunk_processor_workers=1, enable_auto_throttle=False
)


def nested(manager, ways):
    """Return a function that calls down the ways, and what runs it."""
    if not ways:
        return calls.add, manager.run_io
    (lane, kind), inner = ways[0].split(), nested(manager, ways[1:])

    async def calls_on(n):
        fn, run = inner
        return await run(fn, n)

    def calls_on_from_a_thread(n):
        return anyio.from_thread.run(calls_on, n)

    run = manager.run_io if lane == "io" else manager.run_chunk
    return (calls_on if kind == "async" else calls_on_from_a_thread), run


@pytest.mark.real_clock
@pytest.mark.slow
async def test_every_way_through_lanes_of_one_place_ends():
    manager = ConcurrencyManager(CONFIG)
    with anyio.fail_after(60):
        for ways in itertools.product(WAYS, repeat=3):
            fn, run = nested(manager, list(ways))
            assert await run(fn, 1) == 2, ways


@pytest.mark.real_clock
@pytest.mark.slow
async def test_many_at_once_on_crossing_ways_end():
    manager = ConcurrencyManager(CONFIG)
    found = []

    async def go(ways):
        fn, run = nested(manager, ways)
        found.append(await run(fn, 1))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for ways in itertools.product(WAYS, repeat=3):
                group.start_soon(go, list(ways))
    assert found == [2] * 64
