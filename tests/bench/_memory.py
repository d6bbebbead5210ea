"""Stream a lazy map_over in a process of its own, whose memory holds nothing else.

Usage: python -m tests.bench._memory trio|asyncio ITEMS [plain|async]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import trio

from anabranch import Pipeline, Step
from tests.bench._subjects import CHECKPOINT, LIMIT

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = 200
MB = 2**20


async def counted(items: int) -> AsyncIterator[int]:
    """Yield without ever suspending: a feed that must be held back by whoever pulls."""
    for item in range(items):
        yield item


async def stream(loop: str, items: int, kind: str) -> dict[str, float]:
    """Run a branch for each item, read every outcome, and sample the memory on the way."""
    lazy = counted if kind == "async" else lambda items: iter(range(items))
    rss = psutil.Process().memory_info
    step = Step.map_over(
        "stream", CHECKPOINT[loop], items=lambda _: lazy(items), max_concurrency=LIMIT
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


class ChildFailedError(Exception):
    """The child ended with an error; its last line says which."""


def in_child(loop: str, items: int, kind: str) -> dict[str, float]:
    """Run this module as a child process, and return what it printed."""
    argv = [sys.executable, "-m", __name__, loop, str(items), kind]
    path = os.pathsep.join(part for part in sys.path if part)
    env = {**os.environ, "PYTHONPATH": path}
    child = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if child.returncode:
        words = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise ChildFailedError(words[-1])
    found: dict[str, float] = json.loads(child.stdout)
    return found


def growth_of(start: int, taken: list[int]) -> dict[str, float]:
    """Tell the peak over the start, and what the second half has over the first, in MB.

    The first tenth is left out of the halves: caches fill there.
    """
    steady = taken[len(taken) // 10 :]
    middle = max(1, len(steady) // 2)
    drift = statistics.median(steady[middle:] or steady) - statistics.median(steady[:middle])
    return {"growth_mb": (max(taken) - start) / MB, "drift_mb": drift / MB}


if __name__ == "__main__":
    chosen, number, kind = (*sys.argv[1:], "plain")[:3]
    found = (
        trio.run(stream, chosen, int(number), kind)
        if chosen == "trio"
        else asyncio.run(stream(chosen, int(number), kind))
    )
    print(json.dumps(found))
