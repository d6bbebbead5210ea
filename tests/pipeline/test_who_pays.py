"""See that a charge is in the cost of its step too where none of its branches makes it.

And that what was returned and cannot be charged is told in the result.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import attrs
import pytest

from anabranch import (
    Budget,
    CancelWhen,
    ExecutionConfig,
    Halt,
    Job,
    Pipeline,
    PipelineResult,
    ResourceLimits,
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
    other = Step("other", charged_list, lane="inline")
    result = await Pipeline([Step.parallel({"tried": step, "other": other})]).run(10)
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


# What is returned ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"halt": Halt()}, {"cancel_when": [CancelWhen("a", "failed", cancel="b")]}],
)
async def test_what_a_branch_returns_is_charged_where_rules_look_at_it_too(options: Any) -> None:
    """Rules hear of each branch that ends, as the guard of a budget does, which charges at once."""
    step = Step.parallel({"a": answers(1), "b": answers(2)}, **options)
    result = await Pipeline([step]).run()
    assert result.usage.cost_usd == result.step_history[0].cost_usd == 3


async def test_what_a_branch_returns_is_charged_under_resource_limits_too() -> None:
    limits = ExecutionConfig(resource_limits=ResourceLimits(max_memory_mb=10**6))
    result = await Pipeline([Step.parallel({"a": answers(1)})], execution_config=limits).run()
    assert result.usage.cost_usd == 1


# What cannot be charged ----------------------------------------------------------------------


@attrs.frozen
class Answer:
    cost_usd: Any = None
    token_counts: Any = None


WRONG = "not charged for what it returned: Answer: cost_usd=-1 cannot be meant; "


def answers(cost: Any) -> Any:
    async def answer(_: Any) -> Answer:
        await anyio.sleep(1)
        return Answer(cost, 5)

    return answer


def answer_at_once(cost: Any) -> Answer:
    return Answer(cost, 5)


@pytest.mark.parametrize("budget", [None, Budget(cost_usd=99)])
async def test_a_returned_cost_that_cannot_be_meant_is_told_in_both_results(budget: Any) -> None:
    tried = Step("tried", answers(-1), retry=Retry(attempts=2))
    branches = {"wrong": answers(-1), "right": answers(1), "tried": tried}
    for step in (
        Step.parallel("p", branches),
        Step.parallel("p", branches, cancel_when=[CancelWhen("right", "failed", cancel="wrong")]),
        Step.map_over("m", Step("s", answer_at_once, lane="inline"), items=[-1, 1, -1]),
    ):
        result = await Pipeline([step]).run(1, budget=budget)
        found = result.step_history[0]
        assert result.success
        assert (result.usage.cost_usd, result.usage.tokens) == (1, 15)
        words = "2 returned a cost that cannot be meant, and were not charged for it"
        assert found.feedback == f"3 of 3 branches succeeded; {words}"
        first, right, last = found.branches.values()
        for wrong in (first, last):
            assert wrong.reason.startswith(WRONG)
            assert wrong.feedback == f"succeeded, {wrong.reason}"
            assert wrong.output == Answer(-1, 5)
        assert right.reason == ""


async def test_a_single_step_tells_it_too() -> None:
    for step in (Step("s", answers(-1)), Step("s", answers(-1), timeout=9)):
        result = await Pipeline([step]).run(1)
        assert result.step_history[0].feedback.startswith(f"succeeded, {WRONG}")


async def test_a_live_run_and_its_outcomes_tell_it() -> None:
    mapped = Step.map_over("m", answers(-1), items=range(3))
    async with Pipeline([mapped]).open() as run:
        reasons = [outcome.reason async for outcome in run.outcomes]
    assert len(reasons) == 3
    assert all(reason.startswith(WRONG) for reason in reasons)
    assert "3 returned a cost that cannot be meant" in run.result.step_history[0].feedback


async def test_a_cost_that_cannot_be_read_is_told() -> None:
    class Odd:
        @property
        def cost_usd(self) -> float:
            raise KeyError("price")

    async def odd(_: Any) -> Odd:
        return Odd()

    result = await Pipeline([Step.parallel({"odd": odd})]).run()
    words = "not charged for what it returned: Odd: cost_usd cannot be read (KeyError: 'price')"
    assert result.step_history[0].branches["odd"].reason == words
