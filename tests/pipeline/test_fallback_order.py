"""When a further attempt, or a fallback, is called: its branch is under way already."""

from __future__ import annotations

from typing import Any

import anyio

from anabranch import Pipeline, Retry, Step


async def test_a_fallback_goes_ahead_of_all_that_are_queued_the_urgent_too() -> None:
    called: list[str] = []

    async def main(data: Any) -> None:
        called.append("main")
        await anyio.sleep(2)
        raise ConnectionError

    async def instead(data: Any) -> str:
        called.append("instead")
        return "instead"

    async def urgent(data: Any) -> None:
        called.append("urgent")
        if called.count("urgent") == 1:
            raise ConnectionError

    async def other(data: Any) -> None:
        called.append("other")

    step = Step.parallel(
        {
            "a": Step("a", main, fallback=instead),
            "b": other,
            "u": Step("u", urgent, retry=Retry(attempts=2, wait=1.0, jitter=0)),
        },
        max_concurrency=1,
        priorities={"a": 5, "u": 9},
    )
    result = await Pipeline([step]).run(None)
    assert result.success
    assert called == ["urgent", "main", "instead", "urgent", "other"]


async def test_further_attempts_are_made_in_the_order_in_which_they_fell_due() -> None:
    called: list[str] = []

    def flaky(name: str) -> Any:
        async def call(data: Any) -> None:
            called.append(name)
            if called.count(name) == 1:
                raise ConnectionError

        return call

    async def long(data: Any) -> None:
        called.append("long")
        await anyio.sleep(10)

    waits = {"late": 3.0, "early": 1.0, "middle": 2.0, "at once": 0.0}
    branches: dict[str, Any] = {
        name: Step(name, flaky(name), retry=Retry(attempts=2, wait=wait, jitter=0))
        for name, wait in waits.items()
    }
    step = Step.parallel({**branches, "long": long, "new": flaky("new")}, max_concurrency=1)
    await Pipeline([step]).run(None)
    assert called[:6] == ["late", "early", "middle", "at once", "at once", "long"]
    assert called[6:] == ["early", "middle", "late", "new"]
