"""Moments of branches that wait: each has its own, and who is due at once keeps its place."""

from __future__ import annotations

from typing import Any

import anyio

from anabranch import Job, Retry
from anabranch._open import open_scheduler
from tests.branches import read


class Calls:
    """Fail the first time that each name comes, and note who is called when."""

    def __init__(self) -> None:
        self.began = anyio.current_time()
        self.made: list[tuple[str, float]] = []

    async def __call__(self, name: str) -> None:
        again = any(name == each for each, _ in self.made)
        self.made.append((name, round(anyio.current_time() - self.began, 3)))
        if not again:
            raise ConnectionError(name)


def waits(seconds: float) -> Retry:
    return Retry(2, seconds, seconds, 0.0, budget=None)


async def run(limit: int, jobs: dict[str, float]) -> list[tuple[str, float]]:
    calls: Any = Calls()
    async with open_scheduler(limit) as scheduler:
        for name, seconds in jobs.items():
            scheduler.submit(Job(name, calls, (name,), retry=waits(seconds)))
        await read(scheduler)
    return calls.made


async def test_of_those_that_are_due_at_once_the_first_to_have_come_is_called_first() -> None:
    names = ("a", "b", "c")
    made = await run(1, dict.fromkeys(names, 1.0))
    assert made == [(name, at) for at in (0.0, 1.0) for name in names]


async def test_who_is_due_earlier_does_not_wait_for_who_was_there_before() -> None:
    made = await run(1, {"late": 10.0, "early": 1.0, "between": 5.0})
    assert made[3:] == [("early", 1.0), ("between", 5.0), ("late", 10.0)]


async def test_a_branch_that_has_begun_is_not_rejected_any_more() -> None:
    async def runs() -> str:
        await anyio.sleep(5)
        return "done"

    async with open_scheduler(1) as scheduler:
        for key in ("first", "second"):
            scheduler.submit(Job(key, runs, queue_timeout=1.0))
        found = await read(scheduler)
    assert {key: str(each.status) for key, each in found.items()} == {
        "first": "succeeded",
        "second": "rejected",
    }
