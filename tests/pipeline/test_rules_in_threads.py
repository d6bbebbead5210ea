"""See that rules hear of each plain function that ends before its thread begins another one.

A thread runs function after function without a trip to the loop, where rules are applied.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from anabranch import (
    Budget,
    CancelWhen,
    Halt,
    Pipeline,
    Step,
    StepResult,
    UsageLimitExceededError,
)

pytestmark = pytest.mark.real_clock

COUNT = 20


@attrs.frozen
class Answer:
    cost_usd: float


class Begun:
    """Make plain functions that note their begin; the first one is told how to end."""

    def __init__(self, first: Any = None) -> None:
        self.first = first
        self.numbers: list[int] = []

    def __call__(self, number: int) -> Any:
        self.numbers.append(number)
        if number == 0 and isinstance(self.first, Exception):
            raise self.first
        return self.first if number == 0 else number

    def branches(self) -> dict[str, Any]:
        return {f"b{number}": self._numbered(number) for number in range(COUNT)}

    def _numbered(self, number: int) -> Any:
        return lambda _: self(number)


async def run(step: Any, **options: Any) -> StepResult[Any]:
    return (await Pipeline([step]).run(1, **options)).step_history[0]


@pytest.mark.parametrize(
    ("first", "halt"),
    [(ValueError(), Halt()), (ValueError(), Halt("soon")), (1, Halt(on="success"))],
)
async def test_a_halt_lets_no_thread_begin_another_one(first: Any, halt: Halt) -> None:
    begun = Begun(first)
    step = await run(Step.parallel(begun.branches(), max_concurrency=1, halt=halt))
    assert begun.numbers == [0]
    assert step.reason.startswith("halt: 1 ")
    begun = Begun(first)
    step = await run(Step.map_over("m", begun, items=range(COUNT), max_concurrency=1, halt=halt))
    assert begun.numbers == [0]


async def test_a_rule_is_applied_before_the_thread_goes_on() -> None:
    begun = Begun()
    rule = CancelWhen("b0", "succeeded", cancel="b?")
    step = await run(Step.parallel(begun.branches(), max_concurrency=1, cancel_when=[rule]))
    assert begun.numbers == [0, *range(10, COUNT)]
    assert step.branches["b9"].reason == "rule: b0 succeeded"


async def test_a_rule_around_a_nested_step_hears_of_its_threads() -> None:
    begun = Begun()
    inner = Step.parallel(begun.branches(), max_concurrency=1)
    rule = CancelWhen("inner/b0", "succeeded", cancel="inner/b1?")
    await run(Step.parallel({"inner": inner}, cancel_when=[rule]))
    assert begun.numbers == list(range(10))


async def test_what_a_function_returns_may_breach_before_the_thread_goes_on() -> None:
    begun = Begun(Answer(9))
    step = Step.parallel(begun.branches(), max_concurrency=1)
    with pytest.raises(UsageLimitExceededError):
        await run(step, budget=Budget(cost_usd=1))
    assert begun.numbers == [0]
