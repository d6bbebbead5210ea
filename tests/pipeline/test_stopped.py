"""See that what was stopped is no failure: no rule, no halt and no verdict takes it for one."""

import asyncio
import threading
from collections.abc import Iterator
from contextvars import Context
from functools import partial
from typing import Any

import anyio
import pytest

from anabranch import CancelWhen, Halt, Pipeline, PipelineResult, Step, StepResult
from tests.branches import with_begun

RULE = CancelWhen("quick", "succeeded", cancel="stuck")


def sleeper(seconds: float, error: Exception | None = None) -> Any:
    async def sleep(_: Any) -> float:
        await anyio.sleep(seconds)
        if error is not None:
            raise error
        return seconds

    return sleep


class Stuck:
    """Be a plain function that no cancellation ends; it ends with the test."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self, _: Any) -> bool:
        self.begun.set()
        return self.over.wait(5)

    def quick(self, _: Any) -> bool:
        """End once the other is stuck."""
        return self.begun.wait(5)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    found = Stuck()
    yield found
    found.over.set()


async def result_of(step: Any) -> StepResult[Any]:
    result: PipelineResult[Any] = await Pipeline([step]).run(1)
    return result.step_history[0]


def statuses(step: StepResult[Any]) -> dict[str, str]:
    return {key: str(branch.status) for key, branch in step.branches.items()}


# Threads -------------------------------------------------------------------------------------


@pytest.mark.real_clock
async def test_a_thread_that_a_rule_gave_up_does_not_fail_its_step(stuck: Stuck) -> None:
    branches = {"quick": stuck.quick, "stuck": stuck}
    step = await result_of(Step.parallel(branches, cancel_when=[RULE]))
    assert statuses(step) == {"quick": "succeeded", "stuck": "abandoned"}
    assert step.branches["stuck"].reason == "rule: quick succeeded"
    assert step.success
    assert step.feedback == "1 of 2 branches succeeded, 1 were stopped"


@pytest.mark.asyncio_only
@pytest.mark.real_clock
async def test_a_callback_of_the_loop_may_cancel_branches() -> None:
    """As a handler of a signal does: no task runs there, so anyio knows of no library."""
    loop = asyncio.get_running_loop()
    async with Pipeline([Step.parallel({"a": sleeper(30), "b": sleeper(0.02)})]).open() as run:
        loop.call_later(0.01, Context().run, partial(run.cancel, "a", reason="SIGTERM"))
    assert statuses(run.result.step_history[0]) == {"a": "cancelled", "b": "succeeded"}


@pytest.mark.real_clock
async def test_a_thread_that_was_given_up_counts_for_no_halt_and_no_rule(stuck: Stuck) -> None:
    other = CancelWhen("stuck", "done", cancel="slow")
    branches = {"quick": stuck.quick, "stuck": stuck, "slow": sleeper(0.02)}
    step = await result_of(Step.parallel(branches, cancel_when=[RULE, other], halt=Halt()))
    expected = {"quick": "succeeded", "stuck": "abandoned", "slow": "succeeded"}
    assert statuses(step) == expected
    assert step.success


@pytest.mark.real_clock
async def test_a_thread_that_ran_out_of_its_own_time_is_a_failure(stuck: Stuck) -> None:
    rule = CancelWhen("late", "failed", cancel="slow")

    def late(seconds: float, begun: threading.Event) -> Step:
        def stick(data: Any) -> Any:
            begun.set()
            return stuck(data)

        return Step("late", stick, timeout=seconds)

    async def ruled(seconds: float, begun: threading.Event) -> Any:
        others = {"slow": sleeper(300), "other": sleeper(0)}
        return await result_of(
            Step.parallel({"late": late(seconds, begun), **others}, cancel_when=[rule])
        )

    async def halted(seconds: float, begun: threading.Event) -> Any:
        branches = {"late": late(seconds, begun), "slow": sleeper(300)}
        return await result_of(Step.parallel(branches, halt=Halt()))

    step = await with_begun(ruled)
    expected = {"late": "abandoned", "slow": "cancelled", "other": "succeeded"}
    assert statuses(step) == expected
    assert not step.success
    assert (await with_begun(halted)).reason == "halt: 1 failure"


@pytest.mark.real_clock
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_thread_that_was_cancelled_by_hand_does_not_fail_its_map(
    streamed: bool, stuck: Stuck
) -> None:
    def either(number: int) -> bool:
        return stuck(number) if number else stuck.quick(number)

    steps = [Step.map_over("m", either, items=range(2))]
    if not streamed:
        steps.append(Step.map_over("next", sleeper(0)))
    async with Pipeline(steps).open() as run:
        async for outcome in run.outcomes:
            if outcome.key == "0" and outcome.value:
                assert run.cancel("1", reason="enough") == 1
    step = run.result.step_history[0]
    assert dict(step.counts) == {"succeeded": 1, "abandoned": 1}
    assert step.success


async def test_a_streamed_map_spares_what_is_spared_elsewhere() -> None:
    """Count as a map does that keeps its branches: a nested step that was stopped whole too."""

    def inner() -> Any:
        return Step.parallel("inner", {"x": sleeper(9)})

    async def with_keeping(keeps: bool) -> PipelineResult[Any]:
        reduce = dict if keeps else None
        mapped: Any = Step.map_over("m", inner(), items=range(2), reduce=reduce)
        async with Pipeline([mapped]).open() as run:
            await anyio.sleep(1)
            assert run.cancel("0/x", reason="enough") == 1
        return run.result

    kept, streamed = await with_keeping(True), await with_keeping(False)
    assert kept.success
    assert streamed.success
    assert kept.step_history[0].feedback == streamed.step_history[0].feedback


# What never began ----------------------------------------------------------------------------


@pytest.mark.parametrize("ended", ["failed", "done"])
async def test_what_a_halt_never_let_begin_fires_no_rule(ended: str) -> None:
    branches = {"bad": sleeper(1, ValueError()), "long": sleeper(9), "queued": sleeper(1)}
    rule = CancelWhen("queued", ended, cancel="long")
    step = await result_of(
        Step.parallel(branches, max_concurrency=2, halt=Halt("soon"), cancel_when=[rule])
    )
    expected = {"bad": "failed", "long": "succeeded", "queued": "rejected"}
    assert statuses(step) == expected
