"""Measure the lanes of threads and processes against the pools of the standard library."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

from anabranch import ConcurrencyManager, ConcurrencyManagerConfig, Job, open_scheduler
from tests.bench._core import Case, Tell
from tests.bench._extent import Extent
from tests.bench._measure import Took, run_on, spread
from tests.bench._report import Row
from tests.bench._subjects import LOOPS

READERS = 20
PROCESSES = 2
IO_BAR = 1.1
MAP_CPU_BAR = 1.2
PROCESSES_BAR = 1.3

Once = Callable[[], float]
OnLoop = Callable[[int, float, bool], Awaitable[float]]


def spawned() -> Executor:
    """Make a pool of processes, started as ours are."""
    return ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"))


def theirs(pool: Callable[[], Executor], size: int, seconds: float, warm: bool) -> Once:
    """Map sleeps by an executor, its start not counted if ``warm``."""

    def timed() -> float:
        with pool() as executor:
            if warm:
                list(executor.map(time.sleep, [0.05] * READERS))
            start = time.perf_counter()
            list(executor.map(time.sleep, [seconds] * size))
            return time.perf_counter() - start

    return timed


def ours(on_loop: OnLoop, loop: str, size: int, seconds: float, warm: bool) -> Once:
    """Do the same in a loop of its own."""

    async def timed() -> Took:
        return Took(0.0, await on_loop(size, seconds, warm))

    return lambda: run_on(loop, timed).wall


async def mapped(lane: str, size: int, seconds: float, warm: bool) -> float:
    """Map by a manager; not throttled, or what else runs here would be measured with it."""
    config = ConcurrencyManagerConfig(
        cpu_workers=PROCESSES, io_workers=READERS, enable_auto_throttle=False
    )
    async with ConcurrencyManager(config) as manager:
        run = manager.map_io if lane == "io" else manager.map_cpu
        if warm:
            await run(time.sleep, [0.05] * READERS)
        start = time.perf_counter()
        await run(time.sleep, [seconds] * size)
        return time.perf_counter() - start


async def scheduled(size: int, seconds: float, warm: bool) -> float:
    """Run jobs in the cpu lane."""
    for count, each in ((PROCESSES, 0.05), (size, seconds)) if warm else ((size, seconds),):
        start = time.perf_counter()
        async with open_scheduler(PROCESSES) as scheduler:
            scheduler.feed(Job(str(i), time.sleep, (each,), lane="cpu") for i in range(count))
            async for outcome in scheduler.outcomes:
                assert outcome.status == "succeeded", outcome
    return time.perf_counter() - start


def compared(
    case: str,
    size: int,
    subjects: Mapping[str, Once],
    extent: Extent,
    tell: Tell,
    bar: float,
    rounds: int,
) -> Iterator[Row]:
    """Time subjects in turns; each is compared with the first one."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name, once in subjects.items() if number % 2 else reversed(subjects.items()):
            tell(f"round {number + 1} of {rounds}, {name}")
            taken[name].append(once())
    against = next(iter(subjects))
    for name, seconds in taken.items():
        pairs = zip(seconds, taken[against], strict=True)
        yield Row(
            case=case,
            size=size,
            subject=name,
            value=spread(seconds).median * 1e3,
            unit="ms wall",
            against="" if name == against else against,
            ratio=None if name == against else spread([one / other for one, other in pairs]),
            bar=bar if extent.bars and name != against else None,
        )


def map_io(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How long 1,000 sleeps of 5 ms take, 20 at once, against ThreadPoolExecutor.map."""
    size = extent.mapped_io
    pool = partial(ThreadPoolExecutor, READERS)
    subjects = {"ThreadPoolExecutor.map": theirs(pool, size, 0.005, True)}
    for loop in LOOPS:
        on_loop = partial(mapped, "io")
        subjects[f"map_io on {loop}"] = ours(on_loop, loop, size, 0.005, True)
    return compared("map_io", size, subjects, extent, tell, IO_BAR, extent.lane_rounds)


def map_cpu(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How long 200 calls of 20 ms take in processes, against ProcessPoolExecutor.map."""
    size = extent.mapped_cpu
    for warm in (True, False):
        how = "warm" if warm else "cold"
        subjects = {f"ProcessPoolExecutor.map, {how}": theirs(spawned, size, 0.02, warm)}
        for loop in LOOPS:
            on_loop = partial(mapped, "cpu")
            subjects[f"map_cpu on {loop}, {how}"] = ours(on_loop, loop, size, 0.02, warm)
        rounds = max(1, extent.lane_rounds // 2)
        yield from compared("map_cpu", size, subjects, extent, tell, MAP_CPU_BAR, rounds)


def processes(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How long 40 calls of 50 ms and 2,000 of 1 ms take in the cpu lane, warm."""
    for size, seconds in extent.processed:
        subjects = {
            f"ProcessPoolExecutor, {seconds * 1e3:g} ms": theirs(spawned, size, seconds, True)
        }
        for loop in LOOPS:
            name = f"cpu lane on {loop}, {seconds * 1e3:g} ms"
            subjects[name] = ours(scheduled, loop, size, seconds, True)
        rounds = max(1, extent.lane_rounds // 2)
        yield from compared("processes", size, subjects, extent, tell, PROCESSES_BAR, rounds)


POOLS = (
    Case("map_io", "1,000 sleeps of 5 ms, 20 at once, against ThreadPoolExecutor.map", map_io),
    Case("map_cpu", "200 calls of 20 ms in 2 processes, against ProcessPoolExecutor.map", map_cpu),
)
CASES = (
    Case("processes", "calls in the cpu lane, against ProcessPoolExecutor by spawn", processes),
)
