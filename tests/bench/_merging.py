"""Measure what it costs to merge the contexts of many branches, against copying them once."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import trio

from anabranch import MergeStrategy, Pipeline, Step
from anabranch.pipeline._fields import with_changes
from anabranch.pipeline._merge_step import Merge
from anabranch.pipeline._merge_terms import MergeTerms
from tests.bench._core import GROWTH_BAR, Case, Tell, exponent, measured
from tests.bench._extent import Extent
from tests.bench._measure import Once, Subject, in_turns, spread
from tests.bench._report import Row
from tests.bench._subjects import LOOPS, keys_of

FIELDS, CHANGED = 100, 3
MERGE_BAR = 1.0
OVERWRITE = MergeStrategy.OVERWRITE
CHECKPOINTS: dict[str, Callable[[], Awaitable[Any]]] = {
    "trio": trio.lowlevel.checkpoint,
    "asyncio": lambda: asyncio.sleep(0),
}


def context_of(fields: int = FIELDS) -> dict[str, Any]:
    """Make a context; each tenth field is a list, and the others are strings."""
    return {f"f{i}": [i, i, i] if i % 10 == 0 else f"value {i}" for i in range(fields)}


def change(context: dict[str, Any], number: int) -> None:
    """Change three fields, other ones in each branch: a list in place, and two strings."""
    context[f"f{number % 10 * 10}"].append(number)
    for i in (1, 2):
        context[f"f{(number * 7 + i) % 10 * 10 + i}"] = f"new {number}"


def copies(size: int) -> Subject:
    """Copy the context with the standard library, once for each branch."""
    context = context_of()

    async def once() -> None:
        for _ in range(size):
            copy.deepcopy(context)

    return Subject("copy.deepcopy of the context, for each", "trio", lambda: nullcontext(once))


def merge(loop: str, size: int) -> Subject:
    """Tell what each branch changed, and put it together; the branches have ended before."""

    def prepare() -> AbstractContextManager[Once]:
        context, keys = context_of(), keys_of(size)
        merging = Merge("bench", MergeTerms(strategy=OVERWRITE), context)
        branches = [merging.copy(key) for key in keys]
        for number, branch in enumerate(branches):
            change(branch.context, number)

        async def once() -> None:
            for key, branch in zip(keys, branches, strict=True):
                merging.note(key, branch, branch.context)
            changes = await merging.changes(keys, CHECKPOINTS[loop])
            merged = with_changes(dict(context), changes)
            assert len(changes) == min(30, CHANGED * size)
            assert merged["f1"] != context["f1"] or size < 10

        return nullcontext(once)

    return Subject(f"merge on {loop}", loop, prepare)


def step(loop: str, size: int, strategy: MergeStrategy) -> Subject:
    """Run a whole step whose branches change their contexts."""

    def prepare() -> AbstractContextManager[Once]:
        async def branch(number: int, *, context: Any) -> None:
            change(context, number)

        part = Step("branch", branch)
        branches = dict.fromkeys(keys_of(size), part)
        fan = Step.parallel(branches, merge_strategy=strategy, max_concurrency=10)
        pipeline = Pipeline([fan])

        async def once() -> None:
            assert (await pipeline.run(3, context=context_of())).success

        return nullcontext(once)

    return Subject(f"Step.parallel on {loop}, {strategy.name}", loop, prepare)


def merging(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU for each branch to merge 3 changes of 100 fields, against a deepcopy of the context."""
    size = extent.merged[0]
    theirs, ours = copies(size), [merge(loop, size) for loop in LOOPS]
    whole = [
        step(loop, size, each) for loop in LOOPS for each in (MergeStrategy.NO_MERGE, OVERWRITE)
    ]
    return measured(
        "merging",
        size,
        [theirs, *ours, *whole],
        extent,
        tell,
        against=lambda _: theirs.name,
        bar=lambda subject: MERGE_BAR if subject in ours else None,
        rounds=extent.rounds,
        times=extent.times_for(size),
        per=size,
    )


def growth(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How CPU grows with the number of branches that merge: the exponent."""
    curves: dict[str, list[list[float]]] = {}
    for _ in range(extent.big_rounds):
        for size in extent.merged:
            times = max(1, extent.merged[-1] // size)
            subjects = [merge(loop, size) for loop in LOOPS]
            taken = in_turns(subjects, rounds=1, times=times, warm_up=1, tell=tell)
            for name, tooks in taken.items():
                curves.setdefault(name, []).append([tooks[0].cpu / times])
    for name, points in curves.items():
        cpu = [point for (point,) in points]
        rounds = [cpu[i : i + len(extent.merged)] for i in range(0, len(cpu), len(extent.merged))]
        exponents = spread([exponent(extent.merged, each) for each in rounds])
        yield Row(
            case="merge growth",
            size=extent.merged[-1],
            subject=name,
            value=exponents.median,
            unit="exponent",
            ratio=exponents,
            bar=GROWTH_BAR if extent.bars else None,
        )


CASES = (
    Case("merging", "merging 3 changes of 100 fields, CPU per branch, against deepcopy", merging),
    Case("merge growth", "growth of the merge's CPU with the number of branches", growth),
)
