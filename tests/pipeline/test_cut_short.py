"""See that what is cut short ends, keeps what it did, and says why: maps, nested pipelines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from anabranch import (
    BranchFailureStrategy,
    Budget,
    Halt,
    Pipeline,
    Retry,
    Step,
    UsageLimitExceededError,
    charge,
)
from anabranch._host import current_host
from anabranch.errors import BranchTimedOutError

IGNORE = BranchFailureStrategy.IGNORE


def sleeper(seconds: float) -> Any:
    async def sleep(_: Any) -> None:
        await anyio.sleep(seconds)

    return sleep


async def fail(_: Any) -> None:
    raise ValueError


async def read_all(pipeline: Pipeline[Any, Any], **options: Any) -> Any:
    async with pipeline.open(1, **options) as run:
        async for _outcome in run.outcomes:
            pass
    return run.result


# Maps that start no more ---------------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
async def test_items_that_never_come_are_not_waited_for_once_no_more_is_started(live: bool) -> None:
    closed = []

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            await anyio.sleep_forever()
        finally:
            closed.append(True)

    mapped = Step.map_over("m", fail, items=lambda _: items(), halt=Halt("soon"))
    pipeline = Pipeline([mapped])
    with anyio.fail_after(9):
        result = await (read_all(pipeline) if live else pipeline.run(1))
    step = result.step_history[0]
    assert step.reason == "halt: 1 failure"
    assert closed == [True]


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_live_map_ends_whose_last_hand_has_made_way_for_others(
    limit: int, all_home: Any
) -> None:
    """No hand of it is left that would find out that nothing more is to be pulled."""
    limiter = all_home(current_host().runtime.CapacityLimiter(limit))
    at_once = Step("at once", lambda number: number, lane="inline")
    halt = Halt("soon", on="done")
    mapped = Step.map_over("m", at_once, items=lambda _: iter(range(3)), halt=halt)
    branches = {"m": mapped, "a": sleeper(0.01), "b": sleeper(0.01), "c": at_once}
    with anyio.fail_after(9):
        result = await read_all(Pipeline([Step.parallel(branches)]), limiter=limiter)
    assert result.success
    assert dict(result.step_history[0].branches["m"].counts) == {"succeeded": 1}


# Maps that are stopped -----------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [False, True])
async def test_a_map_of_which_all_was_stopped_says_why(keeps: bool) -> None:
    reduce = dict if keeps else None
    mapped: Any = Step.map_over("m", sleeper(9), items=range(9), reduce=reduce)
    async with Pipeline([mapped]).open() as run:
        await anyio.sleep(1)
        for number in range(9):
            assert run.cancel(str(number), reason=f"no {number % 4}") == 1
    step = run.result.step_history[0]
    assert step.status == "cancelled"
    reasons = step.reason.split("; ")
    assert len(set(reasons)) == 3
    assert set(reasons) < {"no 0", "no 1", "no 2", "no 3"}


# Nested pipelines ----------------------------------------------------------------------------


async def spend(_: Any) -> str:
    await anyio.sleep(1)
    charge(cost_usd=2)
    return "spent"


def over_budget(step: Any) -> Any:
    return Pipeline([step]).run(budget=Budget(cost_usd=1))


async def test_a_pipeline_in_a_row_that_is_cut_between_two_steps_keeps_the_first() -> None:
    inner = Pipeline([spend, sleeper(1)], name="inner")
    with pytest.raises(UsageLimitExceededError) as caught:
        await over_budget(inner)
    step = caught.value.result.step_history[0]
    assert (step.name, step.status, step.cost_usd) == ("inner", "cancelled", 2)
    assert step.reason == "breach: spent 2 of 1 usd"
    assert step.feedback == "succeeded; breach: spent 2 of 1 usd"
    assert [each.name for each in step.steps] == ["spend"]


async def test_a_pipeline_in_a_branch_that_is_cut_between_two_steps_says_so() -> None:
    inner = Pipeline([Step.parallel("first", {"x": spend}), sleeper(1)], name="inner")
    with pytest.raises(UsageLimitExceededError) as caught:
        await over_budget(Step.parallel({"inner": inner, "other": sleeper(9)}))
    branch = caught.value.result.step_history[0].branches["inner"]
    assert (branch.status, branch.cost_usd) == ("cancelled", 2)
    assert branch.branches["x"].output == "spent"
    assert branch.reason == "breach: spent 2 of 1 usd"


async def test_a_pipeline_in_a_branch_keeps_how_each_of_its_steps_ended() -> None:
    """Errors that a later step has outlived are there too: of branches, and of attempts."""
    calls = []

    async def flaky(_: Any) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError
        return 1

    ignored = Step.parallel("ignored", {"bad": fail, "good": spend}, on_branch_failure=IGNORE)
    tried = Step("tried", flaky, retry=Retry(attempts=2, wait=0.1))
    inner = Pipeline([ignored, tried, sleeper(0)], name="inner")
    result = await Pipeline([Step.parallel({"inner": inner}), inner]).run()
    branch, row = result.step_history[0].branches["inner"], result.step_history[1]
    for nested in (branch, row):
        assert [step.name for step in nested.steps] == ["ignored", "tried", "sleep"]
        assert isinstance(nested.steps[0].branches["bad"].error, ValueError)
    assert isinstance(branch.steps[1].attempt_errors[0], ConnectionError)
    assert branch.to_dict()["steps"][1]["attempts"] == 2


async def test_a_nested_step_that_ran_out_of_time_is_named_among_the_errors_around_it() -> None:
    inner = Step.parallel("inner", {"x": sleeper(9)}, timeout=1)
    result = await Pipeline([Step.parallel({"n": inner, "bad": fail})]).run(1)
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    late, bad = caught.value.exceptions
    assert isinstance(late, BranchTimedOutError)
    assert str(late) == "deadline: 1 s (timeout=)"
    assert late.__notes__ == ["branch n of step parallel"]
    assert isinstance(bad, ValueError)


# Live runs that are stopped where nothing has branches -----------------------------------------


async def slow_reduce(_: Any) -> None:
    await anyio.sleep(30)


AT_WORK: dict[str, Any] = {
    "a plain step": sleeper(30),
    "a step with terms": Step("terms", sleeper(30), timeout=60),
    "a step that reduces": Step.parallel("p", {"a": sleeper(0)}, reduce=slow_reduce),
    "a pipeline": Pipeline([sleeper(0), sleeper(30)], name="inner"),
    "branches": Step.parallel("p", {"a": sleeper(30)}),
}


@pytest.mark.parametrize("budget", [None, Budget(cost_usd=1)])
@pytest.mark.parametrize("step", AT_WORK.values(), ids=AT_WORK)
async def test_a_live_run_stops_whatever_it_is_at(step: Any, budget: Budget | None) -> None:
    begun = anyio.current_time()
    async with Pipeline([sleeper(0), step, fail]).open(budget=budget) as run:
        await anyio.sleep(1)
        run.stop("enough")
        run.stop("more than enough")
    assert anyio.current_time() - begun == pytest.approx(1)
    result = run.result
    assert not result.success
    assert len(result.step_history) == 2
    assert result.step_history[1].reason == "enough"
    assert "enough" in result.feedback


async def test_a_live_run_that_is_stopped_before_it_starts_begins_nothing() -> None:
    begun = []
    step = Step("s", begun.append, lane="inline")
    async with Pipeline([step]).open() as run:
        run.stop("changed my mind")
    assert begun == []
    assert not run.result.success
    assert run.result.reason == "changed my mind"
