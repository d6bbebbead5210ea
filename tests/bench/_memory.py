"""Stream a lazy map_over in this process and print how its memory grew: a child of `_core.memory`.

Usage: python -m tests.bench._memory trio|asyncio ITEMS
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import psutil
import trio

from anabranch import Pipeline, Step
from tests.bench._subjects import CHECKPOINT, LIMIT

SAMPLES = 200
MB = 2**20


async def stream(loop: str, items: int) -> dict[str, float]:
    """Run a branch for each item, read every outcome, and sample the memory on the way."""
    rss = psutil.Process().memory_info
    step = Step.map_over(
        "stream", CHECKPOINT[loop], items=lambda _: iter(range(items)), max_concurrency=LIMIT
    )
    pipeline = Pipeline([step])
    await Pipeline([Step("first", CHECKPOINT[loop])]).run(1)
    every, count = max(1, items // SAMPLES), 0
    start, cpu = rss().rss, time.process_time()
    taken: list[int] = []
    async with pipeline.open(None) as run:
        async for outcome in run.outcomes:
            assert outcome.value is not None
            count += 1
            if count % every == 0:
                taken.append(rss().rss)
    cpu = time.process_time() - cpu
    assert count == items, f"{count} outcomes of {items} items"
    assert run.result.success, run.result
    return {**growth_of(start, taken), "cpu_us": cpu / items * 1e6}


def growth_of(start: int, taken: list[int]) -> dict[str, float]:
    """Tell the peak over the start, and what the second half has over the first, in MB.

    The first tenth is left out of the halves: caches fill there.
    """
    steady = taken[len(taken) // 10 :]
    middle = max(1, len(steady) // 2)
    drift = statistics.median(steady[middle:] or steady) - statistics.median(steady[:middle])
    return {"growth_mb": (max(taken) - start) / MB, "drift_mb": drift / MB}


if __name__ == "__main__":
    chosen, number = sys.argv[1], int(sys.argv[2])
    found = (
        trio.run(stream, chosen, number)
        if chosen == "trio"
        else asyncio.run(stream(chosen, number))
    )
    print(json.dumps(found))
