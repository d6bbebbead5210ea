"""Measure what priorities cost, and what rules, budgets and retries cost a step without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from anabranch import ConcurrencyConfig, Pipeline, Step
from tests.bench import _subjects, _unused
from tests.bench._core import Case, Tell, measured
from tests.bench._extent import Extent
from tests.bench._measure import Once, Subject, spread
from tests.bench._report import Row
from tests.bench._subjects import CHECKPOINT, LIMIT, LOOPS

PRIORITIES_BAR = 1.3
UNUSED_BAR = 1.05
URGENCY = {"*9": 10, "*7": 5, "*1": -5}


def urgent(loop: str, size: int) -> Subject:
    """Run a step in which three branches of ten have a priority."""

    def prepare() -> AbstractContextManager[Once]:
        part = Step("branch", CHECKPOINT[loop])
        branches = dict.fromkeys(_subjects.keys_of(size), part)
        globs = {glob: priority for glob, priority in URGENCY.items() if size > 10}
        step = Step.parallel(branches, concurrency=ConcurrencyConfig(LIMIT), priorities=globs)
        pipeline = Pipeline([step])

        async def once() -> None:
            assert (await pipeline.run(1)).success

        return nullcontext(once)

    return Subject(f"Step.parallel with priorities on {loop}", loop, prepare)


def priorities(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU for each branch where three of ten have a priority, against a step without."""
    size = extent.sizes[-1]
    plain = {loop: _subjects.step(loop, size, CHECKPOINT) for loop in LOOPS}
    ours = [urgent(loop, size) for loop in LOOPS]
    yield from measured(
        "priorities",
        size,
        [*plain.values(), *ours],
        extent,
        tell,
        against=lambda subject: plain[subject.loop].name,
        bar=lambda subject: PRIORITIES_BAR if subject in ours else None,
        rounds=extent.rounds_for(size),
        per=size,
    )


def unused(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU for each branch of a step that uses none of it, against the commit before it came."""
    for size in extent.unused:
        for loop in LOOPS:
            tell(f"{size:,} on {loop}")
            now, before = _unused.compare(loop, size, extent.unused_rounds)
            least = min(now) / min(before)
            yield Row(
                case="unused",
                size=size,
                subject=f"Step.parallel on {loop}",
                value=min(now),
                unit="us cpu, least",
                against=f"commit {_unused.BEFORE}",
                ratio=spread([least]),
                bar=UNUSED_BAR if extent.bars else None,
            )


CASES = [
    Case("priorities", "priorities", priorities),
    Case("unused", "rules, budgets, retries and merging, where they are not used", unused),
]
