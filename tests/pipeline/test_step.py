"""See that a step calls its function as asked, and says how that went."""

import asyncio
import functools
import threading
from typing import Any

import anyio
import pytest
import trio

from anabranch import (
    BranchTimedOutError,
    Pipeline,
    Status,
    Step,
    StepFailedError,
    StepResult,
)


async def echo(data: Any) -> Any:
    await anyio.sleep(0)
    return data


async def fail(data: Any) -> Any:
    raise ValueError(data)


async def sleep(seconds: float) -> float:
    await anyio.sleep(seconds)
    return seconds


async def the_step(step: Any, data: Any, **options: Any) -> StepResult[Any]:
    """Run one step, and return its result."""
    result = await Pipeline([step]).run(data, **options)
    assert len(result.step_history) == 1
    return result.step_history[0]


async def test_an_async_function_runs_on_the_loop() -> None:
    threads = []

    async def here(data: Any) -> Any:
        threads.append(threading.get_ident())
        return data + 1

    result = await the_step(Step("a", here), 1)
    assert (result.name, result.success, result.output) == ("a", True, 2)
    assert result.status == "succeeded" == Status.SUCCEEDED
    assert threads == [threading.get_ident()]


@pytest.mark.real_clock
async def test_a_plain_function_runs_in_a_thread() -> None:
    result = await the_step(Step("a", lambda data: (data, threading.get_ident())), 1)
    assert result.output[0] == 1
    assert result.output[1] != threading.get_ident()


async def test_an_inline_lane_runs_where_it_stands() -> None:
    result = await the_step(Step("a", lambda _: threading.get_ident(), lane="inline"), 1)
    assert result.output == threading.get_ident()


async def test_a_lane_of_the_users_is_any_lane() -> None:
    calls = []

    class Lane:
        async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
            calls.append(fn)
            return await fn(*args, **kwargs)

    step = Step("a", echo, lane=Lane())
    assert (await the_step(step, 3)).output == 3
    parallel = await the_step(Step.parallel({"x": step, "y": step}), 4)
    assert parallel.output == {"x": 4, "y": 4}
    assert calls == [echo] * 3


@pytest.mark.slow
@pytest.mark.real_clock
async def test_a_cpu_lane_runs_in_a_process() -> None:
    assert (await the_step(Step("a", abs, lane="cpu"), -3)).output == 3


@pytest.mark.real_clock
async def test_what_can_be_called_is_called() -> None:
    class Adds:
        def __call__(self, data: int) -> int:
            return data + 1

        async def later(self, data: int) -> int:
            return data + 2

    def add(a: int, b: int) -> int:
        return a + b

    branches = {
        "object": Adds(),
        "method": Adds().later,
        "partial": functools.partial(add, 3),
        "builtin": str,
        "lambda": lambda data: data,
        "returns a coroutine": lambda data: echo(data),  # noqa: PLW0108  # it is no async function
    }
    result = await the_step(Step.parallel(branches), 1)
    assert list(result.output.values()) == [2, 3, 4, "1", 1, 1]


async def test_a_failure_is_data() -> None:
    result = await Pipeline([Step("a", fail), Step("b", echo)]).run("words")
    assert not result.success
    assert result.output is None
    assert [step.name for step in result.step_history] == ["a"]
    step = result.step_history[0]
    assert step.status is Status.FAILED
    assert isinstance(step.error, ValueError)
    assert step.feedback == "raised ValueError: words"
    assert result.feedback == "step 'a': raised ValueError: words"
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert caught.value.exceptions == (step.error,)
    assert step.error.__notes__ == ["step a"]


async def test_a_steps_timeout_ends_it_and_names_the_option() -> None:
    result = await the_step(Step("a", sleep, timeout=2), 100)
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 2 s (timeout= of the branch)"
    assert isinstance(result.error, BranchTimedOutError)
    assert result.latency_s == pytest.approx(2, abs=0.01)


async def test_a_step_that_is_in_time_is_not_ended() -> None:
    result = await Pipeline([Step("a", sleep, timeout=2), Step("b", sleep, timeout=2)]).run(1.5)
    assert result.success
    assert result.output == 1.5


async def test_an_error_at_the_deadline_is_kept() -> None:
    async def cleans_up_badly(_: Any) -> None:
        try:
            await anyio.sleep(100)
        finally:
            raise KeyError("while cleaning up")

    result = await the_step(Step("a", cleans_up_badly, timeout=2), None)
    assert result.status is Status.TIMED_OUT
    assert isinstance(result.error, KeyError)


async def test_a_timeout_of_the_functions_own_is_its_failure() -> None:
    async def impatient(_: Any) -> None:
        with anyio.fail_after(1):
            await anyio.sleep(100)

    result = await the_step(Step("a", impatient, timeout=2), None)
    assert result.status is Status.FAILED
    assert isinstance(result.error, TimeoutError)


def test_a_step_cannot_be_changed() -> None:
    for part in (
        Step("a", echo),
        Step.parallel("a", {"b": echo}),
        Step.map_over("a", echo),
        Pipeline([echo], name="a"),
    ):
        with pytest.raises(AttributeError, match="cannot be changed"):
            part.name = "b"
        with pytest.raises(AttributeError, match="cannot be changed"):
            del part.name
        with pytest.raises(AttributeError):
            part.anything = 1
        assert part.name == "a"


async def test_one_step_stands_in_a_hundred_branches_and_in_several_pipelines() -> None:
    one = Step("one", echo)
    pipeline = one >> Step("two", echo)
    branches = {f"processor_{i}": pipeline for i in range(100)}
    wide = Pipeline([Step.parallel(branches, max_concurrency=7), one])
    first, second = await wide.run(3), await wide.run(4)
    assert first.output == dict.fromkeys(branches, 3)
    assert second.output == dict.fromkeys(branches, 4)
    assert (await Pipeline([one, pipeline]).run(5)).output == 5


async def test_a_missing_asyncio_loop_gets_a_note_that_names_the_option() -> None:
    async def needs_asyncio(_: Any) -> None:
        await asyncio.sleep(0.1)

    async def yields_to_asyncio(_: Any) -> None:
        await asyncio.sleep(0)

    branches = {"a": needs_asyncio, "b": yields_to_asyncio}
    result = await the_step(Step.parallel(branches), None)
    for branch in result.branches.values():
        if trio.lowlevel.in_trio_run():
            assert any("loop='asyncio'" in note for note in branch.error.__notes__)
        else:
            assert branch.success


@pytest.mark.trio_only
async def test_asyncios_events_get_the_note_too() -> None:
    async def waits(_: Any) -> None:
        await asyncio.Event().wait()

    result = await the_step(Step.parallel({"a": waits}), None)
    assert any("loop='asyncio'" in note for note in result.branches["a"].error.__notes__)


async def test_an_unwrapped_failure_without_an_error_is_of_our_own() -> None:
    result = await the_step(Step.parallel({}), None)
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert isinstance(caught.value.exceptions[0], StepFailedError)


def test_reprs_are_short() -> None:
    assert repr(Step("a", echo)) == "<Step 'a': echo>"
    assert repr(Step.parallel("p", {"a": echo})) == "<Step.parallel p: 1 branches>"
    assert repr(Pipeline([Step("a", echo), Step("b", echo)])) == "<Pipeline : a >> b>"
