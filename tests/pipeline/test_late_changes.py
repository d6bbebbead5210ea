"""See that nothing comes back of what a thread changes after its fallback has taken over."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from anabranch import MergeStrategy, Pipeline, Step
from anabranch._host import current_host
from anabranch.lanes._thread import io_lane

UPDATE = MergeStrategy.CONTEXT_UPDATE


def whole(context: Any, branches: dict[str, Any]) -> None:
    """Merge by hand: take what each branch has."""
    for each in branches.values():
        context.update(each)


@pytest.mark.real_clock
@pytest.mark.parametrize("strategy", [UPDATE, whole])
@pytest.mark.parametrize("by", ["fallback", "nobody"])
async def test_a_thread_that_was_given_up_changes_nothing(by: str, strategy: Any) -> None:
    over, fell_back = threading.Event(), anyio.Event()

    def stuck(_: Any, context: Any) -> None:
        over.wait(5)
        context["by"] = "thread"

    async def sees_it_end(_: Any) -> None:
        await fell_back.wait()
        await anyio.sleep(0.001)  # and has ended
        over.set()
        while io_lane(current_host()).abandoned:
            await anyio.sleep(0.001)

    async def with_context(_: Any, context: Any) -> str:
        context["by"] = "fallback"
        fell_back.set()
        return "fallback"

    async def without_context(_: Any) -> str:
        fell_back.set()
        return "fallback"

    fallback: Any = with_context if by == "fallback" else without_context
    branches = {"a": Step("a", stuck, timeout=0.1, fallback=fallback), "b": sees_it_end}
    context = {"by": "nobody"}
    step = Step.parallel(branches, merge_strategy=strategy)
    result = await Pipeline([step]).run(context=context)
    assert result.output["a"] == "fallback"
    assert context == {"by": by}
