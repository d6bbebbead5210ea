"""A step that an observer heard begin is heard to end, however it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anabranch import Pipeline, Step
from anabranch.events import Event, StepFinished, StepStarted
from tests.branches import with_begun

BEGUN = threading.Event()


@pytest.fixture(autouse=True)
def _nothing_has_begun() -> None:
    BEGUN.clear()


async def sleep(data: Any) -> None:
    BEGUN.set()
    await anyio.sleep(90)


async def until_it_sleeps() -> None:
    """Wait until a branch has begun, and a moment more, in which others do."""
    while not BEGUN.is_set():
        await anyio.sleep(0.001)
    await anyio.sleep(0.05)


async def fail(data: Any) -> None:
    raise ValueError(data)


STEPS = {
    "alone": Step("s", sleep),
    "with a timeout": Step("s", sleep, timeout=50),
    "one branch": Step.parallel("s", {"a": sleep}),
    "parallel": Step.parallel("s", {"a": sleep, "b": sleep}, max_concurrency=1),
    "map": Step.map_over("s", sleep),
    "nested": Step.parallel(
        "s", {"a": Step.parallel("in", {"b": sleep}), "c": Step.map_over("m", sleep)}
    ),
    "pipelines": Pipeline([Pipeline([Step.parallel("s", {"b": sleep})], name="p")]),
}
each_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


async def heard(run: Callable[[Any], Any]) -> list[Event]:
    """Run with an observer, and return what it heard of steps."""
    events: list[Event] = []
    await run(events.append)
    return [event for event in events if isinstance(event, StepStarted | StepFinished)]


def statuses(events: list[Event]) -> dict[str, str]:
    """Return how each step ended; see that each that began ended once, after that."""
    open_steps: set[str] = set()
    found: dict[str, str] = {}
    for event in events:
        if isinstance(event, StepStarted):
            assert event.step not in open_steps | set(found)
            open_steps.add(event.step)
        else:
            open_steps.remove(event.step)
            found[event.step] = event.status
    assert not open_steps
    return found


@each_step
@pytest.mark.real_clock
async def test_a_step_that_the_pipelines_deadline_stops_has_ended(step: Any) -> None:
    async def attempt(seconds: float, begun: threading.Event) -> dict[str, str]:
        async def run(observer: Any) -> None:
            result = await Pipeline([step]).run([1, 2], observer=observer, timeout=seconds)
            assert not result.success

        found = statuses(await heard(run))
        if BEGUN.is_set():
            begun.set()
        return found

    found = await with_begun(attempt)
    assert found
    assert set(found.values()) == {"cancelled"}


@each_step
@pytest.mark.real_clock
async def test_a_step_that_is_cancelled_from_outside_has_ended(step: Any) -> None:
    async def run(observer: Any) -> None:
        async def cancel(scope: anyio.CancelScope) -> None:
            await until_it_sleeps()
            scope.cancel()

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(cancel, scope)
                await Pipeline([step]).run([1, 2], observer=observer)
        assert scope.cancelled_caught

    found = statuses(await heard(run))
    assert found
    assert set(found.values()) == {"cancelled"}


@each_step
@pytest.mark.asyncio_only
@pytest.mark.real_clock
async def test_a_step_whose_task_is_cancelled_has_ended(step: Any) -> None:
    async def run(observer: Any) -> None:
        task = asyncio.ensure_future(Pipeline([step]).run([1, 2], observer=observer))
        await until_it_sleeps()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    found = statuses(await heard(run))
    assert found
    assert set(found.values()) == {"cancelled"}


@pytest.mark.real_clock
async def test_a_nested_step_that_its_neighbour_outlives_is_told_by_its_own_end() -> None:
    quick = Step.parallel("quick", {"a": fail}, timeout=5)
    slow = Step.parallel("slow", {"b": sleep}, timeout=0.05)
    both = Step.parallel("top", {"x": quick, "y": slow})

    async def run(observer: Any) -> None:
        await Pipeline([both]).run(1, observer=observer)

    assert statuses(await heard(run)) == {
        "x/quick": "failed",
        "y/slow": "timed_out",
        "top": "failed",
    }
