"""Step(retry=): what results say of attempts, and what else a step may do meanwhile."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import anyio
import pytest

from anabranch import (
    AttemptFailed,
    BranchFailureStrategy,
    CancelWhen,
    ConfigurationError,
    Halt,
    Pipeline,
    Retry,
    Status,
    Step,
    StepResult,
)

TEN = Retry(wait=10, wait_max=10, jitter=0)


class Flaky:
    """Fail ``times`` times, then return the data."""

    def __init__(self, times: float, seconds: float = 0.0) -> None:
        self.times = times
        self.seconds = seconds
        self.calls = 0

    async def __call__(self, data: Any) -> Any:
        self.calls += 1
        call = self.calls
        await anyio.sleep(self.seconds)
        if call <= self.times:
            raise ValueError(f"call {call}")
        return data


async def run(step: Any, data: Any = 1, **options: Any) -> StepResult[Any]:
    with anyio.fail_after(10_000):
        return (await Pipeline([step]).run(data, **options)).step_history[-1]


def words(result: StepResult[Any]) -> list[str]:
    return [str(error) for error in result.attempt_errors]


# Results -------------------------------------------------------------------------------------


async def test_a_step_that_is_tried_again_says_so() -> None:
    result = await run(Step("a", Flaky(2), retry=TEN), "data")
    assert (result.status, result.output, result.attempts) == (Status.SUCCEEDED, "data", 3)
    assert words(result) == ["call 1", "call 2"]
    assert result.feedback == "succeeded at attempt 3 of 3"
    assert result.latency_s == pytest.approx(20)


async def test_a_branch_that_is_tried_again_says_so() -> None:
    step = Step.parallel("p", {"a": Step("a", Flaky(1), retry=TEN), "b": Flaky(0)})
    result = await run(step)
    assert result.output == {"a": 1, "b": 1}
    assert result.completion_order == ("b", "a")
    a, b = result.branches["a"], result.branches["b"]
    assert (a.attempts, a.feedback, words(a)) == (2, "succeeded at attempt 2 of 3", ["call 1"])
    assert (b.attempts, b.feedback, b.attempt_errors) == (1, "succeeded", ())


async def test_the_group_holds_each_branches_last_error_once_and_notes_tell_the_rest() -> None:
    branches = {key: Step(key, Flaky(9), retry=TEN) for key in "ab"}
    result = await run(Step.parallel("p", branches))
    assert result.branches["a"].feedback == "raised ValueError: call 3 at attempt 3 of 3"
    with pytest.raises(ExceptionGroup) as raised:
        result.unwrap()
    told = [str(error) for error in raised.value.exceptions]
    assert told == ["call 3", "call 3"]
    assert raised.value.exceptions[0].__notes__ == [
        "attempt 1 raised ValueError: call 1",
        "attempt 2 raised ValueError: call 2",
        "branch a of step p",
    ]
    text = "".join(traceback.format_exception(raised.value))
    assert text.count("attempt 1 raised ValueError: call 1") == 2


async def test_a_result_is_told_in_plain_values_and_can_be_pickled() -> None:
    result = await run(Step.parallel("p", {"a": Step("a", Flaky(9), retry=TEN)}))
    plain = result.to_dict()["branches"]["a"]
    assert plain["attempts"] == 3
    assert plain["attempt_errors"] == ["ValueError('call 1')", "ValueError('call 2')"]
    copy = pickle.loads(pickle.dumps(result))
    assert copy.branches["a"].attempts == 3
    assert len(copy.branches["a"].attempt_errors) == 2


async def test_each_item_of_a_map_is_tried_again() -> None:
    fails: dict[int, int] = {}

    async def flaky(item: int) -> int:
        fails[item] = fails.get(item, 0) + 1
        if fails[item] <= item % 3:
            raise ValueError(item)
        return item * 2

    result = await run(Step.map_over("m", Step("a", flaky, retry=TEN)), range(20))
    assert result.output == [item * 2 for item in range(20)]
    assert result.branches["5"].attempts == 3


async def test_an_observer_hears_of_attempts_and_of_the_path() -> None:
    events: list[Any] = []
    inner = Step.parallel("inner", {"x": Step("x", Flaky(1), retry=TEN)})
    await run(Step.parallel("p", {"a": inner}), observer=events.append)
    failed = [event for event in events if isinstance(event, AttemptFailed)]
    assert [(event.step, event.key, str(event.error)) for event in failed] == [
        ("a/inner", "a/x", "call 1")
    ]


async def test_attempts_may_each_see_a_fresh_context() -> None:
    seen = []

    async def flaky(data: Any, *, context: dict[str, int]) -> None:
        seen.append(dict(context))
        context["n"] += 1
        if len(seen) < 3:
            raise ValueError

    step = Step.parallel("p", {"a": Step("a", flaky, retry=TEN)})
    await run(step, context={"n": 0})
    assert seen == [{"n": 0}] * 3


# What goes on meanwhile ----------------------------------------------------------------------


async def test_no_token_is_held_while_a_branch_waits() -> None:
    running, peak, done = 0, 0, []

    async def other(key: str) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(2)
        running -= 1
        done.append((key, anyio.current_time() - begun))

    flaky = Step("flaky", Flaky(1, 1), retry=TEN)
    branches = {"flaky": flaky} | {key: (lambda _, k=key: other(k)) for key in "abc"}
    branches = {
        key: Step(key, fn, lane="inline") if callable(fn) else fn for key, fn in branches.items()
    }
    begun = anyio.current_time()
    result = await run(Step.parallel("p", branches, max_concurrency=1))
    assert result.success
    assert peak == 1
    assert done == [("a", pytest.approx(3)), ("b", pytest.approx(5)), ("c", pytest.approx(7))]
    assert result.latency_s == pytest.approx(12)


async def test_a_nested_branch_that_waits_lets_its_parents_limit_be_used() -> None:
    inner = Pipeline([Step("x", Flaky(1, 1), retry=TEN)])
    nested = Step.parallel("q", {"y": Step("y", Flaky(1, 1), retry=TEN)}, max_concurrency=1)
    step = Step.parallel("p", {"a": inner, "b": nested, "c": Flaky(0, 1)}, max_concurrency=1)
    result = await run(step)
    assert result.output == {"a": 1, "b": {"y": 1}, "c": 1}


# What ends it --------------------------------------------------------------------------------


async def test_a_steps_deadline_that_would_strike_before_the_next_attempt_ends_the_branch() -> None:
    branches = {"a": Step("a", Flaky(9, 5), retry=TEN), "b": Flaky(0, 12)}
    result = await run(Step.parallel("p", branches, timeout=14))
    a = result.branches["a"]
    assert (a.status, a.attempts) == (Status.FAILED, 1)
    assert a.latency_s == pytest.approx(5)
    why = "it would begin 10 s later, past the deadline: 14 s (timeout=)"
    assert a.error.__notes__[0] == f"no further attempt: {why}"
    assert a.feedback == f"raised ValueError: call 1; no further attempt: {why}"
    assert (result.status, result.branches["b"].status) == (Status.FAILED, Status.SUCCEEDED)


async def test_a_steps_deadline_strikes_a_branch_that_waits_for_a_token() -> None:
    branches = {"a": Step("a", Flaky(9, 1), retry=TEN), "b": Flaky(0, 100)}
    result = await run(Step.parallel("p", branches, timeout=20, max_concurrency=1))
    a = result.branches["a"]
    assert (a.status, a.attempts, a.reason) == (
        Status.CANCELLED,
        1,
        "deadline: 20 s (timeout=)",
    )
    assert str(a.error) == "call 1"
    assert result.status is Status.TIMED_OUT
    assert result.latency_s == pytest.approx(20)


async def test_the_pipelines_deadline_is_not_outlasted_either() -> None:
    result = await Pipeline([Step("a", Flaky(9, 3), retry=TEN)]).run(1, timeout=10)
    (step,) = result.step_history
    assert (step.status, step.attempts) == (Status.FAILED, 1)
    assert result.duration == pytest.approx(3)


async def test_an_outer_cancellation_ends_the_wait_and_goes_on() -> None:
    with anyio.CancelScope() as scope:
        async with Pipeline([Step.parallel("p", {"a": Step("a", Flaky(9), retry=TEN)})]).open(
            1
        ) as live:
            await anyio.sleep(1)
            assert live.snapshot().steps[0].queued == 1
            scope.cancel()
    assert scope.cancelled_caught


async def test_run_cancel_reaches_a_branch_that_waits() -> None:
    step = Step.parallel("p", {"a": Step("a", Flaky(9), retry=TEN), "b": Flaky(0, 3)})
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(1)
        assert live.cancel("a", reason="unwanted") == 1
    a = live.result.step_history[0].branches["a"]
    assert (a.status, a.reason, a.attempts) == (Status.CANCELLED, "unwanted", 1)
    assert live.result.duration == pytest.approx(3)


async def test_a_live_run_that_is_stopped_ends_waits() -> None:
    step = Step.parallel("p", {"a": Step("a", Flaky(9), retry=TEN), "b": Flaky(0, 300)})
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(1)
        live.stop("enough")
    result = live.result.step_history[0]
    assert {branch.reason for branch in result.branches.values()} == {"enough"}


async def test_a_rule_cancels_a_branch_that_waits() -> None:
    rule = CancelWhen("b", "succeeded", cancel="a")
    branches = {"a": Step("a", Flaky(9), retry=TEN), "b": Flaky(0, 3)}
    result = await run(Step.parallel("p", branches, cancel_when=[rule]))
    a = result.branches["a"]
    assert (a.status, a.reason, a.attempts) == (Status.CANCELLED, "rule: b succeeded", 1)
    assert result.latency_s == pytest.approx(3)


@pytest.mark.parametrize("when", ["now", "soon"])
async def test_a_halt_ends_waits_and_forbids_further_attempts(when: str) -> None:
    branches = {
        "waits": Step("waits", Flaky(9), retry=TEN),
        "later": Step("later", Flaky(9, 5), retry=TEN),
        "wins": Flaky(0, 3),
    }
    result = await run(Step.parallel("p", branches, halt=Halt(when, "success")))
    waits, later = result.branches["waits"], result.branches["later"]
    assert (waits.status, waits.attempts, waits.reason) == (
        Status.CANCELLED,
        1,
        "halt: 1 success",
    )
    if when == "now":
        assert later.status is Status.CANCELLED
    else:
        assert (later.status, later.attempts) == (Status.FAILED, 1)
        assert later.feedback.endswith("no further attempt: halt: 1 success")
    assert result.latency_s == pytest.approx(3 if when == "now" else 5)


async def test_an_attempt_is_no_failure_that_a_halt_counts() -> None:
    branches = {key: Step(key, Flaky(2), retry=TEN) for key in "abc"}
    result = await run(Step.parallel("p", branches, halt=Halt("now", "failure")))
    assert result.success


# The budget ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parallel", "map"])
async def test_a_storm_makes_no_more_retries_than_the_budget_and_the_step_says_so(
    kind: str,
) -> None:
    flaky = Flaky(1e9)
    part = Step("a", flaky, retry=Retry(attempts=5))
    if kind == "map":
        result = await run(Step.map_over("m", part, max_concurrency=100), range(1000))
    else:
        branches = {str(number): part for number in range(1000)}
        result = await run(Step.parallel("p", branches, max_concurrency=100))
    assert flaky.calls == 1200
    assert sum(branch.attempts for branch in result.branches.values()) == 1200
    assert "were not tried again: the retry budget is spent, 200 retries for 1000" in (
        result.feedback
    )
    assert "(budget=0.2 of Retry)" in result.feedback


async def test_small_steps_have_all_their_retries() -> None:
    branches = {str(number): Step("a", Flaky(2), retry=TEN) for number in range(30)}
    assert (await run(Step.parallel("p", branches))).success


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retry", "says"),
    [
        (3, r"Step 'a': retry=3 \(int\) is no Retry; give Retry\(attempts=3\)"),
        (True, r"retry=True \(bool\) is no Retry; give Retry\(attempts=3\)"),
        (Retry, r"retry=<class .*> \(type\) is no Retry"),
        ({"attempts": 3}, r"\(dict\) is no Retry"),
    ],
)
def test_what_is_no_retry_is_refused(retry: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Step("a", Flaky(1), retry=retry)


async def test_an_ignored_failure_after_all_attempts_is_still_told() -> None:
    branches = {"a": Step("a", Flaky(9), retry=TEN), "b": Flaky(0)}
    ignore = BranchFailureStrategy.IGNORE
    result = await run(Step.parallel("p", branches, on_branch_failure=ignore))
    assert result.success
    assert result.branches["a"].attempts == 3
