"""A step's deadline strikes whatever its branches wait for, though the loop hears of it late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

import anyio
import pytest

from anabranch import Pipeline, Status, Step
from anabranch.pipeline import StepResult
from tests.branches import with_begun

REASON = "deadline: 1 s (timeout=)"


async def run(step: Any, **options: Any) -> StepResult[Any]:
    with anyio.fail_after(50):
        return (await Pipeline([step]).run("data", **options)).step_history[0]


async def pass_checkpoints_for_ever(_: object) -> None:
    while True:
        await anyio.lowlevel.checkpoint()


async def wait_for_ever(_: object) -> None:
    await anyio.sleep(1000)


async def wait_after_a_checkpoint(_: object) -> None:
    await anyio.lowlevel.checkpoint()
    await anyio.sleep(1000)


async def wait_in_a_nested_step(_: object) -> None:
    inner = Step.parallel({"x": wait_after_a_checkpoint, "y": wait_for_ever}, timeout=None)
    await Pipeline([inner]).run(1)


async def wait_in_a_child(_: object) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(wait_after_a_checkpoint, 1)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize(
    "fn", [wait_for_ever, wait_after_a_checkpoint, wait_in_a_nested_step, wait_in_a_child]
)
async def test_it_strikes_whatever_a_branch_waits_in(fn: Callable[..., Any], width: int) -> None:
    result = await run(Step.parallel({f"b{i}": fn for i in range(width)}, timeout=1))
    assert result.status is Status.TIMED_OUT
    assert {branch.reason for branch in result.branches.values()} == {REASON}


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.real_clock
async def test_it_strikes_branches_that_only_pass_checkpoints(width: int) -> None:
    branches = dict.fromkeys(map(str, range(width)), pass_checkpoints_for_ever)
    result = await run(Step.parallel(branches, timeout=0.05))
    assert result.status is Status.TIMED_OUT
    assert all(branch.status is Status.CANCELLED for branch in result.branches.values())


async def test_it_strikes_while_nothing_has_got_a_token() -> None:
    limiter = anyio.CapacityLimiter(1)
    for width in (1, 2):
        async with limiter:
            branches = {f"b{i}": wait_for_ever for i in range(width)}
            result = await run(Step.parallel(branches, timeout=1), limiter=limiter)
        assert result.status is Status.TIMED_OUT
        assert {branch.attempts for branch in result.branches.values()} == {0}


@pytest.mark.real_clock
async def test_it_strikes_beside_a_thread() -> None:
    end = threading.Event()

    async def attempt(seconds: float, begun: threading.Event) -> Any:
        def work(_: object) -> None:
            begun.set()
            end.wait(60)

        return await run(Step.parallel({"thread": work, "b": wait_for_ever}, timeout=seconds))

    try:
        result = await with_begun(attempt)
        assert result.branches["thread"].status is Status.ABANDONED
    finally:
        end.set()
    assert result.status is Status.TIMED_OUT


@pytest.mark.real_clock
async def test_branches_that_pass_one_checkpoint_each_are_stopped_between_two() -> None:
    begun = []

    async def compute(number: int) -> None:
        begun.append(number)
        busy_until = perf_counter() + 0.01
        while perf_counter() < busy_until:
            pass
        await anyio.lowlevel.checkpoint()

    result = await run(
        Step.parallel({f"b{i}": compute for i in range(100)}, max_concurrency=1, timeout=0.05)
    )
    assert result.status is Status.TIMED_OUT
    assert len(begun) < 20
    never = [each for each in result.branches.values() if not each.attempts]
    assert len(never) == 100 - len(begun)
    assert {each.reason for each in never} == {"deadline: 0.05 s (timeout=)"}
