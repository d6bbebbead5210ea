"""A step leaves nothing to the garbage collector, whose pauses would cost more than the step."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import trio

from anabranch import ConcurrencyConfig, Pipeline, Step


def branch_of(loop: str) -> Any:
    async def branch(data: int) -> int:
        await (trio.lowlevel.checkpoint() if loop == "trio" else asyncio.sleep(0))
        return data

    return branch


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize("width", [1, 2, 20])
@pytest.mark.parametrize("options", [{}, {"priorities": {"1*": 3}}, {"timeout": None}])
def test_a_step_leaves_no_ring(loop: str, width: int, options: dict[str, Any]) -> None:
    branches = {f"1{i}": branch_of(loop) for i in range(width)}
    concurrency = ConcurrencyConfig(10)
    pipeline = Pipeline([Step.parallel(branches, concurrency=concurrency, **options)])

    async def main() -> int:
        for _ in range(3):
            await pipeline.run(1)
        gc.disable()
        gc.freeze()  # what other tests have left is not looked through
        try:
            for _ in range(5):
                await pipeline.run(1)
            return gc.collect()
        finally:
            gc.enable()

    found = trio.run(main) if loop == "trio" else asyncio.run(main())
    assert found == 0
