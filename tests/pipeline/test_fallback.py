"""Step(fallback=): what runs when a step has failed for good, and what the result then says."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import anyio
import pytest

from anabranch import ConfigurationError, Pipeline, Retry, Status, Step, StepResult
from anabranch._host import current_host
from anabranch.lanes._thread import io_lane

TEN = Retry(wait=10, wait_max=10, jitter=0)


async def fails(data: Any) -> Any:
    raise ValueError(f"own of {data}")


async def sleeps(data: Any) -> Any:
    await anyio.sleep(100)


async def doubles(data: Any) -> Any:
    return data * 2


async def fails_too(data: Any) -> Any:
    await anyio.sleep(1)
    raise KeyError("fallback's")


async def run(step: Any, data: Any = 1, **options: Any) -> StepResult[Any]:
    with anyio.fail_after(10_000):
        return (await Pipeline([step]).run(data, **options)).step_history[-1]


async def both(step: Step[Any, Any], data: Any = 1, **options: Any) -> list[StepResult[Any]]:
    """Run it as a step, and as a branch."""
    within = await run(Step.parallel("p", {step.name: step}, max_concurrency=1), data, **options)
    return [await run(step, data, **options), within.branches[step.name]]


def words(result: StepResult[Any]) -> list[str]:
    return [str(error) for error in result.attempt_errors]


# What it may be ------------------------------------------------------------------------------


def takes_error(data: Any, error: Exception) -> Any:
    return data, str(error)


async def takes_all(data: Any, *, context: Any, error: Exception) -> Any:
    return data, dict(context), str(error)


FALLBACKS = {
    "async": (doubles, 4),
    "step": (Step("other", doubles), 4),
    "inline": (Step("other", lambda data: data + 5, lane="inline"), 7),
    "pipeline": (Pipeline([doubles, doubles]), 8),
    "parallel": (Step.parallel({"x": doubles, "y": doubles}), {"x": 4, "y": 4}),
    "error": (Step("other", fails, fallback=takes_all), (2, {"n": 1}, "own of 2")),
    "takes all": (takes_all, (2, {"n": 1}, "own of 2")),
}


@pytest.mark.parametrize("kind", FALLBACKS)
async def test_its_success_is_the_branches(kind: str) -> None:
    fallback, output = FALLBACKS[kind]
    for result in await both(Step("a", fails, fallback=fallback), 2, context={"n": 1}):
        assert (result.status, result.output, result.error) == (Status.SUCCEEDED, output, None)
        assert (result.attempts, words(result)[0]) == (1, "own of 2")
        assert result.feedback == "its fallback succeeded, after ValueError: own of 2"


@pytest.mark.real_clock
async def test_a_plain_function_falls_back_in_a_thread() -> None:
    threads = []

    def plain(data: Any, error: Exception) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return takes_error(data, error)

    for result in await both(Step("a", fails, fallback=plain)):
        assert result.output == (1, "own of 1")
    assert threads == [False, False]


@pytest.mark.real_clock
async def test_a_plain_function_has_a_fallback() -> None:
    def plain(data: Any) -> None:
        raise ValueError(f"plain {data}")

    step = Step("a", plain, retry=Retry(wait=0.001, jitter=0), fallback=doubles)
    for result in await both(step):
        assert (result.output, result.attempts) == (2, 3)


async def test_the_output_goes_on_to_the_next_step() -> None:
    result = await Pipeline([Step("a", fails, fallback=doubles), doubles]).run(3)
    assert result.unwrap() == 12


async def test_items_of_a_map_fall_back() -> None:
    for fallback in (doubles, Pipeline([doubles])):
        result = await run(Step.map_over("m", Step("a", fails, fallback=fallback)), [1, 2, 3])
        assert result.output == [2, 4, 6]


async def test_what_a_nested_fallback_did_is_in_the_result() -> None:
    nested = Step.parallel("q", {"x": doubles, "y": doubles})
    result = await run(Step.parallel("p", {"a": Step("a", fails, fallback=nested)}))
    assert result.output == {"a": {"x": 2, "y": 2}}
    assert list(result.branches["a"].branches) == ["x", "y"]


# When it runs --------------------------------------------------------------------------------


async def test_it_runs_after_the_last_attempt_at_once() -> None:
    step = Step("a", fails, retry=TEN, fallback=doubles)
    for result in await both(step):
        assert (result.output, result.attempts) == (2, 3)
        assert result.latency_s == pytest.approx(20)
        assert words(result) == ["own of 1"] * 3


async def test_it_runs_when_the_steps_own_timeout_has_struck() -> None:
    for result in await both(Step("a", sleeps, timeout=5, fallback=doubles)):
        assert (result.status, result.output) == (Status.SUCCEEDED, 2)
        assert result.latency_s == pytest.approx(5)
        assert result.reason == ""
        assert result.feedback == (
            "its fallback succeeded, after deadline: 5 s (timeout= of the branch)"
        )
        assert isinstance(result.attempt_errors[0], TimeoutError)


async def test_it_runs_where_no_time_is_left_for_another_attempt() -> None:
    step = Step("a", fails, retry=TEN, timeout=5, fallback=doubles)
    for result in await both(step):
        assert (result.output, result.attempts, result.latency_s) == (2, 1, 0)


async def test_it_runs_where_the_timeout_strikes_in_the_queue() -> None:
    branches = {"a": Step("a", fails, retry=TEN, timeout=15, fallback=doubles), "b": sleeps}
    result = await run(Step.parallel("p", branches, max_concurrency=1, timeout=None))
    a = result.branches["a"]
    assert (a.output, a.attempts) == (2, 1)
    assert a.latency_s == pytest.approx(100)  # the token came back with b's end
    assert "deadline: 15 s" in a.feedback


async def test_it_does_not_run_after_a_success() -> None:
    def never(data: Any) -> None:
        raise AssertionError

    for result in await both(Step("a", doubles, fallback=never)):
        assert (result.output, result.feedback) == (2, "succeeded")


@pytest.mark.parametrize("how", ["cancel", "stop", "outer", "step", "pipeline"])
async def test_it_never_runs_after_a_cancellation(how: str) -> None:
    calls = []

    async def never(data: Any) -> None:
        calls.append(data)

    step = Step.parallel(
        "p", {"a": Step("a", sleeps, fallback=never)}, timeout=5 if how == "step" else None
    )
    with anyio.move_on_after(5 if how == "outer" else 1000):
        async with Pipeline([step]).open(1, timeout=5 if how == "pipeline" else None) as live:
            await anyio.sleep(1)
            if how == "cancel":
                assert live.cancel("a") == 1
            elif how == "stop":
                live.stop()
    assert calls == []


async def test_it_runs_ahead_of_all_that_is_queued() -> None:
    order: list[str] = []

    async def notes(data: Any) -> None:
        order.append("fallback")

    async def other(data: Any) -> None:
        order.append("other")

    branches = {"a": Step("a", fails, fallback=notes)} | {f"b{n}": other for n in range(3)}
    step = Step.parallel("p", branches, max_concurrency=1, priorities={"b*": 10, "a": 20})
    await run(step)
    assert order[0] == "fallback"


async def test_it_takes_no_further_token() -> None:
    limiter = anyio.CapacityLimiter(1)
    held = []

    async def notes(data: Any) -> None:
        held.append(limiter.borrowed_tokens)
        await anyio.sleep(1)
        held.append(limiter.borrowed_tokens)

    branches = {
        "a": Step("a", fails, fallback=notes),
        "b": Step("b", sleeps, timeout=1, fallback=notes),
        "c": doubles,
    }
    result = await run(Step.parallel("p", branches, max_concurrency=limiter))
    assert result.success
    assert held == [1, 1, 1, 1]
    assert limiter.borrowed_tokens == 0


# How it ends ---------------------------------------------------------------------------------


async def test_its_failure_fails_the_branch_with_both_errors_each_once() -> None:
    for result in await both(Step("a", fails, retry=TEN, fallback=fails_too)):
        assert (result.status, result.attempts) == (Status.FAILED, 3)
        assert str(result.error) == '"fallback\'s"'
        assert words(result) == ["own of 1"] * 3
        assert result.error.__cause__ is result.attempt_errors[-1]
        assert result.feedback == (
            'its fallback raised KeyError: "fallback\'s", after ValueError: own of 1'
        )
        text = "".join(traceback.format_exception(result.group()))
        assert text.count("ValueError: own of 1\n") == 1
        assert text.count('KeyError: "fallback\'s"\n') == 1


async def test_the_error_itself_raised_again_is_told_once() -> None:
    async def again(data: Any, error: Exception) -> None:
        raise error

    for result in await both(Step("a", fails, fallback=again)):
        assert (str(result.error), result.attempt_errors) == ("own of 1", ())
        assert result.error.__cause__ is None


async def test_the_fallback_of_a_fallback_leads_to_all_that_failed_before() -> None:
    async def third(data: Any) -> None:
        raise RuntimeError("third")

    step = Step("a", fails, fallback=Step("b", fails_too, fallback=third))
    for result in await both(step):
        told = [result.error, result.error.__cause__, result.error.__cause__.__cause__]
        assert [type(error) for error in told] == [RuntimeError, KeyError, ValueError]
        assert result.attempt_errors == (told[2], told[1])
        assert result.feedback == (
            'its fallback raised RuntimeError: third, after KeyError: "fallback\'s"'
        )


async def test_what_forbade_a_further_attempt_is_told_with_the_fallback() -> None:
    step = Step("a", fails, retry=TEN, timeout=5, fallback=doubles)
    for result in await both(step):
        assert result.feedback == (
            "its fallback succeeded, after ValueError: own of 1; no further attempt: it would "
            "begin 10 s later, past the deadline: 5 s (timeout= of the branch)"
        )


async def test_a_cause_that_it_gave_itself_is_kept() -> None:
    async def from_it(data: Any, error: Exception) -> None:
        raise RuntimeError("told") from error

    for result in await both(Step("a", fails, fallback=from_it)):
        assert result.error.__cause__ is result.attempt_errors[0]


async def test_a_nested_fallback_that_fails_has_the_cause_on_its_own_error() -> None:
    nested = Step.parallel("q", {"x": fails_too, "y": doubles})
    result = await run(Step.parallel("p", {"a": Step("a", fails, fallback=nested)}))
    a = result.branches["a"]
    assert a.status is Status.FAILED
    assert str(a.error.__cause__) == "own of 1"
    assert a.feedback.startswith("its fallback failed: step 'q': 1 of 2 branches succeeded, after")
    assert [str(error) for error in a.error.exceptions] == ['"fallback\'s"']


async def test_a_fallback_that_is_a_step_uses_its_own_retry_timeout_and_fallback() -> None:
    calls = []

    async def flaky(data: Any) -> Any:
        calls.append(data)
        if len(calls) % 3:
            raise KeyError(len(calls))
        return "third"

    step = Step("a", fails, fallback=Step("b", flaky, retry=TEN))
    for result in await both(step):
        assert (result.output, result.attempts) == ("third", 1)
        assert len(result.attempt_errors) == 3
        assert result.latency_s == pytest.approx(20)

    step = Step("a", fails, timeout=50, fallback=Step("b", sleeps, timeout=7))
    for result in await both(step):
        assert result.status is Status.TIMED_OUT
        assert result.latency_s == pytest.approx(7)
        assert result.reason == "deadline: 7 s (timeout= of its fallback)"
        assert str(result.error.__cause__) == "own of 1"

    step = Step("a", sleeps, timeout=5, fallback=Step("b", sleeps, timeout=7, fallback=doubles))
    for result in await both(step):
        assert (result.output, result.latency_s) == (2, pytest.approx(12))


async def test_a_cancelled_fallback_keeps_the_errors() -> None:
    step = Step.parallel("p", {"a": Step("a", fails, fallback=sleeps)})
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(1)
        assert live.cancel("a", reason="unwanted") == 1
    a = live.result.step_history[0].branches["a"]
    assert (a.status, a.reason, a.attempts) == (Status.CANCELLED, "unwanted", 1)
    assert words(a) == ["own of 1"]


async def test_the_steps_deadline_strikes_the_fallback() -> None:
    step = Step.parallel("p", {"a": Step("a", fails, fallback=sleeps)}, timeout=5)
    result = await run(step)
    a = result.branches["a"]
    assert (a.status, a.reason) == (Status.CANCELLED, "deadline: 5 s (timeout=)")
    assert words(a) == ["own of 1"]


async def test_costs_of_a_nested_fallback_are_charged_once() -> None:
    class Answer:
        cost_usd = 2.0

    async def answers(data: Any) -> Any:
        return Answer()

    step = Step.parallel("p", {"a": Step("a", fails, fallback=Pipeline([answers]))})
    result = await Pipeline([step]).run(1)
    assert result.usage.cost_usd == 2.0


@pytest.mark.slow
@pytest.mark.real_clock
async def test_it_runs_while_the_abandoned_thread_goes_on_but_takes_a_token_of_its_own() -> None:
    go = threading.Event()

    def stuck(data: Any) -> None:
        go.wait(5)

    step = Step("a", stuck, timeout=0.4, fallback=doubles)  # by then its thread has begun
    result = await run(Step.parallel("p", {"a": step, "b": doubles}, max_concurrency=2))
    a = result.branches["a"]
    assert (a.status, a.output) == (Status.SUCCEEDED, 2)
    assert a.feedback.endswith("(timeout= of the branch); its thread runs on")
    go.set()
    while io_lane(current_host()).limiter.borrowed_tokens:
        await anyio.sleep(0.001)


# Bad input -----------------------------------------------------------------------------------


async def no_data() -> None: ...


async def two_more(data: Any, more: Any) -> None: ...


def generates(data: Any) -> Any:
    yield data


@pytest.mark.parametrize(
    ("fallback", "says"),
    [
        (3, r"Step 'a': fallback=3 \(int\) is neither callable nor a step; .* lambda data: x"),
        ("b", r"fallback='b' \(str\) is neither callable nor a step"),
        ([doubles], r"fallback=\[.*\] \(list\) is neither"),
        (no_data, r"fallback: no_data\(\).* cannot be called with the data alone"),
        (two_more, "fallback: two_more.* a fallback is called as fn"),
        (generates, "fallback: generates is a generator function"),
    ],
)
def test_what_cannot_take_over_is_refused(fallback: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Step("a", fails, fallback=fallback)
