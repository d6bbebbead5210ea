"""Measure subjects side by side: in turns, in one process, each sample in a running loop.

The machine is shared and noisy, so nothing is ever told absolutely: a ratio is taken between
two samples of one round, which lie next to each other in time, and the median of the rounds counts.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import attrs
import trio

Once = Callable[[], Awaitable[object]]


@attrs.frozen
class Subject:
    """Something that is measured.

    ``prepare`` opens what it needs, before the clock starts, and gives what is called and awaited.
    ``rounds`` is how many rounds it takes part in; None for all.
    """

    name: str
    loop: str
    prepare: Callable[[], AbstractContextManager[Once]]
    rounds: int | None = None


@attrs.frozen
class Took:
    """Tell what one sample cost, in seconds: ``cpu`` of all threads of this process, and wall."""

    cpu: float
    wall: float


@attrs.frozen
class Spread:
    """Tell the median of several values, and the quartiles around it."""

    low: float
    median: float
    high: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Summarise values; of less than four the quartiles are the least and the largest."""
    if len(values) < 4:
        return Spread(min(values), statistics.median(values), max(values), len(values))
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, statistics.median(values), high, len(values))


def run_on(loop: str, fn: Callable[[], Awaitable[Took]]) -> Took:
    """Run ``fn`` on a fresh loop, without a library between it and the loop."""
    return trio.run(fn) if loop == "trio" else asyncio.run(fn())


def sample(subject: Subject, times: int, warm_up: int) -> Took:
    """Call the subject ``times`` times in one loop; the loop's start and end are not counted.

    Each subject starts with a collected heap that holds nothing of the others, and the
    collector is on while it is measured, as it is in a user's program.
    """

    async def measured() -> Took:
        for _ in range(warm_up):
            await once()
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            await once()
        return Took(time.process_time() - cpu, time.perf_counter() - wall)

    with subject.prepare() as once:
        return run_on(subject.loop, measured)


def in_turns(
    subjects: Sequence[Subject],
    *,
    rounds: int,
    times: int,
    warm_up: int = 0,
    tell: Callable[[str], None],
) -> dict[str, list[Took]]:
    """Sample every subject once a round, forwards and backwards in turn."""
    taken: dict[str, list[Took]] = {subject.name: [] for subject in subjects}
    assert len(taken) == len(subjects), "two subjects have one name"
    for number in range(rounds):
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            if subject.rounds is None or number < subject.rounds:
                tell(f"round {number + 1} of {rounds}, {subject.name}")
                taken[subject.name].append(sample(subject, times, warm_up))
    return taken


def ratios(
    taken: Mapping[str, Sequence[Took]], name: str, against: str, clock: str = "cpu"
) -> Spread:
    """Compare two subjects round by round."""
    pairs = zip(taken[name], taken[against], strict=False)
    return spread([getattr(ours, clock) / getattr(theirs, clock) for ours, theirs in pairs])
