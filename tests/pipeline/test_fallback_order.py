"""When a fallback is called: next, for its branch is under way already."""

from __future__ import annotations

from typing import Any

import anyio

from anabranch import Pipeline, Step


async def test_a_fallback_goes_ahead_of_all_that_are_queued_the_urgent_too() -> None:
    called: list[str] = []

    async def main(data: Any) -> None:
        called.append("main")
        raise ConnectionError

    async def instead(data: Any) -> str:
        called.append("instead")
        return "instead"

    def other(name: str) -> Any:
        async def call(data: Any) -> str:
            called.append(name)
            await anyio.sleep(1)
            return name

        return call

    step = Step.parallel(
        {"a": Step("a", main, fallback=instead), "b": other("b"), "c": other("c")},
        max_concurrency=1,
        priorities={"a": 5, "c": 5},
    )
    result = await Pipeline([step]).run(None)
    assert result.success
    assert called == ["main", "instead", "c", "b"]
