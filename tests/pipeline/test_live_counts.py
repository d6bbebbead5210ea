"""What a snapshot of a live run counts: all that ended, read or not, kept or not."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from anabranch import Pipeline, Step


async def sleeps(data: Any) -> Any:
    await anyio.sleep(1)
    return data


@pytest.mark.parametrize("reads", [True, False])
async def test_items_that_have_ended_are_counted_though_they_are_not_kept(reads: bool) -> None:
    pipeline = Pipeline([Step.map_over("each", sleeps, max_concurrency=2)])
    async with pipeline.open(range(6)) as run:
        if reads:
            seen = 0
            async for _ in run.outcomes:
                seen += 1
                for step in run.snapshot().steps:
                    assert step.ended >= seen
        else:
            await anyio.sleep(1.5)
            assert [step.ended for step in run.snapshot().steps] == [2]
    assert run.result.success


async def test_branches_that_have_ended_are_counted_when_they_were_read() -> None:
    pipeline = Pipeline([Step.parallel({"a": sleeps, "b": sleeps, "c": sleeps}, max_concurrency=1)])
    counts = []
    async with pipeline.open(None) as run:
        async for _ in run.outcomes:
            counts += [step.ended for step in run.snapshot().steps]
    assert counts[:2] == [1, 2]
