"""See that a breach ends everything at once, keeps what finished, and loses no charge."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import attrs
import pytest
import trio

from anabranch import (
    BranchFailureStrategy,
    Breached,
    Budget,
    ConcurrencyConfig,
    ConfigurationError,
    Pipeline,
    PipelineResult,
    Retry,
    Status,
    Step,
    StepResult,
    UsageLimitExceededError,
    UsageLimits,
    charge,
    open_scheduler,
)
from anabranch.testing._schedules import run_asyncio, run_trio
from tests.branches import submit, with_begun

IGNORE = BranchFailureStrategy.IGNORE
BREACH = "breach: spent 12 of 10 usd"
WAS_SET = "breach: the breach_event was set"


@attrs.frozen
class Answer:
    cost_usd: Any = None
    token_counts: Any = None


def sleeper(seconds: float) -> Any:
    async def sleep(_: Any) -> float:
        await anyio.sleep(seconds)
        return seconds

    return sleep


def spender(seconds: float = 0, then: float = 0, **amounts: Any) -> Any:
    async def spend(_: Any) -> str:
        await anyio.sleep(seconds)
        charge(**amounts)
        await anyio.sleep(then)
        return "spent"

    return spend


def thread(**amounts: Any) -> Any:
    def spend(_: Any) -> str:
        charge(**amounts)
        return "spent"

    return spend


async def breach(pipeline: Pipeline[Any, Any], data: Any = 1, **options: Any) -> PipelineResult:
    """Run what breaches, and return the partial result that the error carries."""
    with pytest.raises(UsageLimitExceededError) as caught:
        await pipeline.run(data, **options)
    result = caught.value.result
    assert isinstance(result, PipelineResult)
    assert not result.success
    assert "breach: " in str(caught.value)
    return result


def costs(result: StepResult[Any]) -> dict[str, Any]:
    return {key: branch.cost_usd for key, branch in result.branches.items()}


# What is counted -----------------------------------------------------------------------------


async def test_a_run_without_a_budget_counts_each_charge_once() -> None:
    async def twice(_: Any) -> None:
        charge(cost_usd=0.1)
        await anyio.sleep(1)
        charge(cost_usd=0.2, tokens=5)

    inner = Step.parallel("inner", {"x": twice, "y": spender(cost_usd=1, images=2)})
    nested = Pipeline([spender(cost_usd=0.5), inner])
    steps = [
        Step("first", spender(tokens=7)),
        Step.parallel("p", {"a": twice, "n": nested, "none": sleeper(1)}),
        Step.map_over("m", twice, items=range(3)),
    ]
    result = await Pipeline(steps).run()
    first, parallel, mapped = result.step_history
    assert result.usage.to_dict() == {"cost_usd": 3.0, "tokens": 32, "custom": {"images": 2}}
    assert (first.cost_usd, first.token_counts) == (None, 7)
    assert (parallel.cost_usd, parallel.token_counts) == (2.1, 10)
    assert costs(parallel) == {"a": 0.3, "n": 1.8, "none": None}
    assert costs(parallel.branches["n"]) == {"x": 0.3, "y": 1.0}
    assert (mapped.cost_usd, mapped.token_counts) == (0.9, 15)
    assert costs(mapped) == dict.fromkeys("012", 0.3)


async def test_what_charged_nothing_has_no_usage() -> None:
    result = await Pipeline([Step.parallel({"a": sleeper(1)})]).run(budget=Budget(1))
    assert result.usage.to_dict() == {"cost_usd": 0.0, "tokens": 0, "custom": {}}
    assert result.step_history[0].branches["a"].cost_usd is None


async def test_branches_of_one_hand_are_charged_each_for_itself() -> None:
    branches = {f"b{i}": spender(cost_usd=i, tokens=i) for i in range(9)}
    result = await Pipeline([Step.parallel(branches, max_concurrency=2)]).run()
    step = result.step_history[0]
    assert costs(step) == {f"b{i}": i for i in range(9)}
    assert step.token_counts == result.usage.tokens == 36


async def test_what_failed_or_ran_out_of_time_is_counted_too() -> None:
    async def fail(_: Any) -> None:
        charge(cost_usd=1)
        raise ValueError

    late = Step("late", spender(then=9, cost_usd=2), timeout=1)
    step = Step.parallel({"bad": fail, "late": late, "cut": spender(then=9, cost_usd=4)}, timeout=2)
    result = await Pipeline([step]).run()
    statuses = [str(branch.status) for branch in result.step_history[0].branches.values()]
    assert statuses == ["failed", "timed_out", "cancelled"]
    assert costs(result.step_history[0]) == {"bad": 1, "late": 2, "cut": 4}
    assert result.step_history[0].cost_usd == result.usage.cost_usd == 7


async def test_each_attempt_is_counted() -> None:
    begun = []

    async def branch(_: Any) -> None:
        begun.append(1)
        charge(cost_usd=1)
        if len(begun) < 3:
            raise ValueError

    step = Step.parallel({"a": Step("a", branch, retry=Retry(3, wait=0.1))})
    result = await Pipeline([step]).run(budget=Budget(3))
    assert result.success
    assert costs(result.step_history[0]) == {"a": 3}


async def test_child_tasks_of_a_branch_charge_it() -> None:
    async def branch(_: Any, *, amount: float) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(spender(1, cost_usd=amount), 1))
            group.start_soon(partial(spender(2, cost_usd=amount), 1))
        charge(cost_usd=amount)

    steps = {str(i): partial(branch, amount=i) for i in (1, 2, 3)}
    result = await Pipeline([Step.parallel(steps, max_concurrency=2)]).run()
    assert costs(result.step_history[0]) == {"1": 3, "2": 6, "3": 9}


@pytest.mark.real_clock
async def test_a_hundred_branches_charge_from_tasks_and_threads_and_the_sum_is_exact() -> None:
    async def task(_: Any) -> None:
        for _ in range(10):
            charge(cost_usd=0.1, tokens=3)
            await anyio.sleep(0)

    def plain(_: Any) -> None:
        for _ in range(10):
            charge(cost_usd=0.1, tokens=3)

    async def to_thread(_: Any) -> None:
        await anyio.to_thread.run_sync(plain, None)

    def from_thread(_: Any) -> None:
        plain(None)
        anyio.from_thread.run(task, None)

    kinds = [task, plain, to_thread, from_thread]
    branches = {f"b{i}": kinds[i % 4] for i in range(100)}
    budget = Budget(cost_usd=125, tokens=3750)  # exactly what it comes to
    step = Step.parallel(branches, max_concurrency=100)
    result = await Pipeline([step]).run(budget=budget)
    assert (result.usage.cost_usd, result.usage.tokens) == (125, 3750)
    for key, branch in result.step_history[0].branches.items():
        twice = 1 + branches[key].__name__.startswith("from")
        assert (branch.cost_usd, branch.token_counts) == (twice, 30 * twice)


@pytest.mark.parametrize("how", ["run", "live", "budget"])
async def test_a_branch_that_returns_what_it_cost_is_charged_for_it(how: str) -> None:
    async def answer(_: Any) -> Answer:
        await anyio.sleep(1)
        return Answer(0.25, 10)

    inner = Step.parallel("inner", {"x": answer, "y": answer})
    last = Pipeline([Step("s", sleeper(1)), answer])  # what it hands on is charged for once
    plain = Step("plain", lambda _: Answer(1), lane="inline")
    step = Step.parallel("p", {"a": answer, "n": inner, "p": last, "plain": plain})
    pipeline = Pipeline([step, Step("s", answer), Step.map_over("m", answer, items="abc")])
    if how == "live":
        async with pipeline.open(1) as run:
            await anyio.sleep(1.5)
            assert run.usage.cost_usd == 1.75
        result = run.result
        assert run.usage == result.usage
    else:
        result = await pipeline.run(1, budget=Budget(4) if how == "budget" else None)
    parallel, single, mapped = result.step_history
    assert (result.usage.cost_usd, result.usage.tokens) == (3, 80)
    assert costs(parallel) == {"a": 0.25, "n": 0.5, "p": 0.25, "plain": 1}
    assert parallel.branches["n"].token_counts == 20
    assert parallel.token_counts == 40
    assert single.cost_usd == 0.25
    assert mapped.cost_usd == 0.75


async def test_the_charge_for_what_is_returned_breaches_at_the_moment_that_it_ends() -> None:
    async def answer(_: Any) -> Answer:
        await anyio.sleep(2)
        return Answer(12)

    start = anyio.current_time()
    step = Step.parallel({"a": answer, "b": sleeper(30)})
    result = await breach(Pipeline([step]), budget=Budget(10))
    assert anyio.current_time() - start == pytest.approx(2, abs=0.01)
    branches = result.step_history[0].branches
    assert branches["a"].success
    assert branches["a"].output == Answer(12)
    assert branches["b"].reason == BREACH


@pytest.mark.parametrize("cost", [-1, "3", float("nan"), True, [1]])
async def test_a_returned_cost_that_cannot_be_meant_is_told_and_costs_no_result(
    cost: Any, caplog: Any
) -> None:
    async def answer(_: Any) -> Answer:
        return Answer(cost, 5)

    result = await Pipeline([Step.parallel({"a": answer, "b": answer})]).run(budget=Budget(9))
    assert result.success
    assert result.usage.to_dict() == {"cost_usd": 0.0, "tokens": 10, "custom": {}}
    assert "is not charged for what it returned: Answer: cost_usd=" in caplog.text


async def test_an_object_whose_cost_cannot_be_read_costs_no_result() -> None:
    class Odd:
        @property
        def cost_usd(self) -> float:
            raise KeyError

    async def odd(_: Any) -> Odd:
        return Odd()

    assert (await Pipeline([Step.parallel({"a": odd})]).run(budget=Budget(1))).success


async def test_a_streamed_map_keeps_the_sum_and_no_branches() -> None:
    async def answer(item: int) -> Answer:
        charge(cost_usd=0.5)
        return Answer(0.5)

    async with Pipeline([Step.map_over("m", answer, max_concurrency=3)]).open(range(100)) as run:
        async for _ in run.outcomes:
            pass
    step = run.result.step_history[0]
    assert (len(step.branches), step.cost_usd, run.result.usage.cost_usd) == (0, 100, 100)


async def test_a_scheduler_opened_in_a_branch_charges_the_branch() -> None:
    async def branch(_: Any) -> None:
        async with open_scheduler(2) as scheduler:
            for i in range(5):
                submit(scheduler, str(i), spender(cost_usd=1), 1)

    result = await Pipeline([Step.parallel({"a": branch, "b": branch})]).run()
    assert costs(result.step_history[0]) == {"a": 5, "b": 5}


async def test_a_run_started_in_a_branch_charges_both_and_each_once() -> None:
    inner = Pipeline([Step.parallel({"x": spender(cost_usd=1), "y": spender(cost_usd=2)})])
    usages = []

    async def branch(_: Any) -> StepResult[Any]:
        result = await inner.run(budget=Budget(3))
        usages.append(result.usage.cost_usd)
        return result.step_history[0]  # it was charged where it came from

    result = await Pipeline([Step.parallel({"a": branch, "b": branch})]).run()
    assert usages == [3, 3]
    assert result.usage.cost_usd == 6
    assert costs(result.step_history[0]) == {"a": 3, "b": 3}


async def test_the_outer_budget_ends_a_run_that_was_started_in_a_branch() -> None:
    async def branch(_: Any) -> None:
        await Pipeline([Step.parallel({"x": spender(1, 30, cost_usd=12)})]).run(budget=Budget(99))

    result = await breach(Pipeline([Step.parallel({"a": branch})]), budget=Budget(10))
    assert result.step_history[0].branches["a"].reason == BREACH


async def test_the_inner_budget_ends_the_inner_run_alone() -> None:
    async def branch(_: Any) -> None:
        await Pipeline([spender(1, 30, cost_usd=12)]).run(budget=Budget(10))

    step = Step.parallel({"a": branch, "b": spender(2, cost_usd=5)})
    result = await Pipeline([step]).run(budget=Budget(17))
    branches = result.step_history[0].branches
    assert isinstance(branches["a"].error, UsageLimitExceededError)
    assert branches["b"].success
    assert result.usage.cost_usd == 17


# What a breach does --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget", [Budget(cost_usd=10), UsageLimits(total_cost_usd_limit=10)], ids=["own", "seed"]
)
@pytest.mark.parametrize("strategy", list(BranchFailureStrategy))
async def test_a_breach_cancels_what_is_left_and_keeps_what_finished(
    budget: Any, strategy: BranchFailureStrategy
) -> None:
    branches = {
        "done": spender(0, cost_usd=3),
        "breaks": spender(1, 30, cost_usd=9),
        "runs": sleeper(20),
        "queued": spender(cost_usd=1),
    }
    step = Step.parallel("p", branches, max_concurrency=2, on_branch_failure=strategy)
    never = Step("never", sleeper(1))
    start = anyio.current_time()
    result = await breach(Pipeline([Step("s", sleeper(1)), step, never]), budget=budget)
    assert anyio.current_time() - start == pytest.approx(2, abs=0.01)
    assert result.reason == BREACH
    assert result.usage.cost_usd == 12
    first, stopped = result.step_history
    assert first.success
    assert (stopped.success, stopped.status, stopped.reason) == (False, "cancelled", BREACH)
    found = {key: (str(b.status), b.reason) for key, b in stopped.branches.items()}
    assert found == {"done": ("succeeded", ""), **dict.fromkeys(
        ("breaks", "runs", "queued"), ("cancelled", BREACH))}  # fmt: skip
    assert costs(stopped) == {"done": 3, "breaks": 9, "runs": None, "queued": None}
    assert stopped.output["done"] == "spent"


async def test_a_breach_after_50_ms_ends_a_step_of_a_timeout_of_30_s_after_50_ms() -> None:
    step = Step.parallel({"a": spender(0.05, 60, cost_usd=12), "b": sleeper(60)}, timeout=30)
    start = anyio.current_time()
    result = await breach(Pipeline([step]), budget=Budget(10))
    assert anyio.current_time() - start == pytest.approx(0.05, abs=0.005)
    assert result.step_history[0].latency_s == pytest.approx(0.05, abs=0.005)


@pytest.mark.parametrize("unit", ["tokens", "requests"])
async def test_a_breach_names_the_unit(unit: str) -> None:
    step = Step.parallel({"a": spender(then=9, **{unit: 3}), "b": spender(1, 9, **{unit: 2})})
    result = await breach(Pipeline([step]), budget=Budget(**{unit: 4, "cost_usd": 99}))
    assert result.reason == f"breach: spent 5 of 4 {unit}"


async def test_a_charge_that_meets_the_limit_does_not_pass_it() -> None:
    step = Step.parallel({f"b{i}": spender(cost_usd=0.1, tokens=1) for i in range(10)})
    assert (await Pipeline([step]).run(budget=Budget(1.0, 10))).success


async def test_a_budget_of_nothing_lets_run_what_costs_nothing() -> None:
    free, dear = spender(cost_usd=0), spender(cost_usd=0.01)
    assert (await Pipeline([free]).run(budget=Budget(0))).usage.cost_usd == 0
    result = await breach(Pipeline([dear]), budget=Budget(0))
    assert result.reason == "breach: spent 0.01 of 0 usd"


async def test_the_last_charge_breaches_too_when_nothing_is_left() -> None:
    async def last(_: Any) -> str:
        charge(cost_usd=12)
        return "done"

    result = await breach(Pipeline([Step.parallel({"a": last})]), budget=Budget(10))
    stopped = result.step_history[0]
    assert (stopped.status, stopped.reason) == ("cancelled", BREACH)
    assert stopped.branches["a"].success
    assert stopped.output == {"a": "done"}
    assert result.output is None


@pytest.mark.parametrize("strategy", list(BranchFailureStrategy))
async def test_what_is_queued_is_cancelled_although_nobody_passes_a_checkpoint(
    strategy: BranchFailureStrategy,
) -> None:
    async def at_once(_: Any) -> None:
        charge(cost_usd=6)

    step = Step.parallel(
        {f"b{i}": at_once for i in range(5)}, max_concurrency=1, on_branch_failure=strategy
    )
    result = await breach(Pipeline([step]), budget=Budget(10))
    stopped = result.step_history[0]
    assert [str(b.status) for b in stopped.branches.values()] == ["succeeded"] * 2 + [
        "cancelled"
    ] * 3
    assert {b.reason for b in stopped.branches.values()} == {"", BREACH}
    assert (stopped.success, stopped.reason) == (False, BREACH)


async def test_no_step_begins_after_the_breach() -> None:
    async def at_once(_: Any) -> None:
        charge(cost_usd=12)

    begun = []
    after = Step("after", lambda _: begun.append(1), lane="inline")
    result = await breach(Pipeline([Step("s", at_once), after]), budget=Budget(10))
    assert [step.name for step in result.step_history] == ["s"]
    nested = Pipeline([at_once, Step.parallel({"x": after, "y": after})])
    await breach(Pipeline([Step.parallel({"n": nested, "m": nested})]), budget=Budget(10))
    assert begun == []


async def test_a_breach_deep_below_ends_all_levels_with_one_reason() -> None:
    inner = Step.parallel(
        "inner", {"x": spender(1, 30, cost_usd=12), "y": sleeper(30), "z": sleeper(30)},
        max_concurrency=2,
    )  # fmt: skip
    middle = Pipeline([Step("s", sleeper(0.5)), inner])
    step = Step.parallel(
        "p", {"n": middle, "a": sleeper(30), "m": Step.parallel({"b": sleeper(9)})}
    )
    result = await breach(Pipeline([step]), budget=Budget(10))
    outer = result.step_history[0]
    found: list[StepResult[Any]] = [outer]
    for one in found:
        found += one.branches.values()
    assert len(found) == 8
    assert {(str(each.status), each.reason) for each in found} == {("cancelled", BREACH)}
    assert outer.branches["n"].cost_usd == outer.cost_usd == 12


async def test_a_map_ends_too_and_pulls_nothing_more() -> None:
    pulled = []

    def items() -> Any:
        for i in range(1000):
            pulled.append(i)
            yield i

    step = Step.map_over("m", spender(1, cost_usd=3), items=lambda _: items(), max_concurrency=2)
    result = await breach(Pipeline([step]), budget=Budget(10))
    assert result.usage.cost_usd == 12
    assert result.step_history[0].reason == BREACH
    assert len(pulled) <= 5


async def test_a_charge_after_the_breach_still_counts() -> None:
    async def cleans_up(_: Any) -> None:
        try:
            await anyio.sleep(30)
        finally:
            charge(cost_usd=0.5)

    step = Step.parallel({"a": spender(1, 30, cost_usd=12), "b": cleans_up, "c": cleans_up})
    result = await breach(Pipeline([step]), budget=Budget(10))
    assert result.reason == BREACH
    assert result.usage.cost_usd == 13
    assert costs(result.step_history[0]) == {"a": 12, "b": 0.5, "c": 0.5}


async def test_an_error_in_a_cleanup_after_the_breach_is_kept() -> None:
    async def fails(_: Any) -> None:
        try:
            await anyio.sleep(30)
        finally:
            raise ValueError("cleanup")

    step = Step.parallel({"a": spender(1, 30, cost_usd=12), "b": fails})
    result = await breach(Pipeline([step]), budget=Budget(10))
    branch = result.step_history[0].branches["b"]
    assert (branch.status, branch.reason) == (Status.CANCELLED, BREACH)
    assert isinstance(branch.error, ValueError)


async def test_a_branch_that_keeps_the_cancellation_to_itself_begins_no_other() -> None:
    started = []

    async def stubborn(_: Any) -> None:
        started.append(1)
        try:
            await anyio.sleep(5)
        except BaseException:
            pass

    step = Step.parallel(
        {"a": spender(1, 30, cost_usd=12), **{f"s{i}": stubborn for i in range(5)}},
        max_concurrency=3,
    )
    result = await breach(Pipeline([step]), budget=Budget(10))
    assert len(started) == 2
    assert Counter(b.reason for b in result.step_history[0].branches.values()) == {
        BREACH: 4, "": 2
    }  # fmt: skip


async def test_a_deadline_that_struck_first_keeps_its_word() -> None:
    async def cleans_up(_: Any) -> None:
        try:
            await anyio.sleep(30)
        finally:
            charge(cost_usd=12)

    step = Step.parallel({"a": cleans_up, "b": sleeper(30)}, timeout=1)
    result = await breach(Pipeline([step]), budget=Budget(10))
    reasons = {branch.reason for branch in result.step_history[0].branches.values()}
    assert reasons == {"deadline: 1 s (timeout=)"}
    whole = Pipeline([Step.parallel({"a": cleans_up}, timeout=None)])
    result = await breach(whole, budget=Budget(10), timeout=1)
    assert result.reason == "deadline: 1 s (timeout= of the pipeline)"


@pytest.mark.slow
async def test_ten_thousand_running_and_a_hundred_queued_all_hear_the_reason() -> None:
    step = Step.parallel(
        {f"b{i}": spender(1, 30, cost_usd=12) if i == 77 else sleeper(30) for i in range(10_100)},
        max_concurrency=10_000,
    )
    result = await breach(Pipeline([step]), budget=Budget(10))
    branches = result.step_history[0].branches.values()
    assert Counter((str(b.status), b.reason) for b in branches) == {("cancelled", BREACH): 10_100}
    assert Counter(b.attempts for b in branches) == {1: 10_000, 0: 100}
    assert len(result.step_history[0].completion_order) == 10_100


async def test_an_observer_hears_of_the_breach_once() -> None:
    heard: list[Any] = []
    step = Step.parallel({f"b{i}": spender(1, cost_usd=12) for i in range(3)})
    await breach(Pipeline([step]), budget=Budget(10), observer=heard.append)
    assert [event.reason for event in heard if isinstance(event, Breached)] == [BREACH]
    assert [event.step for event in heard if isinstance(event, Breached)] == [""]


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_program_without_a_loop_gets_the_same_error(loop: str) -> None:
    step = Step.parallel({"a": spender(then=30, cost_usd=12), "b": sleeper(30)})
    with pytest.raises(UsageLimitExceededError, match="spent 12 of 10 usd") as caught:
        Pipeline([step]).run_sync(loop=loop, budget=Budget(10))
    assert caught.value.result.usage.cost_usd == 12


async def test_a_live_run_has_its_partial_result_and_raises_when_it_is_left() -> None:
    step = Step.parallel({"a": spender(1, 30, cost_usd=12), "b": sleeper(30), "c": sleeper(0)})
    outcomes = {}
    with pytest.raises(UsageLimitExceededError) as caught:
        async with Pipeline([step]).open(budget=Budget(10)) as run:
            async for outcome in run.outcomes:
                outcomes[outcome.key] = outcome.reason
            assert run.result.reason == BREACH
            assert run.usage.cost_usd == 12
    assert caught.value.result is run.result
    assert outcomes == {"c": "", "a": BREACH, "b": BREACH}


async def test_an_exception_in_the_block_comes_before_the_breach() -> None:
    step = Step.parallel({"a": spender(then=30, cost_usd=12)})
    with pytest.raises(KeyError):
        async with Pipeline([step]).open(budget=Budget(10)):
            await anyio.sleep(1)
            raise KeyError


# From threads --------------------------------------------------------------------------------


@pytest.mark.real_clock
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_breach_from_a_thread_ends_the_run_as_soon_as_the_loop_hears_of_it(loop: str) -> None:
    step = Step.parallel(
        {"t": thread(cost_usd=12), "a": sleeper(30), **{f"q{i}": thread(cost_usd=1) for i in "ab"}},
        max_concurrency=2,
    )
    with pytest.raises(UsageLimitExceededError) as caught:
        Pipeline([step]).run_sync(loop=loop, budget=Budget(10))
    result = caught.value.result
    branches = result.step_history[0].branches
    assert branches["a"].reason == BREACH
    assert branches["qa"].reason == branches["qb"].reason == BREACH
    assert result.usage.cost_usd == 12  # the thread did not begin the next one meanwhile
    assert branches["t"].status in ("succeeded", "abandoned")


@pytest.mark.real_clock
async def test_many_threads_that_breach_at_once_trip_once() -> None:
    heard: list[Any] = []
    gate = threading.Barrier(8)

    def spend(_: Any) -> None:
        gate.wait()
        charge(cost_usd=12)

    step = Step.parallel({f"t{i}": Step("t", spend, on_cancel="wait") for i in range(8)})
    result = await breach(Pipeline([step]), budget=Budget(10), observer=heard.append)
    assert result.reason == BREACH
    assert result.usage.cost_usd == 96
    assert len([event for event in heard if isinstance(event, Breached)]) == 1


@pytest.mark.real_clock
async def test_a_late_charge_of_an_abandoned_thread_goes_to_no_other_branch() -> None:
    async def attempt(seconds: float, begun: threading.Event) -> Any:
        gate, charged = threading.Event(), threading.Event()

        def stuck(_: Any) -> None:
            begun.set()
            gate.wait(60)
            charge(cost_usd=3)
            charged.set()

        async def opens(_: Any) -> None:
            await anyio.sleep(seconds + 0.02)
            gate.set()
            while begun.is_set() and not charged.is_set():
                await anyio.sleep(0.001)

        first = Step.parallel({"t": Step("t", stuck, timeout=seconds)}, on_branch_failure=IGNORE)
        last = Step.parallel({"o": opens})
        both = Step.parallel("both", {"n": Pipeline([Step.parallel({"f": first, "x": last})])})
        return await Pipeline([both]).run()

    result = await with_begun(attempt)
    branches = result.step_history[0].branches["n"].branches
    assert branches["f"].branches["t"].status == Status.ABANDONED
    assert branches["x"].cost_usd is None
    assert result.step_history[0].branches["n"].cost_usd == result.usage.cost_usd == 3


# Checkpoints ---------------------------------------------------------------------------------


class Steps:
    """Count which branches pass a checkpoint after a moment."""

    def __init__(self) -> None:
        self.after: Counter[str] | None = None

    def branch(self, name: str) -> Any:
        async def walk(_: Any) -> None:
            while True:
                await anyio.lowlevel.checkpoint()
                if self.after is not None:
                    self.after[name] += 1

        return walk

    def mark(self) -> None:
        self.after = Counter()


async def _charge_among(count: int, limit: int | None) -> Counter[str]:
    steps = Steps()

    async def breaks(_: Any) -> None:
        for _ in range(7):
            await anyio.lowlevel.checkpoint()
        charge(cost_usd=12)
        steps.mark()
        await anyio.lowlevel.checkpoint()

    branches = {f"b{i}": steps.branch(f"b{i}") for i in range(count)}
    nested = Step.parallel({f"n{i}": steps.branch(f"n{i}") for i in range(3)})
    step = Step.parallel({"x": breaks, "n": nested, **branches}, max_concurrency=limit)
    with pytest.raises(UsageLimitExceededError):
        await Pipeline([step]).run(budget=Budget(10))
    assert steps.after is not None
    return steps.after


@pytest.mark.parametrize("run", [run_trio, run_asyncio])
@pytest.mark.parametrize("limit", [None, 6])
def test_after_the_charge_that_breaches_no_other_branch_passes_a_checkpoint(
    run: Callable[..., Any], limit: int | None
) -> None:
    for seed in range(20):
        assert run(_charge_among, 10, limit, seed=seed) == {}


async def _set_among(make: Callable[[], Any], count: int, of_step: bool) -> Counter[str]:
    steps, event = Steps(), make()

    async def sets(_: Any) -> None:
        for _ in range(7):
            await anyio.lowlevel.checkpoint()
        event.set()
        steps.mark()
        await anyio.sleep(30)

    branches = {f"b{i}": steps.branch(f"b{i}") for i in range(count)}
    own = {"breach_event": event} if of_step else {}
    pipeline = Pipeline([Step.parallel({"x": sets, **branches}, **own)])
    if of_step:
        assert (await pipeline.run()).step_history[0].reason == WAS_SET
    else:
        assert (await breach(pipeline, breach_event=event)).reason == WAS_SET
    assert steps.after is not None
    return steps.after


@pytest.mark.parametrize(
    ("run", "make"),
    [
        pytest.param(run_trio, trio.Event, id="trio"),
        pytest.param(run_trio, anyio.Event, id="anyio-trio"),
        pytest.param(run_asyncio, asyncio.Event, id="asyncio"),
        pytest.param(run_asyncio, anyio.Event, id="anyio-asyncio"),
    ],
)
@pytest.mark.parametrize("of_step", [True, False])
def test_after_an_event_from_outside_no_branch_passes_more_than_two_checkpoints(
    run: Callable[..., Any], make: Callable[[], Any], of_step: bool
) -> None:
    for seed in range(20):
        passed = run(_set_among, make, 10, of_step, seed=seed)
        assert max(passed.values(), default=0) <= 2


# Events --------------------------------------------------------------------------------------


async def test_an_event_ends_the_run_and_keeps_what_finished() -> None:
    event = anyio.Event()
    step = Step.parallel({"a": sleeper(1), "b": sleeper(30), "c": sleeper(30)}, max_concurrency=2)
    async with anyio.create_task_group() as group:

        async def later() -> None:
            await anyio.sleep(5)
            event.set()

        group.start_soon(later)
        result = await breach(Pipeline([step]), breach_event=event)
    assert result.duration == pytest.approx(5, abs=0.01)
    assert result.reason == result.step_history[0].reason == WAS_SET
    branches = result.step_history[0].branches
    assert [branch.reason for branch in branches.values()] == ["", WAS_SET, WAS_SET]


async def test_a_run_that_is_watched_ends_with_its_branches() -> None:
    event = anyio.Event()
    result = await Pipeline([Step.parallel({"a": sleeper(1)})]).run(breach_event=event)
    assert result.success
    assert result.duration == pytest.approx(1, abs=0.01)
    step = Step.parallel({"a": sleeper(1)}, breach_event=event, timeout=30)
    result = await Pipeline([step]).run()
    assert result.success
    assert result.duration == pytest.approx(1, abs=0.01)


async def test_an_event_that_is_set_already_lets_nothing_start() -> None:
    event, begun, heard = anyio.Event(), [], []
    event.set()
    note = Step("n", lambda _: begun.append(1), lane="inline")
    result = await breach(Pipeline([note]), breach_event=event, observer=heard.append)
    assert result.reason == WAS_SET
    assert result.step_history == ()
    for count in (1, 3):
        step = Step.parallel("p", {f"b{i}": note for i in range(count)}, breach_event=event)
        result = await Pipeline([step, note]).run(observer=heard.append)
        stopped = result.step_history[0]
        assert (stopped.status, stopped.reason) == ("cancelled", WAS_SET)
        assert {b.reason for b in stopped.branches.values()} == {WAS_SET}
        assert len(result.step_history) == 1
    assert begun == []
    assert [e.step for e in heard if isinstance(e, Breached)] == ["", "p", "p"]


@pytest.mark.parametrize("strategy", list(BranchFailureStrategy))
async def test_the_event_of_a_step_fails_that_step_alone_and_stops_the_pipeline(
    strategy: BranchFailureStrategy,
) -> None:
    event = anyio.Event()

    async def sets(_: Any) -> None:
        await anyio.sleep(1)
        event.set()

    branches = {"sets": sets, "late": sleeper(30), "queued": sleeper(1)}
    step = Step.parallel(
        "p", branches, breach_event=event, max_concurrency=2, on_branch_failure=strategy
    )
    result = await Pipeline([step, Step("never", sleeper(1))]).run(budget=Budget(10))
    assert not result.success
    assert result.reason == ""
    (stopped,) = result.step_history
    assert (stopped.status, stopped.reason) == ("cancelled", WAS_SET)
    found = {key: branch.reason for key, branch in stopped.branches.items()}
    assert found == {"sets": "", "late": WAS_SET, "queued": WAS_SET}


async def test_the_event_of_a_nested_step_leaves_its_siblings_alone() -> None:
    event = anyio.Event()

    async def sets(_: Any) -> None:
        event.set()

    inner = Step.parallel("inner", {"x": sleeper(30)}, breach_event=event)
    step = Step.parallel({"n": inner, "a": sleeper(2), "s": sets}, on_branch_failure=IGNORE)
    result = await Pipeline([step]).run()
    branches = result.step_history[0].branches
    assert result.success
    assert branches["a"].success
    assert (branches["n"].status, branches["n"].reason) == ("cancelled", WAS_SET)


async def test_a_config_without_a_watcher_refuses_the_event_of_its_step() -> None:
    event = anyio.Event()
    event.set()
    branches = {"a": sleeper(1), "b": sleeper(2)}
    config = ConcurrencyConfig(breach_watcher=False)
    with pytest.raises(ConfigurationError, match="breach_watcher=False forbids it"):
        Step.parallel(branches, concurrency=config, breach_event=event)
    watched = Pipeline([Step.parallel(branches, concurrency=config)])
    assert (await breach(watched, breach_event=event)).reason == WAS_SET


async def test_an_event_of_the_other_loop_is_refused(anyio_backend_name: str) -> None:
    other = trio.Event() if anyio_backend_name == "asyncio" else asyncio.Event()
    theirs = "trio" if anyio_backend_name == "asyncio" else "asyncio"
    words = rf"is an Event of {theirs}, and {anyio_backend_name} runs here"
    with pytest.raises(ConfigurationError, match=words):
        await Pipeline([sleeper(1)]).run(breach_event=other)
    step = Step.parallel({"a": sleeper(1)}, breach_event=other)
    with pytest.raises(ConfigurationError, match=words):
        await Pipeline([step]).run()


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_an_event_that_anyio_made_before_any_loop_works(loop: str) -> None:
    event = anyio.Event()
    event.set()
    with pytest.raises(UsageLimitExceededError, match="the breach_event was set"):
        Pipeline([sleeper(1)]).run_sync(loop=loop, breach_event=event)


@pytest.mark.asyncio_only
@pytest.mark.real_clock
async def test_an_event_that_another_loop_waits_for_is_refused_in_words() -> None:
    event, stop = asyncio.Event(), threading.Event()

    async def waits() -> None:
        with anyio.move_on_after(0.05):
            await event.wait()

    other = threading.Thread(target=asyncio.run, args=(waits(),))
    other.start()
    await anyio.to_thread.run_sync(other.join)
    stop.set()
    with pytest.raises(ConfigurationError, match=r"cannot be waited for here: .*different"):
        await Pipeline([sleeper(30)]).run(breach_event=event)


async def test_the_seeds_breach_watcher(anyio_backend_name: str) -> None:
    """Seed 004: a breach event and the two flags; the origin waited on and cancelled nobody."""
    breach_event = anyio.Event()

    async def processor(_: Any) -> None:
        await anyio.sleep(60)

    async def watch_usage(_: Any) -> None:
        await anyio.sleep(0.05)
        breach_event.set()

    concurrency_config = ConcurrencyConfig(breach_watcher=True, individual_cancellation=True)
    step = Step.parallel(
        branches={"usage": watch_usage, **{f"processor_{i}": processor for i in range(100)}},
        concurrency=attrs.evolve(concurrency_config, max_concurrent_branches=60),
        breach_event=breach_event,
        timeout=30,
    )
    result = (await Pipeline([step]).run()).step_history[0]
    assert result.latency_s == pytest.approx(0.05, abs=0.005)
    reasons = Counter(branch.reason for branch in result.branches.values())
    assert reasons == {"": 1, WAS_SET: 100}


# Cancellation from outside -------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.5, 1.0])
async def test_a_cancellation_from_outside_goes_on_and_no_charge_is_lost(
    moment: float, all_home: Any
) -> None:
    limiter = all_home(anyio.CapacityLimiter(3))
    charged, ended = [], []

    async def branch(_: Any) -> None:
        try:
            await anyio.sleep(1)
            charge(cost_usd=4)
            charged.append(4)
            await anyio.sleep(30)
        finally:
            charge(cost_usd=0.5)
            charged.append(0.5)
            ended.append(1)

    inner = Step.parallel({"x": branch, "y": branch}, max_concurrency=limiter)
    step = Step.parallel({"n": inner, "a": branch, "q": branch}, max_concurrency=limiter)
    event = anyio.Event()
    live = Pipeline([step]).open(budget=Budget(10), breach_event=event)
    with anyio.move_on_after(moment) as scope:
        async with live as run:
            async for _ in run.outcomes:
                pass
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught
    assert live.usage.cost_usd == sum(charged)
    assert len(ended) == len(charged) - charged.count(4)


async def test_a_breach_and_a_cancellation_at_one_moment_both_go_their_way(all_home: Any) -> None:
    limiter = all_home(anyio.CapacityLimiter(2))
    spent = []

    async def branch(_: Any) -> None:
        await anyio.sleep(1)
        charge(cost_usd=12)
        spent.append(12)
        scope.cancel()
        await anyio.sleep(30)

    step = Step.parallel({"a": branch, "b": branch, "c": sleeper(30)}, max_concurrency=limiter)
    run = Pipeline([step]).open(budget=Budget(10))
    with anyio.CancelScope() as scope:
        async with run:
            await anyio.sleep(30)
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught
    assert run.usage.cost_usd == sum(spent)
    with anyio.CancelScope() as scope:
        await Pipeline([step]).run(budget=Budget(10))
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught


@pytest.mark.asyncio_only
@pytest.mark.parametrize("first", ["charge", "cancel"])
@pytest.mark.parametrize("event", [True, False])
async def test_a_native_cancellation_at_the_moment_of_a_breach_is_not_swallowed(
    first: str, event: bool
) -> None:
    async def branch(_: Any) -> None:
        await asyncio.sleep(1)
        if first == "cancel":
            task.cancel()
        charge(cost_usd=12)
        if first == "charge":
            task.cancel()
        await asyncio.sleep(30)

    step = Step.parallel({"a": branch, "b": sleeper(30)})
    options = {"breach_event": asyncio.Event()} if event else {}
    task = asyncio.ensure_future(Pipeline([step]).run(budget=Budget(10), **options))
    await asyncio.wait([task])
    assert task.cancelled()


# Reservations --------------------------------------------------------------------------------


async def test_a_reservation_counts_before_the_money_is_spent_and_settles_to_what_it_was() -> None:
    async def branch(_: Any) -> None:
        with charge(cost_usd=4, tokens=100, reserve=True) as held:
            await anyio.sleep(1)
            held.settle(cost_usd=1.5)

    step = Step.parallel({f"b{i}": branch for i in range(2)})
    result = await Pipeline([step]).run(budget=Budget(8, 200))
    assert (result.usage.cost_usd, result.usage.tokens) == (3, 200)
    assert costs(result.step_history[0]) == {"b0": 1.5, "b1": 1.5}
    spent = []

    async def spends(_: Any) -> None:
        async with charge(cost_usd=4, reserve=True):
            spent.append(4)
            await anyio.sleep(1)

    step = Step.parallel({f"b{i}": spends for i in range(3)})
    result = await breach(Pipeline([step]), budget=Budget(10))
    assert result.reason == "breach: spent 0 and reserved 12 of 10 usd"
    assert result.usage.cost_usd == 0
    assert len(spent) == 2  # the third did not begin


async def test_what_was_given_back_may_be_spent_by_others() -> None:
    async def branch(_: Any) -> None:
        with charge(cost_usd=6, reserve=True) as held:
            await anyio.sleep(1)
            held.settle(cost_usd=2)

    step = Step.parallel({f"b{i}": branch for i in range(3)}, max_concurrency=1)
    assert (await Pipeline([step]).run(budget=Budget(10))).usage.cost_usd == 6


async def test_a_block_that_ends_by_itself_is_charged_the_estimate() -> None:
    async def branch(_: Any) -> None:
        with charge(cost_usd=2, reserve=True):
            await anyio.sleep(1)
        async with charge(cost_usd=3, reserve=True) as held:
            held.settle()

    assert (await Pipeline([branch]).run(budget=Budget(5))).usage.cost_usd == 5


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_block_that_does_not_end_by_itself_gives_its_reservation_back(
    asynchronous: bool,
) -> None:
    async def branch(_: Any, error: type[Exception] | None = None) -> None:
        reservation = charge(cost_usd=6, reserve=True)
        if asynchronous:
            async with reservation:
                await work(error)
        else:
            with reservation:
                await work(error)

    async def work(error: type[Exception] | None) -> None:
        await anyio.sleep(1)
        if error is not None:
            raise error
        await anyio.sleep(30)

    fails = partial(branch, error=KeyError)
    cut = Step("cut", branch, timeout=2)
    step = Step.parallel(
        {"fails": fails, "cut": cut, "spends": spender(cost_usd=6)}, max_concurrency=1
    )
    result = await Pipeline([step]).run(budget=Budget(10))
    assert costs(result.step_history[0]) == {"fails": None, "cut": None, "spends": 6}


async def test_a_reservation_holds_for_one_block_only() -> None:
    async def twice(_: Any) -> None:
        reservation = charge(cost_usd=6, reserve=True)
        with reservation:
            pass
        with pytest.raises(ConfigurationError, match="holds nothing any more; reserve again"):
            reservation.__enter__()
        with pytest.raises(ConfigurationError, match="holds nothing any more; reserve again"):
            await reservation.__aenter__()

    result = await Pipeline([twice]).run(budget=Budget(10))
    assert result.success
    assert result.usage.cost_usd == 6


@pytest.mark.parametrize("how", ["reduce", "merge"])
async def test_what_a_conclusion_charges_is_the_steps(how: str) -> None:
    async def branch(_: Any) -> None:
        charge(tokens=1)

    def concludes(*_: Any) -> None:
        charge(tokens=10)

    more = {"reduce": concludes} if how == "reduce" else {"merge_strategy": concludes}
    step = Step.parallel("s", {"a": branch}, **more)
    for steps in ([step], [Step.parallel("outer", {"inner": step})]):
        result = await Pipeline(steps).run(1, context={})
        assert result.usage.tokens == result.step_history[0].token_counts == 11


async def test_a_reservation_that_was_settled_is_over() -> None:
    async def branch(_: Any) -> None:
        with charge(cost_usd=2, reserve=True) as held:
            held.settle(cost_usd=3, tokens=5)
            with pytest.raises(ConfigurationError, match=r"settled, or was given back"):
                held.settle()
        with pytest.raises(ConfigurationError, match=r"settled, or was given back"):
            held.settle(cost_usd=1)

    result = await Pipeline([branch]).run()
    assert result.success
    assert (result.usage.cost_usd, result.usage.tokens) == (3, 5)


@pytest.mark.real_clock
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_thread_whose_reservation_does_not_fit_spends_nothing(loop: str) -> None:
    spent = []

    def spend(_: Any) -> None:
        with charge(cost_usd=12, reserve=True):
            spent.append(12)

    with pytest.raises(UsageLimitExceededError) as caught:
        Pipeline([Step.parallel({"a": spend, "b": sleeper(30)})]).run_sync(
            loop=loop, budget=Budget(10)
        )
    assert spent == []
    branches = caught.value.result.step_history[0].branches
    assert branches["b"].reason == "breach: spent 0 and reserved 12 of 10 usd"
    assert branches["a"].cost_usd is None


async def test_nothing_is_reserved_after_an_event_has_ended_the_run() -> None:
    event, spent = anyio.Event(), []

    async def cleans_up(_: Any) -> None:
        try:
            await anyio.sleep(30)
        finally:
            with charge(cost_usd=1, reserve=True):
                spent.append(1)

    async def sets(_: Any) -> None:
        event.set()

    step = Step.parallel({"a": cleans_up, "s": sets})
    result = await breach(Pipeline([step]), breach_event=event)
    assert spent == []
    assert isinstance(result.step_history[0].branches["a"].error, UsageLimitExceededError)


async def test_what_is_charged_after_the_breach_rewrites_no_reason() -> None:
    heard: list[str] = []

    async def spend(_: Any) -> None:
        charge(cost_usd=12)
        charge(cost_usd=30)
        try:
            with charge(cost_usd=1, reserve=True):
                raise AssertionError("begun, though the budget is breached")
        except UsageLimitExceededError as error:
            heard.append(str(error))

    with pytest.raises(UsageLimitExceededError, match="spent 12 of 10 usd") as raised:
        await Pipeline([Step.parallel({"a": spend, "b": sleeper(60)})]).run(budget=Budget(10))
    assert len(heard) == 1
    assert "spent 12 of 10 usd" in heard[0]
    (step,) = raised.value.result.step_history
    assert step.branches["b"].reason == BREACH
    assert raised.value.result.usage.cost_usd == 42
