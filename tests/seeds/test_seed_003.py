"""Seed 003: three lanes, block by block; each runs as it stands, but for imports and one name."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import anabranch
from anabranch import (
    CircuitBreaker,
    ConcurrencyManager,
    ConcurrencyManagerConfig,
    ProcessingConfig,
    ProgressTracker,
    SchedulerClosedError,
    process_chunks_async,
)
from anabranch.manager._global import _kept
from tests.seeds import stand_ins_003 as stand_ins
from tests.seeds.harness import execute

SEED = "003"
Block = Callable[[int], str]
pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

THEIRS = {name: value for name, value in vars(stand_ins).items() if not name.startswith("_")}


@pytest.fixture
async def manager() -> AsyncIterator[ConcurrencyManager]:
    async with ConcurrencyManager() as manager:
        yield manager
    for each in _kept:
        each.shutdown()
    _kept.clear()


@pytest.fixture
def known(manager: ConcurrencyManager, tmp_path: Any) -> dict[str, Any]:
    pdf = tmp_path / "a.pdf"
    pdf.write_bytes(b"%PDF")

    ours = {name: getattr(anabranch, name) for name in anabranch.__all__}
    logger = logging.getLogger("seed")
    return {
        **ours,
        **THEIRS,
        "manager": manager,
        "logger": logger,
        "asyncio": asyncio,
        "logging": logging,
        "path": str(pdf),
        "pdf_path": str(pdf),
    }


# 1, 2: the configuration -----------------------------------------------------------------------


def variables_of(text: str) -> dict[str, str]:
    """Read a block of variables as a shell does."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return dict(line.split("=", 1) for line in lines if line)


async def test_seed_the_variables(block: Block) -> None:
    found = variables_of(block(1))
    assert len(found) == 7
    assert ConcurrencyManagerConfig.from_env(found) == ConcurrencyManagerConfig()


async def test_seed_the_config(block: Block) -> None:
    renamed = {"ConcurrencyConfig": ConcurrencyManagerConfig, "os": os}
    if os.cpu_count() == 1:
        pytest.skip("the block asks for one process less than there are cores: none here")
    config = (await execute(block(2), renamed))["config"]
    assert config.cpu_workers == (os.cpu_count() or 2) - 1
    assert (config.io_workers, config.chunk_processor_workers) == (20, 16)


# 3, 6, 7, 11, 12, 18: calls ----------------------------------------------------------------------


async def test_seed_the_three_lanes(block: Block, known: dict[str, Any]) -> None:
    text = block(3).replace("from pipeline import get_concurrency_manager", "")
    names = await execute(text, known)
    assert names["result"][1] == stand_ins.concepts_list
    assert names["result"][0] != os.getpid()
    assert names["pdf_data"] == b"%PDF"
    assert names["results"] == [[n] for n in range(6)]


@pytest.mark.asyncio_only
async def test_seed_the_code_that_is_left_behind(block: Block, known: dict[str, Any]) -> None:
    executor = {"ThreadPoolExecutor": ThreadPoolExecutor, "func": stand_ins.double}
    names = await execute(block(6), {**known, **executor})
    assert names["result"] == (os.getpid(), "data")
    assert [future.result() for future in names["futures"]] == [2 * n for n in range(12)]


async def test_seed_the_code_that_takes_its_place(block: Block, known: dict[str, Any]) -> None:
    names = await execute(block(7), {**known, "func": stand_ins.double})
    assert names["result"][0] != os.getpid()
    assert names["results"] == [2 * n for n in range(12)]


async def test_seed_a_lane_for_each_kind(block: Block, known: dict[str, Any]) -> None:
    manager: ConcurrencyManager = known["manager"]
    await execute(block(11), {**known, "chunk": 1})
    done = {name: stats["tasks_completed"] for name, stats in manager.get_stats().items()}
    assert done == {"cpu": 1, "io": 1, "chunk": 1}


async def test_seed_items_one_by_one_or_at_once(block: Block, known: dict[str, Any]) -> None:
    names = await execute(block(12), known)
    assert names["results"] == stand_ins.items
    assert known["manager"].get_stats()["cpu"]["tasks_completed"] == 24


