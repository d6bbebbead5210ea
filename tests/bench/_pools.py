"""Measure WorkerPool against ThreadPoolExecutor, and its memory over a million tasks.

As a program, ``python -m tests.bench._pools TASKS``, it is the child whose memory is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from typing import Any

import psutil

from anabranch import WorkerPool, WorkerPoolConfig
from tests.bench._core import FLAT_BAR_MB, MEMORY_BAR_MB, Case, CaseFailedError, Tell
from tests.bench._extent import Extent
from tests.bench._lanes import compared
from tests.bench._memory import ROOT, SAMPLES, growth_of
from tests.bench._report import Row

TRIVIAL_BAR = 2.0
SLEEPS_BAR = 1.1
WORKERS, SLEEPERS = 10, 50
KEPT = 1_000  # results, and tasks that are submitted before they are waited for

Fn = Callable[[], Any]


def nothing() -> None:
    """Be as trivial as a function can be."""


def ten_ms() -> None:
    """Sleep."""
    time.sleep(0.01)


def by_futures(pool: Executor, fn: Fn, size: int) -> float:
    """Submit to an executor and wait; return the seconds that it took."""
    start = time.perf_counter()
    wait([pool.submit(fn) for _ in range(size)])
    return time.perf_counter() - start


def by_ids(pool: WorkerPool, fn: Fn, size: int) -> float:
    """Submit in seed 001's words and wait."""
    start = time.perf_counter()
    for _ in range(size):
        pool.submit_task("task", fn)
    pool.wait_for_all()
    return time.perf_counter() - start


def against_threads(
    case: str, size: int, workers: int, fn: Fn, bar: float, extent: Extent, tell: Tell
) -> Iterator[Row]:
    """Give the same tasks to each kind of pool, in turns; all of them are warm."""
    config = WorkerPoolConfig(max_workers=workers, keep_results=0)
    with ExitStack() as stack:
        theirs = stack.enter_context(ThreadPoolExecutor(workers))
        bare = stack.enter_context(WorkerPool(workers))
        full = stack.enter_context(WorkerPool(config))
        subjects = {
            "ThreadPoolExecutor.submit": partial(by_futures, theirs, fn, size),
            "WorkerPool.submit": partial(by_futures, bare, fn, size),
            "WorkerPool.submit, with timeout and retries": partial(by_futures, full, fn, size),
            "WorkerPool.submit_task, with both": partial(by_ids, full, fn, size),
        }
        for each in subjects.values():
            each()
        yield from compared(case, size, subjects, extent, tell, bar, extent.lane_rounds)


def trivial(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How long 10,000 trivial functions take to be submitted and waited for, by 10 workers."""
    size = extent.pool_tasks
    return against_threads("trivial", size, WORKERS, nothing, TRIVIAL_BAR, extent, tell)


def sleepers(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How long 300 sleeps of 10 ms take, by 50 workers."""
    size = extent.pool_sleeps
    return against_threads("sleepers", size, SLEEPERS, ten_ms, SLEEPS_BAR, extent, tell)


def pool_memory(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How the memory of a process grows that gives tasks to one pool with ``keep_results=1000``."""
    size = extent.items
    tell(f"{size:,} tasks")
    path = os.pathsep.join(part for part in sys.path if part)
    child = subprocess.run(
        [sys.executable, "-m", "tests.bench._pools", str(size)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        raise CaseFailedError(child.stderr.strip().splitlines()[-1])
    found = json.loads(child.stdout)
    bars = {"growth_mb": MEMORY_BAR_MB, "drift_mb": FLAT_BAR_MB} if extent.bars else {}
    says = {"growth_mb": "peak over the start", "drift_mb": "second half over the first"}
    for field, words in says.items():
        row = partial(Row, case="pool_memory", size=size, unit="MB", bar=bars.get(field))
        yield row(subject=f"keep_results={KEPT}: {words}", value=found[field])


def grow(tasks: int) -> dict[str, float]:
    """Give tasks to one pool, a thousand at a time, half of them as futures."""
    rss = psutil.Process().memory_info
    taken: list[int] = []
    with WorkerPool(WorkerPoolConfig(max_workers=WORKERS, keep_results=KEPT)) as pool:
        by_ids(pool, nothing, KEPT)
        start = rss().rss
        every = max(1, tasks // KEPT // SAMPLES)
        for number in range(tasks // KEPT):
            by_ids(pool, nothing, KEPT // 2)
            by_futures(pool, nothing, KEPT // 2)
            if number % every == 0:
                taken.append(rss().rss)
        ended = pool.get_summary_metrics()["completed"]
        assert ended == tasks // KEPT * KEPT + KEPT, ended
        assert len(pool.get_metrics()) == KEPT
    return growth_of(start, taken)


CASES = (
    Case("trivial", "10,000 trivial functions, submitted and waited for", trivial),
    Case("sleepers", "300 sleeps of 10 ms, by 50 workers", sleepers),
    Case("pool_memory", "memory of a pool that keeps 1,000 results", pool_memory),
)

if __name__ == "__main__":
    print(json.dumps(grow(int(sys.argv[1]))))
