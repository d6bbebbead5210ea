"""Chunks: the most important first, until there is enough."""

import math
from decimal import Decimal
from fractions import Fraction

import anyio
import pytest

from anabranch import (
    ConcurrencyManager,
    ConcurrencyManagerConfig,
    ConfigurationError,
    HostLoopError,
    ProcessingConfig,
    process_chunks_async,
    process_chunks_sync,
)
from tests.branches import Watch

FIRST_THINGS = ProcessingConfig(prioritize_chunks=True)


def manager_of(workers):
    config = ConcurrencyManagerConfig(chunk_processor_workers=workers, enable_auto_throttle=False)
    return ConcurrencyManager(config)


async def test_there_is_enough_and_the_rest_is_cancelled():
    watch, began = Watch(), anyio.current_time()

    async def concepts(n):
        await watch.sleeps(n, 1 if n < 3 else 100)
        return ["a", "b"]

    config = ProcessingConfig(max_concepts=6)
    found = await process_chunks_async(range(50), concepts, config=config, manager=manager_of(5))
    assert found.results == [["a", "b"]] * 3
    assert (found.indices, found.concepts, found.stopped_early) == ((0, 1, 2), 6, True)
    assert watch.running == 0
    assert len(watch.started) <= 8
    assert anyio.current_time() - began < 2


async def test_without_early_exit_all_are_processed():
    async def concepts(n):
        return [n]

    config = ProcessingConfig(max_concepts=2, early_exit=False)
    found = await process_chunks_async(range(20), concepts, config=config, manager=manager_of(4))
    assert found.results == [[n] for n in range(20)]
    assert not found.stopped_early
    assert found.profile is None


@pytest.mark.parametrize("kind", ["score=", "item", "attribute"])
async def test_the_most_important_chunks_are_begun_first_and_equals_in_their_order(kind):
    class Chunk:
        def __init__(self, score, name):
            self.score, self.name = score, name

    pairs = [(1, "a"), (3, "b"), (2, "c"), (3, "d")]
    chunks = {
        "score=": pairs,
        "item": [{"priority": score, "name": name} for score, name in pairs],
        "attribute": [Chunk(*pair) for pair in pairs],
    }[kind]
    begun = []

    async def work(chunk):
        begun.append(chunk)
        return [chunk]

    config = ProcessingConfig(prioritize_chunks=True, max_concepts=3)
    score = (lambda pair: pair[0]) if kind == "score=" else None
    found = await process_chunks_async(
        chunks, work, config=config, score=score, manager=manager_of(1)
    )
    assert found.indices == (1, 3, 2)
    assert begun == [chunks[1], chunks[3], chunks[2]]


async def test_a_profile_tells_how_long_each_took():
    async def work(n):
        await anyio.sleep(n)

    config = ProcessingConfig(enable_profiling=True)
    found = await process_chunks_async([1, 3, 2], work, config=config, manager=manager_of(3))
    assert found.profile == pytest.approx((1, 3, 2))
    stats = found.get_stats()
    assert stats["slowest_chunk"] == 1
    assert stats["chunk_time_p50"] == pytest.approx(2)
    assert (stats["chunks"], stats["processed"], stats["skipped"]) == (3, 3, 0)


async def test_an_error_is_raised_with_its_chunk_and_the_rest_is_cancelled():
    watch = Watch()

    async def work(n):
        if n == 1:
            raise ValueError("broken")
        await watch.sleeps(n, 100)

    with pytest.raises(ValueError, match="broken") as caught:
        await process_chunks_async(range(9), work, manager=manager_of(3))
    assert caught.value.__notes__ == ["chunk 1"]
    assert watch.running == 0


async def test_no_chunks_are_no_results():
    found = await process_chunks_async([], len, manager=manager_of(1))
    assert (found.results, found.total, found.stopped_early) == ([], 0, False)
    assert found.get_stats()["chunks"] == 0


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_plain_program_processes_chunks(loop):
    config = ProcessingConfig(max_concepts=4, batch_size=2)
    found = process_chunks_sync(
        ["ab", "cd", "ef", "gh"], list, config=config, manager=manager_of(2), loop=loop
    )
    assert found.results[:2] == [["a", "b"], ["c", "d"]]
    assert len(found.results) == 2


async def test_inside_a_loop_it_is_refused():
    with pytest.raises(HostLoopError, match="await process_chunks_async"):
        process_chunks_sync([1], len)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (([1], 3), {}),
        (([1], len), {"config": {"batch_size": 3}}),
        (([1], len), {"score": 3}),
        (([1], len), {"loop": "curio"}),
        ((3, len), {}),
        (([1], len), {"manager": 3}),
        ((["a", "b"], len), {"score": lambda chunk: chunk}),
        (([1.0, math.nan], len), {"score": float}),
        (([{"priority": "high"}], len), {"config": FIRST_THINGS}),
    ],
)
def test_what_cannot_be_meant_is_refused(args, options):
    with pytest.raises(ConfigurationError):
        process_chunks_sync(*args, **options)


def test_a_score_may_be_a_number_of_any_kind():
    chunks = [{"priority": Fraction(1, 3)}, {"score": Decimal(2)}, {}]
    found = process_chunks_sync(chunks, len, config=FIRST_THINGS, manager=manager_of(1))
    assert found.indices == (1, 0, 2)