async def test_seed_one_lane_after_another(block: Block, known: dict[str, Any]) -> None:
    names = await execute(block(18), known)
    pid, found = await names["process_file"](known["path"])
    assert (pid != os.getpid(), found) == (True, b"%PDF")


# 4, 10, 16, 17: chunks -------------------------------------------------------------------------


async def test_seed_progress(block: Block, known: dict[str, Any]) -> None:
    trackers: list[ProgressTracker] = []

    class Kept(ProgressTracker):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            trackers.append(self)

    batches = [stand_ins.chunks[:4], stand_ins.chunks[4:]]
    batch = {"batches": batches, "process_batch": stand_ins.process_chunk}
    names = await execute(block(4), {**known, "ProgressTracker": Kept, **batch})
    assert names["results"] == batches[1]
    assert (trackers[0].done, trackers[0].total) == (6, 6)


async def test_seed_a_profile(
    block: Block, known: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    profiled = ProcessingConfig(enable_profiling=True)
    processor = await process_chunks_async(
        stand_ins.chunks, stand_ins.extract_concepts, config=profiled, manager=known["manager"]
    )
    with caplog.at_level(logging.DEBUG, "seed"):
        names = await execute(block(10), {**known, "processor": processor})
    assert names["config"] == profiled
    assert names["stats"]["processed"] == 6
    assert "Processing stats" in caplog.text


async def test_seed_important_chunks_first(block: Block, known: dict[str, Any]) -> None:
    names = await execute(block(16), {**known, "process": stand_ins.extract_concepts})
    assert names["high_priority_results"] == [[1], [3], [5]]
    assert names["regular_results"] == [[0], [2], [4]]


async def test_seed_smaller_batches_under_load(block: Block, known: dict[str, Any]) -> None:
    seen: list[list[int]] = []

    async def process_batch(batch: list[int]) -> None:
        seen.append(batch)

    await execute(block(17), {**known, "process_batch": process_batch})
    size = len(seen[0])
    assert size in (5, 10)
    assert [item for batch in seen for item in batch] == stand_ins.items


# 5, 13, 19: what fails -------------------------------------------------------------------------


async def test_seed_a_circuit_breaker(
    block: Block, known: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    breakers: list[CircuitBreaker] = []

    class Kept(CircuitBreaker):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            breakers.append(self)

    await execute(block(5), {**known, "CircuitBreaker": Kept})
    assert "Circuit breaker open: no route" in caplog.text
    assert breakers[0].failures == 1


@pytest.mark.asyncio_only
async def test_seed_errors_beside_results(
    block: Block, known: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    names = await execute(block(13), known)
    assert [type(each).__name__ for each in names["results"]].count("ValueError") == 1
    assert "Chunk 3 failed: chunk three is broken" in caplog.text


@pytest.mark.asyncio_only
async def test_seed_a_call_that_takes_too_long(
    block: Block, known: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shortened = block(19).replace("30.0", "0.3")
    await execute(shortened, {**known, "data": 30})
    assert "Task timed out" in caplog.text
    assert await known["manager"].run_cpu(stand_ins.double, 2) == 4


# 8, 9, 14, 15: what it tells, and its end --------------------------------------------------------


async def test_seed_its_stats(
    block: Block, known: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    await known["manager"].map_io(stand_ins.double, range(4))
    names = await execute(block(8), known)
    assert list(names["stats"]) == ["cpu", "io", "chunk"]
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("io: {'tasks_submitted': 4, 'tasks_completed': 4,")
    assert "'success_rate': 100.0" in line


async def test_seed_its_logger(block: Block) -> None:
    await execute(block(9), {})
    logging.getLogger("tori.ingest_pdf.concurrency").setLevel(logging.NOTSET)


async def test_seed_its_throttle(block: Block, known: dict[str, Any]) -> None:
    await execute(block(14), known)
    assert known["manager"]._throttle_factor == known["manager"].throttle_factor


async def test_seed_its_end(block: Block, known: dict[str, Any]) -> None:
    names = await execute(block(15), known)
    for ended in (known["manager"], names["manager"]):
        with pytest.raises(SchedulerClosedError):
            await ended.run_io(stand_ins.double, 1)
