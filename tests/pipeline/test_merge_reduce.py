"""See that reduce replaces a step's output, and fails the step without losing its results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import pytest

from anabranch import (
    BranchFailureStrategy,
    ConfigurationError,
    MergeStrategy,
    Pipeline,
    PipelineResult,
    Status,
    Step,
    StepResult,
)

IGNORE = BranchFailureStrategy.IGNORE


async def echo(data: Any) -> Any:
    await anyio.sleep(0)
    return data


async def fail(data: Any) -> Any:
    raise ValueError(data)


def sleeper(seconds: float) -> Any:
    async def sleep(_: Any) -> float:
        await anyio.sleep(seconds)
        return seconds

    return sleep


def total(results: Mapping[str, StepResult[Any]]) -> Any:
    return sum(result.output for result in results.values())


async def total_later(results: Mapping[str, StepResult[Any]]) -> Any:
    await anyio.sleep(1)
    return total(results)


MAKERS = {
    "parallel": lambda branch, **options: Step.parallel("s", {"0": branch, "1": branch}, **options),
    "map": lambda branch, **options: Step.map_over("s", branch, items=[1, 1], **options),
}
every_step = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


async def run(step: Any, data: Any = 1, **options: Any) -> StepResult[Any]:
    result = await Pipeline([step]).run(data, **options)
    return result.step_history[-1]


@every_step
@pytest.mark.parametrize("reduce", [total, total_later])
async def test_what_reduce_returns_is_the_output(make: Any, reduce: Any) -> None:
    result = await run(make(echo, reduce=reduce))
    assert result.success
    assert result.output == 2
    assert [branch.output for branch in result.branches.values()] == [1, 1]
    assert result.completion_order == ("0", "1")
    assert result.latency_s == pytest.approx(1 if reduce is total_later else 0, abs=0.01)


@every_step
async def test_none_is_an_output_too(make: Any) -> None:
    assert (await run(make(echo, reduce=lambda results: None))).output is None


async def test_results_come_in_declared_order_with_those_that_failed() -> None:
    def look(results: Mapping[str, StepResult[Any]]) -> Any:
        return {key: str(result.status) for key, result in results.items()}

    branches = {"slow": sleeper(2), "bad": fail, "fast": sleeper(1)}
    result = await run(Step.parallel(branches, reduce=look, on_branch_failure=IGNORE))
    assert list(result.output.items()) == [
        ("slow", "succeeded"),
        ("bad", "failed"),
        ("fast", "succeeded"),
    ]


@every_step
async def test_a_step_that_failed_is_not_reduced(make: Any) -> None:
    called = []
    result = await run(make(fail, reduce=called.append))
    assert not result.success
    assert len(result.output) == 2
    assert called == []


@every_step
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_reduce_raises_fails_the_step_and_the_results_are_kept(
    make: Any, is_async: bool
) -> None:
    def boom(results: Any) -> Any:
        raise KeyError("boom")

    async def boom_later(results: Any) -> Any:
        await anyio.sleep(1)
        raise KeyError("boom")

    pipeline = Pipeline([make(echo, reduce=boom_later if is_async else boom), fail])
    result = await pipeline.run(1)
    assert not result.success
    (step,) = result.step_history
    assert step.status is Status.FAILED
    assert isinstance(step.error, KeyError)
    assert step.error.__notes__ == ["reduce of step s"]
    assert "reduce: KeyError: 'boom'" in step.feedback
    assert list(step.output.values() if isinstance(step.output, dict) else step.output) == [1, 1]
    assert [branch.success for branch in step.branches.values()] == [True, True]
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert caught.value.exceptions == (step.error,)


async def test_a_reduce_that_raises_merges_nothing_either() -> None:
    async def change(data: Any, *, context: Any) -> None:
        context["x"] = 1

    def boom(results: Any) -> Any:
        assert context == {}
        raise KeyError("boom")

    context: dict[str, Any] = {}
    step = Step.parallel({"a": change}, merge_strategy=MergeStrategy.OVERWRITE, reduce=boom)
    assert not (await run(step, context=context)).success
    assert context == {}


async def test_the_next_step_gets_what_reduce_returned() -> None:
    result = await Pipeline([Step.parallel({"a": echo, "b": echo}, reduce=total), echo]).run(3)
    assert result.output == 6


async def test_a_nested_step_hands_its_reduced_output_to_the_branch() -> None:
    inner = Step.parallel({"a": echo, "b": echo}, reduce=total)
    result = await run(Step.parallel({"x": inner, "y": inner}, reduce=total), 3)
    assert result.output == 12
    assert result.branches["x"].output == 6


@every_step
async def test_reduce_has_the_time_that_is_left(make: Any) -> None:
    async def slow(results: Any) -> Any:
        await anyio.sleep(5)

    result = await run(make(sleeper(1), reduce=slow, timeout=3))
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 3 s (timeout=)"
    assert "2 of 2 branches succeeded" in result.feedback
    assert result.latency_s == pytest.approx(3, abs=0.01)
    assert all(branch.success for branch in result.branches.values())


@every_step
async def test_a_cancellation_from_outside_goes_through_and_the_step_is_kept(make: Any) -> None:
    async def slow(results: Any) -> Any:
        await anyio.sleep(5)

    result = await Pipeline([make(sleeper(1), reduce=slow, timeout=None)]).run(1, timeout=3)
    assert not result.success
    (step,) = result.step_history
    assert step.status is Status.CANCELLED
    assert step.reason == "deadline: 3 s (timeout= of the pipeline)"
    assert step.branches["0"].success


@pytest.mark.asyncio_only
async def test_a_cancelled_future_that_reduce_waited_for_is_its_own_affair() -> None:
    import asyncio

    async def waits(results: Any) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    result = await run(Step.parallel({"a": echo}, reduce=waits))
    assert result.status is Status.CANCELLED
    assert result.branches["a"].success


async def test_a_map_that_is_followed_live_keeps_its_results_for_reduce() -> None:
    step = Step.map_over("m", echo, items=range(100), max_concurrency=3, reduce=total)
    async with Pipeline([step]).open() as live:
        seen = [outcome.value async for outcome in live.outcomes]
    assert sorted(seen) == list(range(100))
    result: PipelineResult[Any] = live.result
    assert result.output == sum(range(100))


async def test_a_map_without_items_is_reduced_to_what_reduce_makes_of_nothing() -> None:
    assert (await run(Step.map_over("m", echo, items=[], reduce=total))).output == 0


@every_step
async def test_events_tell_how_the_step_ended_after_reduce(make: Any) -> None:
    events: list[Any] = []

    def boom(results: Any) -> Any:
        raise KeyError("boom")

    await run(make(echo, reduce=boom), observer=events.append)
    assert [event.status for event in events if type(event).__name__ == "StepFinished"] == [
        "failed"
    ]


def none_at_all() -> None: ...


def two(one: Any, other: Any) -> None: ...


def makes_generator(results: Any) -> Any:
    yield results


@every_step
@pytest.mark.parametrize("reduce", [3, "total", none_at_all, two, makes_generator])
def test_what_cannot_be_called_with_the_results_is_refused(make: Any, reduce: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'s': reduce"):
        make(echo, reduce=reduce)


def test_what_can_be_called_with_the_results_is_not() -> None:
    for reduce in (len, dict, partial(two, 1), lambda *results: 1):
        Step.parallel({"a": echo}, reduce=reduce)
