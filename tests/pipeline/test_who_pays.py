"""See that a charge is in the cost of its step too where none of its branches makes it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from anabranch import (
    Budget,
    Job,
    Pipeline,
    PipelineResult,
    Retry,
    Step,
    UsageLimitExceededError,
    charge,
    open_scheduler,
)


def numbers(count: int, cost: float = 1) -> Iterator[int]:
    for number in range(count):
        charge(cost_usd=cost)
        yield number


async def numbers_slowly(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await anyio.sleep(0.1)
        charge(cost_usd=1)
        yield number


def charged_list(count: int) -> list[int]:
    charge(cost_usd=count)
    return list(range(count))


async def spend(_: Any) -> None:
    await anyio.sleep(1)
    charge(cost_usd=10)


async def fail(_: Any) -> None:
    raise ValueError


def fail_in_a_thread(_: Any) -> None:
    raise ValueError


async def breach(*steps: Any, limit: float) -> PipelineResult[Any]:
    with pytest.raises(UsageLimitExceededError) as caught:
        await Pipeline(list(steps)).run(budget=Budget(cost_usd=limit))
    result = caught.value.result
    assert isinstance(result, PipelineResult)
    return result


# Items ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [numbers, numbers_slowly, charged_list])
async def test_what_items_cost_is_the_steps_and_no_branches(items: Any) -> None:
    mapped = Step.map_over("m", spend, items=lambda _: items(3))
    result = await Pipeline([mapped]).run()
    step = result.step_history[0]
    assert step.cost_usd == result.usage.cost_usd == 33
    assert [branch.cost_usd for branch in step.branches.values()] == [10, 10, 10]


async def test_what_items_cost_in_a_nested_map_is_the_branchs_too() -> None:
    mapped = Step.map_over("m", spend, items=lambda _: numbers(2))
    outer = Step.parallel({"m": mapped, "other": spend})
    result = await Pipeline([outer]).run()
    step = result.step_history[0]
    assert step.cost_usd == result.usage.cost_usd == 32
    assert step.branches["m"].cost_usd == 22


async def test_what_items_cost_before_they_failed_is_kept() -> None:
    def broken(_: Any) -> Iterator[int]:
        charge(cost_usd=3)
        raise ValueError

    result = await Pipeline([Step.map_over("m", spend, items=broken)]).run()
    assert not result.success
    assert result.step_history[0].cost_usd == 3


@pytest.mark.parametrize("items", [numbers, numbers_slowly, charged_list])
async def test_nothing_begins_for_an_item_that_passed_the_budget(items: Any) -> None:
    begun = []

    async def begin(number: int) -> None:
        begun.append(number)
        await anyio.sleep(9)

    mapped = Step.map_over("m", begin, items=lambda _: items(9), max_concurrency=20)
    result = await breach(mapped, limit=3)
    assert begun == ([] if items is charged_list else [0, 1, 2])
    step = result.step_history[0]
    assert step.cost_usd == result.usage.cost_usd == (9 if items is charged_list else 4)
    assert step.reason.startswith("breach: ")
    assert {branch.reason for branch in step.branches.values()} <= {step.reason}


# Who decides on another attempt --------------------------------------------------------------


@pytest.mark.parametrize("fn", [fail, pytest.param(fail_in_a_thread, marks=pytest.mark.real_clock)])
async def test_what_on_costs_is_the_branchs(fn: Any) -> None:
    def on(_: Exception) -> bool:
        charge(cost_usd=1)
        return True

    step = Step("tried", fn, retry=Retry(attempts=3, wait=0, jitter=0, on=on))
    result = await Pipeline([Step.parallel({"tried": step, "other": charged_list})]).run(10)
    costs = {key: each.cost_usd for key, each in result.step_history[0].branches.items()}
    assert costs == {"tried": 2, "other": 10}
    assert result.step_history[0].cost_usd == 12


async def test_what_on_costs_may_pass_the_budget_and_then_nothing_is_tried_again() -> None:
    def on(_: Exception) -> bool:
        charge(cost_usd=9)
        return True

    step = Step("tried", fail, retry=Retry(attempts=3, on=on))
    result = await breach(Step.parallel({"tried": step, "other": spend}), limit=3)
    branches = result.step_history[0].branches
    assert branches["tried"].attempts == 1
    assert isinstance(branches["tried"].error, ValueError)
    assert branches["other"].reason == "breach: spent 9 of 3 usd"


async def test_what_on_costs_in_a_scheduler_opened_by_hand_is_its_openers() -> None:
    def on(_: Exception) -> bool:
        charge(cost_usd=1)
        return True

    async def opens(_: Any) -> None:
        async with open_scheduler(1) as scheduler:
            scheduler.submit(Job("j", fail, (1,), retry=Retry(attempts=2, wait=0, on=on)))
            async for _outcome in scheduler.outcomes:
                pass

    result = await Pipeline([Step.parallel({"opens": opens, "other": spend})]).run()
    assert result.step_history[0].branches["opens"].cost_usd == 1


# Conclusions ---------------------------------------------------------------------------------


async def test_a_conclusion_that_passes_the_budget_is_in_the_cost_of_its_step() -> None:
    async def reduce(_: Any) -> None:
        charge(cost_usd=9)
        await anyio.sleep(9)

    result = await breach(Step.parallel({"a": spend}, reduce=reduce), limit=15)
    step = result.step_history[0]
    assert step.cost_usd == result.usage.cost_usd == 19
    assert step.branches["a"].success
