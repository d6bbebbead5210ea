"""Halt, CancelWhen and priorities: who is stopped, when, why, and what the step then was."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest

from anabranch import (
    BranchFailureStrategy,
    CancelWhen,
    ConcurrencyConfig,
    ConfigurationError,
    Halt,
    HostLoopError,
    Pipeline,
    Retry,
    Status,
    Step,
    StepResult,
    UnmatchedPatternWarning,
)

IGNORE = BranchFailureStrategy.IGNORE


def sleeper(seconds: float, log: list[Any] | None = None) -> Any:
    async def sleep(_: Any) -> float:
        await anyio.sleep(seconds)
        if log is not None:
            log.append(seconds)
        return seconds

    return sleep


def failer(seconds: float) -> Any:
    async def fail(_: Any) -> None:
        await anyio.sleep(seconds)
        raise ValueError(seconds)

    return fail


async def run(step: Any, data: Any = 1, **options: Any) -> StepResult[Any]:
    with anyio.fail_after(500):
        return (await Pipeline([step]).run(data, **options)).step_history[-1]


def statuses(result: StepResult[Any]) -> dict[str, str]:
    return {key: str(branch.status) for key, branch in result.branches.items()}


# Halt ----------------------------------------------------------------------------------------


async def test_fail_fast_cancels_what_runs_and_what_is_queued() -> None:
    begun: list[str] = []

    async def late(_: Any) -> None:
        begun.append("late")

    branches = {"bad": failer(1), "slow": sleeper(100), "queued": late}
    result = await run(Step.parallel(branches, max_concurrency=2, timeout=None, halt=Halt()))
    assert statuses(result) == {"bad": "failed", "slow": "cancelled", "queued": "cancelled"}
    assert not result.success
    assert result.status is Status.FAILED
    assert result.reason == "halt: 1 failure"
    assert result.branches["slow"].reason == "halt: 1 failure"
    assert result.branches["slow"].latency_s == pytest.approx(1)
    assert begun == []
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_soon_lets_what_runs_end_and_rejects_what_is_queued() -> None:
    log: list[Any] = []
    branches = {"bad": failer(1), "slow": sleeper(5, log), "queued": sleeper(7, log)}
    halt = Halt("soon", "failure", 1)
    result = await run(Step.parallel(branches, max_concurrency=2, halt=halt))
    assert statuses(result) == {"bad": "failed", "slow": "succeeded", "queued": "rejected"}
    assert log == [5]
    assert result.branches["queued"].attempts == 0
    assert result.reason == "halt: 1 failure"
    assert not result.success


async def test_first_success_wins_and_the_step_has_succeeded() -> None:
    branches = {"bad": failer(1), "quick": sleeper(2), "slow": sleeper(100)}
    result = await run(Step.parallel(branches, halt=Halt(on="success")))
    assert result.success
    assert result.status is Status.SUCCEEDED
    assert result.reason == "halt: 1 success"
    assert result.output["quick"] == 2
    assert result.output["slow"].status is Status.CANCELLED
    assert result.latency_s == pytest.approx(2)


async def test_a_quorum_of_k_and_of_a_percentage() -> None:
    branches = {str(n): sleeper(n) for n in range(1, 11)}
    three = await run(Step.parallel(branches, halt=Halt(on="success", count=3)))
    assert three.success
    assert three.reason == "halt: 3 successes"
    assert list(three.completion_order[:3]) == ["1", "2", "3"]
    most = await run(Step.parallel(branches, halt=Halt(on="success", percent=51)))
    assert most.reason == "halt: 6 successes (51 %)"
    assert sum(each.success for each in most.branches.values()) == 6


async def test_a_quorum_that_is_missed_is_no_success() -> None:
    branches = {"a": sleeper(1), "b": failer(1), "c": failer(2)}
    result = await run(Step.parallel(branches, halt=Halt(on="success", count=2)))
    assert not result.success
    assert result.reason == ""


async def test_done_counts_both_and_asks_how_they_ended() -> None:
    good = {"a": sleeper(1), "b": sleeper(2), "c": sleeper(100)}
    result = await run(Step.parallel(good, halt=Halt(on="done", count=2)))
    assert result.success
    assert result.reason == "halt: 2 branches done"
    mixed = {"a": failer(1), "b": sleeper(2), "c": sleeper(100)}
    assert not (await run(Step.parallel(mixed, halt=Halt(on="done", count=2)))).success
    lenient = Step.parallel(mixed, halt=Halt(on="done", count=2), on_branch_failure=IGNORE)
    assert (await run(lenient)).success


async def test_a_branchs_own_timeout_is_a_failure() -> None:
    branches = {"late": Step("late", sleeper(9), timeout=1), "slow": sleeper(100)}
    result = await run(Step.parallel(branches, halt=Halt()))
    assert statuses(result) == {"late": "timed_out", "slow": "cancelled"}


async def test_the_steps_deadline_beats_a_soft_halt() -> None:
    branches = {"bad": failer(1), "slow": sleeper(100)}
    result = await run(Step.parallel(branches, halt=Halt("soon"), timeout=5))
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 5 s (timeout=)"


async def test_a_nested_step_may_halt_and_its_siblings_go_on() -> None:
    inner = Step.parallel({"x": failer(1), "y": sleeper(100)}, halt=Halt(), timeout=None)
    result = await run(Step.parallel({"inner": inner, "b": sleeper(3)}, timeout=None))
    assert result.output["b"] == 3
    nested = result.branches["inner"]
    assert nested.reason == "halt: 1 failure"
    assert statuses(nested) == {"x": "failed", "y": "cancelled"}


async def test_a_halted_step_tells_what_is_nested_in_it_why() -> None:
    inner = Step.parallel({"x": sleeper(100), "y": sleeper(90)}, timeout=None)
    result = await run(Step.parallel({"inner": inner, "bad": failer(1)}, halt=Halt()))
    nested = result.branches["inner"]
    assert nested.status is Status.CANCELLED
    assert {each.reason for each in nested.branches.values()} == {"halt: 1 failure"}


async def test_a_map_halts() -> None:
    def items() -> Any:
        number = 0
        while True:
            yield number
            number += 1

    begun = []

    async def work(number: int) -> int:
        begun.append(number)
        await anyio.sleep(number)
        if number == 5:
            raise ValueError(number)
        return number

    step = Step.map_over("m", work, items=items(), max_concurrency=2, halt=Halt())
    result = await run(step)
    assert not result.success
    assert result.reason == "halt: 1 failure"
    assert len(begun) < 9
    counted = Step.map_over("m", work, items=range(5), halt=Halt(on="success", percent=60))
    assert (await run(counted)).reason == "halt: 3 successes (60 %)"
    unknown = Step.map_over("m", work, items=items(), halt=Halt(percent=10))
    failed = await run(unknown)
    assert not failed.success
    assert "needs items whose number is known" in failed.feedback


# CancelWhen ----------------------------------------------------------------------------------

SEED = [CancelWhen("high_priority_*", "succeeded", cancel="low_priority_*")]


async def test_the_seeds_rule_high_priority_ends_low_priority() -> None:
    branches = {
        "high_priority_1": sleeper(1),
        "high_priority_2": sleeper(3),
        "low_priority_1": sleeper(100),
        "low_priority_2": sleeper(50),
        "other": sleeper(4),
    }
    result = await run(Step.parallel(branches, cancel_when=SEED))
    assert result.branches["low_priority_1"].reason == "rule: high_priority_1 succeeded"
    assert result.branches["low_priority_2"].status is Status.CANCELLED
    assert result.branches["low_priority_2"].latency_s == pytest.approx(1)
    assert result.output["other"] == 4
    assert result.success
    assert result.feedback == "3 of 5 branches succeeded, 2 were stopped"


async def test_the_same_by_hand_in_a_live_run() -> None:
    branches = {"high_priority_1": sleeper(1), "low_priority_1": sleeper(100)}
    async with Pipeline([Step.parallel(branches)]).open(1) as live:
        async for outcome in live.outcomes:
            if outcome.key.startswith("high_priority_"):
                assert live.cancel("low_priority_*", reason="a high one is there") == 1
    result = live.result.step_history[0]
    assert result.success
    assert result.branches["low_priority_1"].reason == "a high one is there"


async def test_all_waits_for_every_branch_that_matches() -> None:
    branches = {"a_1": sleeper(1), "a_2": sleeper(4), "b": sleeper(100)}
    rules = [CancelWhen("a_*", "succeeded", cancel="b", all=True)]
    result = await run(Step.parallel(branches, cancel_when=rules))
    assert result.branches["b"].reason == "rule: all of a_* succeeded"
    assert result.branches["b"].latency_s == pytest.approx(4)
    branches["a_1"] = failer(1)
    result = await run(Step.parallel({**branches, "b": sleeper(9)}, cancel_when=rules))
    assert result.output["b"] == 9, "one has failed, so not all have succeeded"


async def test_mirrors_the_first_answer_wins() -> None:
    branches = {f"mirror_{n}": sleeper(n) for n in (5, 1, 3)}
    rules = [CancelWhen("*", "succeeded", cancel="*")]
    result = await run(Step.parallel(branches, cancel_when=rules))
    assert statuses(result) == {
        "mirror_5": "cancelled",
        "mirror_1": "succeeded",
        "mirror_3": "cancelled",
    }
    assert result.success


async def test_a_failure_may_be_what_a_rule_waits_for() -> None:
    branches = {"probe": failer(1), "work": sleeper(100), "queued": sleeper(100)}
    rules = [CancelWhen("probe", "failed", cancel="[wq]*")]
    result = await run(Step.parallel(branches, cancel_when=rules, max_concurrency=2))
    assert statuses(result) == {"probe": "failed", "work": "cancelled", "queued": "cancelled"}
    assert not result.success


async def test_a_rule_reaches_what_is_nested_and_is_told_of_it() -> None:
    inner = Step.parallel({"x": sleeper(1), "y": sleeper(100), "z": sleeper(2)}, timeout=None)
    rules = [
        CancelWhen("inner/x", "succeeded", cancel="inner/y"),
        CancelWhen("inner/z", "done", cancel="b"),
    ]
    branches = {"inner": inner, "b": sleeper(100)}
    result = await run(Step.parallel(branches, cancel_when=rules))
    assert result.branches["inner"].branches["y"].reason == "rule: inner/x succeeded"
    assert result.branches["b"].reason == "rule: inner/z done"
    assert result.branches["inner"].success


async def test_a_rule_that_cancels_a_branch_tells_what_is_nested_why() -> None:
    inner = Step.parallel({"x": sleeper(90), "y": sleeper(100)}, timeout=None)
    rules = [CancelWhen("quick", "done", cancel="inner")]
    result = await run(Step.parallel({"inner": inner, "quick": sleeper(1)}, cancel_when=rules))
    nested = result.branches["inner"]
    assert nested.reason == "rule: quick done"
    assert {each.reason for each in nested.branches.values()} == {"rule: quick done"}


async def test_rules_of_a_step_work_inside_a_branch_and_under_a_limit_of_one(all_home) -> None:
    limiter = all_home(anyio.CapacityLimiter(1))
    inner = Step.parallel(
        {"x": sleeper(1), "y": sleeper(100)},
        cancel_when=[CancelWhen("x", "done", cancel="y")],
        timeout=None,
    )
    result = await run(Step.parallel({"a": inner, "b": inner}, timeout=None), limiter=limiter)
    assert result.success
    assert result.branches["b"].branches["y"].attempts == 0


async def test_a_nested_step_whose_branches_were_all_stopped_is_no_failure() -> None:
    inner = Step.parallel({"x": sleeper(90), "y": sleeper(100)}, timeout=None)
    branches = {"inner": inner, "b": sleeper(2), "quick": sleeper(1)}
    rules = [CancelWhen("quick", "done", cancel="inner/*")]
    result = await run(Step.parallel(branches, cancel_when=rules, halt=Halt()))
    assert result.branches["inner"].status is Status.CANCELLED
    assert result.success, "it was wished for"
    assert result.output["b"] == 2, "and is no failure for a Halt either"


async def test_a_step_whose_branches_were_all_stopped_says_why() -> None:
    branches = {"a": sleeper(90), "b": sleeper(100)}
    async with Pipeline([Step.parallel(branches, timeout=None)]).open(1) as live:
        await anyio.sleep(1)
        assert live.cancel("*", reason="no longer needed") == 2
    result = live.result.step_history[0]
    assert result.status is Status.CANCELLED
    assert result.reason == "no longer needed"


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_rule_reaches_what_begins_after_it_has_come_true(limit: int) -> None:
    inner = Step.parallel({"low_1": sleeper(50), "other": sleeper(1)}, timeout=None)
    rules = [CancelWhen("high", "succeeded", cancel="p/low_*")]
    branches = {"high": sleeper(1), "p": inner}
    step = Step.parallel(branches, cancel_when=rules, max_concurrency=limit)
    nested = (await run(step)).branches["p"]
    assert nested.branches["low_1"].reason == "rule: high succeeded"
    assert nested.success
    assert nested.latency_s == pytest.approx(1)


@pytest.mark.real_clock
async def test_a_run_is_not_cancelled_from_a_thread_without_a_word() -> None:
    runs: list[Any] = []

    def meddle(_: Any) -> str:
        try:
            runs[0].cancel("b")
        except HostLoopError as error:
            return str(error)
        return "it went through"

    branches = {"a": meddle, "b": sleeper(0.1)}
    async with Pipeline([Step.parallel(branches)]).open(1) as live:
        runs.append(live)
    result = live.result.step_history[0]
    assert "anyio.from_thread.run_sync(run.cancel" in result.output["a"]
    assert result.output["b"] == 0.1


async def test_a_reduce_that_lasts_past_the_deadline_ends_with_it() -> None:
    async def slow(_: Any) -> str:
        try:
            await anyio.sleep(50)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
        return "too late"

    result = await run(Step.parallel({"a": sleeper(1)}, reduce=slow, timeout=2))
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 2 s (timeout=)"


# Deadlines -----------------------------------------------------------------------------------


async def test_what_is_nested_says_whose_deadline_struck() -> None:
    inner = Step.parallel({"x": sleeper(90), "y": sleeper(100)}, timeout=None)
    result = await run(Step.parallel("outer", {"inner": inner}, timeout=2))
    nested = result.branches["inner"]
    assert nested.reason == "deadline: 2 s (timeout=)"
    reasons = {each.reason for each in nested.branches.values()}
    assert reasons == {"deadline: 2 s (timeout= of step outer)"}


async def test_the_deadline_of_a_branch_is_named_below_it() -> None:
    async def plain(_: Any) -> Any:
        inner = Step.parallel({"x": sleeper(90)}, timeout=None)
        return await Pipeline([inner]).run(1)

    result = await run(Step.parallel({"b": Step("b", plain, timeout=2)}, timeout=9))
    assert result.branches["b"].reason == "deadline: 2 s (timeout= of the branch)"


async def test_the_pipelines_deadline_is_named_at_every_level() -> None:
    inner = Step.parallel({"x": sleeper(90)}, timeout=50)
    step = Step.parallel("outer", {"inner": inner}, timeout=60)
    result = (await Pipeline([step]).run(1, timeout=3)).step_history[0]
    words = "deadline: 3 s (timeout= of the pipeline)"
    assert result.reason == words
    assert result.branches["inner"].branches["x"].reason == words


# Priorities ----------------------------------------------------------------------------------


async def test_a_free_token_goes_to_the_most_urgent_and_the_first_declared_among_equals() -> None:
    begun: list[str] = []

    def noting(name: str) -> Any:
        async def work(_: Any) -> None:
            begun.append(name)
            await anyio.sleep(1)

        return work

    names = ["low_1", "mid_1", "high_1", "mid_2", "high_2", "low_2"]
    step = Step.parallel(
        {name: noting(name) for name in names},
        max_concurrency=1,
        priorities={"high_*": 10, "low_*": -1},
    )
    result = await run(step)
    assert begun == ["high_1", "high_2", "mid_1", "mid_2", "low_1", "low_2"]
    assert list(result.branches) == names


async def test_the_first_glob_that_matches_counts() -> None:
    begun: list[str] = []

    async def work(_: Any, *, name: str) -> None:
        begun.append(name)

    def noting(name: str) -> Any:
        async def note(_: Any) -> None:
            begun.append(name)

        return note

    branches = {name: noting(name) for name in ("a", "ab", "abc")}
    await run(Step.parallel(branches, max_concurrency=1, priorities={"abc": 1, "a*": 5}))
    assert begun == ["a", "ab", "abc"]


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Halt(percent=0), "percent=0"),
        (lambda: Halt(percent=0.5), "percent=50 meant"),
        (lambda: Halt(percent=101), "1 to 100"),
        (lambda: Halt(percent=float("nan")), "percent=nan"),
        (lambda: Halt(percent=True), "percent=True"),
        (lambda: Halt(count=1, percent=50), "both given"),
        (lambda: Halt(count=0), "count=0"),
        (lambda: Halt(count=1.5), "count=1.5"),
        (lambda: Halt("later"), "'now', 'soon'"),
        (lambda: Halt(on="error"), "'failure', 'success', 'done'"),
        (lambda: Halt(cuont=1), "did you mean 'count'"),
        (lambda: CancelWhen("a", "ends", cancel="b"), "'succeeded', 'failed', 'done'"),
        (lambda: CancelWhen("", "done", cancel="b"), "pattern=.. .str. is no glob"),
        (lambda: CancelWhen("a", "done", cancel=None), "cancel=None"),
        (lambda: CancelWhen("a", "done", cancel="b", all="yes"), "neither True nor False"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(")):
        make()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"halt": "now"}, "is no Halt"),
        ({"halt": Halt(count=3)}, "can never come true with 2 branches"),
        ({"cancel_when": CancelWhen("alpha", "done", cancel="beta")}, "give a list"),
        ({"cancel_when": ["alpha"]}, "give CancelWhen"),
        ({"cancel_when": [CancelWhen("alpa", "done", cancel="beta")]}, "did you mean 'alpha'"),
        ({"cancel_when": [CancelWhen("alpha", "done", cancel="x/*")]}, "matches no branch"),
        ({"cancel_when": [CancelWhen("**/x", "done", cancel="beta", all=True)]}, "all=True"),
        ({"priorities": {"gamma*": 1}}, "'gamma\\*' matches no branch"),
        ({"priorities": {"alpha": 1.5}}, "no whole number"),
        ({"priorities": {"alpha": True}}, "no whole number"),
        ({"priorities": ["alpha"]}, "is no mapping"),
    ],
)
def test_a_step_refuses_rules_that_do_not_fit(options: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Step.parallel("s", {"alpha": sleeper(1), "beta": sleeper(1)}, **options)


def test_rules_for_single_branches_need_individual_cancellation() -> None:
    config = ConcurrencyConfig(individual_cancellation=False)
    rules = [CancelWhen("a", "done", cancel="b")]
    with pytest.raises(ConfigurationError, match="individual_cancellation=False"):
        Step.parallel({"a": sleeper(1), "b": sleeper(1)}, concurrency=config, cancel_when=rules)


# Patterns over what is nested -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "near"),
    [("in/low_9", "in/low_"), ("in/low", "in/low_"), ("inn/*", "in"), ("in/low_1/x", "in/low_1")],
)
def test_a_glob_over_nested_branches_that_are_known_is_checked_at_once(
    glob: str, near: str
) -> None:
    inner = Step.parallel({"low_1": sleeper(1), "low_2": sleeper(1)})
    for rule in (
        CancelWhen("b", "done", cancel=glob),
        CancelWhen(glob, "done", cancel="b"),
    ):
        with pytest.raises(ConfigurationError, match=f"{re.escape(repr(glob))}.*{near}"):
            Step.parallel({"in": inner, "b": sleeper(1)}, cancel_when=[rule])


@pytest.mark.parametrize("glob", ["m/999", "m/0/x", "**/x"])
async def test_a_glob_that_matched_none_of_the_branches_made_meanwhile_is_warned_of(
    glob: str,
) -> None:
    mapped = Step.map_over("m", sleeper(1), items=[1, 2])
    rule = CancelWhen("b", "done", cancel=glob)
    step = Step.parallel("s", {"m": mapped, "b": sleeper(1)}, cancel_when=[rule])
    with pytest.warns(UnmatchedPatternWarning, match=re.escape(f"step 's': {glob!r}")):
        assert (await Pipeline([step]).run(1)).success


@pytest.mark.parametrize("glob", ["m/1", "m/*", "**/1", "m/[01]"])
async def test_a_glob_that_matched_one_of_them_is_not(glob: str) -> None:
    mapped = Step.map_over("m", sleeper(1), items=[1, 2])
    rule = CancelWhen("b", "failed", cancel=glob)
    step = Step.parallel("s", {"m": mapped, "b": sleeper(2)}, cancel_when=[rule])
    assert (await Pipeline([step]).run(1)).success


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("kind", ["plain", "timed", "tried", "async items"])
async def test_a_rule_reaches_the_items_that_are_made_after_it_came_true(
    limit: int, kind: str
) -> None:
    begun: list[float] = []

    async def low(item: int) -> int:
        begun.append(anyio.current_time())
        await anyio.sleep(2)
        return item

    async def made() -> Any:
        for number in range(10):
            await anyio.sleep(0.1)
            yield number

    how = {"timed": {"timeout": 5}, "tried": {"retry": Retry(2)}}.get(kind, {})
    items = (lambda _: made()) if kind == "async items" else range(10)
    mapped = Step.map_over("m", Step("low", low, **how), items=items, max_concurrency=limit)
    rule = CancelWhen("high", "succeeded", cancel="m/*")
    began = anyio.current_time()
    step = Step.parallel("s", {"high": sleeper(3), "m": mapped}, cancel_when=[rule])
    result = await run(step)
    items_of = result.branches["m"].branches
    assert len(items_of) == 10, "each item has a result"
    assert {each.reason for each in items_of.values() if not each.success} == {
        "rule: high succeeded"
    }
    assert all(at - began < 3 for at in begun)
    assert result.success
    assert anyio.current_time() - began < 5
