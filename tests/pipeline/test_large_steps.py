"""A large step lets the loop go round while it is made, queued and folded.

Turns of the loop are counted by a companion task. Time is virtual, so it stands still while a
step works, and no hand makes way for the loop: the turns are those between slices.
Which of two tasks comes first in a turn is trio's to choose, so one turn is nobody's.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint

from anabranch import Pipeline, PipelineResult, Step
from anabranch._scheduler import EVENTS_AT_ONCE
from anabranch.events import StepFinished
from anabranch.pipeline._parallel import SLICE

SLICES = 6
COUNT = SLICES * SLICE


@attrs.define
class Turns:
    """Count how often the loop has gone round: in all, at the first branch, the last, the end."""

    now: int = 0
    at_first: int | None = None
    at_last: int = 0
    at_end: int = 0
    count: int = 0  # of branches that were called

    async def branch(self, data: Any) -> Any:
        if self.at_first is None:
            self.at_first = self.now
        self.at_last = self.now
        self.count += 1
        return data


async def run_beside(turns: Turns, step: Any, **options: Any) -> PipelineResult[Any]:
    async def companion() -> None:
        while True:
            await checkpoint()
            turns.now += 1

    async with anyio.create_task_group() as group:
        group.start_soon(companion)
        await checkpoint()
        turns.now = 0
        result = await Pipeline([step]).run(1, **options)
        turns.at_end = turns.now
        group.cancel_scope.cancel()
    return result


def large_step(turns: Turns, count: int, **options: Any) -> Any:
    branches = dict.fromkeys(map(str, range(count)), turns.branch)
    return Step.parallel("large", branches, timeout=None, **options)


@pytest.mark.slow
async def test_the_loop_goes_round_between_slices_of_a_large_step() -> None:
    turns = Turns()
    result = await run_beside(turns, large_step(turns, COUNT, max_concurrency=10))
    assert set(result.output.values()) == {1}
    assert list(result.output) == list(map(str, range(COUNT)))
    assert turns.at_first is not None
    assert turns.at_first >= SLICES - 2, "while it was made"
    assert turns.at_end - turns.at_last >= SLICES - 1, "while it was folded"


@pytest.mark.slow
async def test_the_loop_goes_round_between_slices_of_a_large_map() -> None:
    turns = Turns()
    items = Step.map_over("m", turns.branch, items=[1] * COUNT, max_concurrency=10)
    result = await run_beside(turns, items)
    assert result.output == [1] * COUNT
    assert turns.at_end - turns.at_last >= 3 * SLICES - 1, "counted, put out, and put in order"


@pytest.mark.slow
async def test_the_loop_goes_round_while_an_observer_is_told_what_is_queued() -> None:
    turns = Turns()
    step = large_step(turns, SLICE, max_concurrency=10)
    await run_beside(turns, step, observer=lambda event: None)
    assert turns.at_first is not None
    assert turns.at_first >= SLICE // EVENTS_AT_ONCE - 1


async def test_a_small_step_asks_for_no_turn_of_its_own() -> None:
    turns = Turns()
    await run_beside(turns, large_step(turns, 3, max_concurrency=2))
    assert turns.at_first is not None
    assert turns.at_first <= 1
    assert turns.at_end - turns.at_last <= 2  # of which its nursery needs one


@pytest.mark.slow
@pytest.mark.parametrize("later", [2, SLICES])
async def test_a_step_that_is_cancelled_while_it_is_folded_has_ended(later: int) -> None:
    turns = Turns()
    ends: list[str] = []

    def observer(event: Any) -> None:
        if isinstance(event, StepFinished):
            ends.append(event.status)

    async def strike(scope: anyio.CancelScope) -> None:
        while turns.count < COUNT or turns.now < turns.at_last + later:
            await checkpoint()
            turns.now += 1
        scope.cancel()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(strike, scope)
            step = large_step(turns, COUNT, max_concurrency=10)
            await Pipeline([step]).run(1, observer=observer)
    assert scope.cancelled_caught
    give_up = time.monotonic() + 5  # the observer has a thread of its own
    while not ends and time.monotonic() < give_up:
        time.sleep(0.01)
    assert ends == ["cancelled"]
