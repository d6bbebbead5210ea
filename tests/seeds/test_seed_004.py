"""Seed 004: the control that a deadlock fix had taken out, block by block.

What users of the origin write runs as it stands; of the origin's own code, the meaning is tested.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Optional
from unittest.mock import patch

import anyio
import pytest
import trio

from anabranch import (
    CancelWhen,
    ConcurrencyConfig,
    ExecutionConfig,
    LimitChanged,
    MergeStrategy,
    Pipeline,
    PipelineResult,
    ResourceLimits,
    Status,
    Step,
    StepResult,
    UnboundedWarning,
    UnknownOptionError,
    UsageLimitExceededError,
)
from anabranch._host import current_host
from tests.branches import Watch
from tests.pipeline.machine import Load, loaded
from tests.seeds import stand_ins
from tests.seeds.harness import execute
from tests.seeds.stand_ins import PUBLIC, Executor, pipeline1, pipeline2, takes

SEED = "004"
DEADLINE = "deadline: 30 s (timeout=)"
WAS_SET = "breach: the breach_event was set"
Block = Callable[[int], str]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def load() -> Iterator[Load]:
    with loaded() as machine:
        yield machine


async def run(step: Any, watch: Watch, **options: Any) -> StepResult[Any]:
    return (await Pipeline([step]).run(watch, **options)).step_history[0]


def wide(count: int, seconds: float = 1) -> dict[str, Any]:
    return {f"branch{i}": takes(seconds, f"branch{i}") for i in range(count)}


def statuses(result: StepResult[Any]) -> dict[str, str]:
    return {key: str(branch.status) for key, branch in result.branches.items()}


async def fail(_: Watch) -> None:
    raise ValueError("broken")


# 1: every branch at once, half a minute as the only guard ------------------------------------


async def test_without_a_limit_all_run_at_once_and_half_a_minute_is_the_only_guard(
    watch: Watch,
) -> None:
    branches = {"quick": takes(1, "quick"), "broken": fail, **wide(5, seconds=100)}
    result = await run(Step.parallel(branches), watch)
    assert watch.peak == 6
    assert result.latency_s == pytest.approx(30)
    assert (result.status, result.reason) == (Status.TIMED_OUT, DEADLINE)
    assert result.output["quick"] == "quick"
    assert isinstance(result.branches["broken"].error, ValueError)
    assert {result.branches[f"branch{i}"].reason for i in range(5)} == {DEADLINE}


# 2: a limit that follows the cores -----------------------------------------------------------


async def test_a_config_bounds_a_step_by_the_cores(watch: Watch) -> None:
    config = ConcurrencyConfig()
    assert 1 <= config.initial_limit() <= 10
    assert (await run(Step.parallel(wide(30), concurrency=config), watch)).success
    assert watch.peak == config.initial_limit()


# 3: single branches are cancelled ------------------------------------------------------------


async def test_one_branch_is_cancelled_and_what_has_ended_is_left_alone(watch: Watch) -> None:
    branches = {"quick": takes(1, "quick"), "b": takes(5, "b"), "c": takes(5, "c")}
    async with Pipeline([Step.parallel(branches)]).open(watch) as live:
        await anyio.sleep(2)
        assert live.cancel("b", reason="not needed") == 1
        await anyio.sleep(1)
        assert live.cancel("*", reason="enough") == 1
    result = live.result.step_history[0]
    assert statuses(result) == {"quick": "succeeded", "b": "cancelled", "c": "cancelled"}
    reasons = {key: branch.reason for key, branch in result.branches.items()}
    assert reasons == {"quick": "", "b": "not needed", "c": "enough"}
    assert result.latency_s == pytest.approx(3)


# 4: the order of completion, and who overwrites by it ----------------------------------------


@pytest.mark.parametrize(("merge_order", "winner"), [("declared", "quick"), ("completed", "slow")])
async def test_overwriting_follows_the_order_that_is_asked_for(
    watch: Watch, merge_order: str, winner: str
) -> None:
    def writes(seconds: float, name: str) -> Any:
        async def write(watch: Watch, *, context: dict[str, str]) -> None:
            await watch.sleeps(name, seconds)
            context["winner"] = name
            context[name] = "was here"

        return write

    context: dict[str, str] = {"winner": ""}
    step = Step.parallel(
        branches={"slow": writes(2, "slow"), "quick": writes(1, "quick")},
        merge_strategy=MergeStrategy.OVERWRITE,
        merge_order=merge_order,
    )
    result = await run(step, watch, context=context)
    assert result.completion_order == ("quick", "slow")
    assert context == {"winner": winner, "slow": "was here", "quick": "was here"}


# 5: the breach watcher -----------------------------------------------------------------------


@pytest.fixture(params=["native", "anyio"])
def event(request: pytest.FixtureRequest, anyio_backend_name: str) -> Any:
    kinds = {"asyncio": asyncio.Event, "trio": trio.Event}
    return anyio.Event() if request.param == "anyio" else kinds[anyio_backend_name]()


async def set_late(event: Any) -> None:
    await anyio.sleep(0.05)
    event.set()


async def test_a_breach_after_50_ms_ends_a_step_of_30_s(watch: Watch, event: Any) -> None:
    step = Step.parallel(branches=wide(4, seconds=60), max_concurrency=3, timeout=30)
    async with anyio.create_task_group() as group:
        group.start_soon(set_late, event)
        with pytest.raises(UsageLimitExceededError) as caught:
            await Pipeline([step]).run(watch, breach_event=event)
    partial: PipelineResult[Any] = caught.value.result
    assert partial.duration == pytest.approx(0.05)
    branches = partial.step_history[0].branches.values()
    assert [branch.reason for branch in branches] == [WAS_SET] * 4
    assert watch.running == 0


async def test_a_step_may_watch_an_event_of_its_own(watch: Watch, event: Any) -> None:
    config = ConcurrencyConfig(3, individual_cancellation=True, breach_watcher=True)
    branches = wide(4, seconds=60)
    step = Step.parallel(branches, concurrency=config, timeout=30, breach_event=event)
    async with anyio.create_task_group() as group:
        group.start_soon(set_late, event)
        result = await run(step, watch)
    assert not result.success
    assert result.latency_s == pytest.approx(0.05)
    assert [branch.reason for branch in result.branches.values()] == [WAS_SET] * 4
    assert watch.running == 0


async def test_without_a_breach_the_watcher_ends_with_the_branches(
    watch: Watch, event: Any
) -> None:
    step = Step.parallel(branches=wide(4), timeout=30, breach_event=event)
    result = await run(step, watch)
    assert result.success
    assert result.latency_s == pytest.approx(1)


async def test_a_cancellation_from_outside_goes_through_the_watcher(
    watch: Watch, event: Any
) -> None:
    step = Step.parallel(branches=wide(4, seconds=60), breach_event=event)
    start = anyio.current_time()
    with anyio.move_on_after(2) as scope:
        await Pipeline([step]).run(watch)
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught
    assert anyio.current_time() - start == pytest.approx(2)
    assert watch.running == 0


# 6: one pipeline in a hundred branches -------------------------------------------------------


async def test_seed_a_hundred_processors(block: Block, watch: Watch) -> None:
    names = await execute(
        block(6),
        {**PUBLIC, "data_processing_pipeline": stand_ins.data_processing_pipeline},
    )
    with pytest.warns(UnboundedWarning, match="100 branches at once"):
        result = await run(names["parallel_step"], watch)
    assert list(result.branches) == [f"processor_{i}" for i in range(100)]
    assert set(result.output.values()) == {"process"}
    assert watch.peak == 100


async def test_one_pipeline_stands_in_a_hundred_branches_and_a_limit_bounds_them(
    watch: Watch,
) -> None:
    shared = stand_ins.data_processing_pipeline
    branches = dict.fromkeys((f"number_{i}" for i in range(100)), shared)
    with pytest.warns(UnboundedWarning, match="max_concurrency="):
        assert (await run(Step.parallel(branches), watch)).success
    assert watch.peak == 100
    bounded = Watch()
    result = await run(Step.parallel(branches, max_concurrency=10), bounded)
    assert (bounded.peak, len(bounded.started)) == (10, 200)
    assert result.latency_s == pytest.approx(10)


# 7: who is urgent stops who is not -----------------------------------------------------------


def by_priority(seconds: float = 20, **options: Any) -> Step[Any, Any]:
    branches = {
        "high_priority_1": takes(1, "high"),
        "low_priority_1": takes(seconds, "low"),
        "low_priority_2": takes(seconds, "queued"),
        "other": takes(2, "other"),
    }
    priorities = {"high_priority_*": 10, "low_priority_1": 5, "low_priority_2": -5}
    return Step.parallel(branches, priorities=priorities, max_concurrency=2, **options)


async def stop_by_rule(watch: Watch) -> StepResult[Any]:
    rule = CancelWhen("high_priority_*", "succeeded", cancel="low_priority_*")
    return await run(by_priority(cancel_when=[rule]), watch)


async def stop_by_hand(watch: Watch) -> StepResult[Any]:
    async with Pipeline([by_priority()]).open(watch) as live:
        async for outcome in live.outcomes:
            if outcome.key.startswith("high_priority_"):
                assert live.cancel("low_priority_*", reason="a high one has ended") == 2
    return live.result.step_history[0]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [(stop_by_rule, "rule: high_priority_1 succeeded"), (stop_by_hand, "a high one has ended")],
)
async def test_a_high_priority_that_ends_cancels_low_ones_running_and_queued(
    stop: Callable[[Watch], Any], reason: str, watch: Watch
) -> None:
    result = await stop(watch)
    assert statuses(result) == {
        "high_priority_1": "succeeded",
        "low_priority_1": "cancelled",
        "low_priority_2": "cancelled",
        "other": "succeeded",
    }
    low = [result.branches[f"low_priority_{i}"] for i in (1, 2)]
    assert [branch.reason for branch in low] == [reason, reason]
    assert watch.started == ["high", "low", "other"]
    assert result.latency_s == pytest.approx(3)


async def test_without_a_rule_who_is_less_urgent_runs_on(watch: Watch) -> None:
    assert (await run(by_priority(seconds=3), watch)).success
    assert watch.started == ["high", "low", "other", "queued"]


# 8, 17: limits that follow the load -----------------------------------------------------------


class Cores:
    """Be a machine whose CPU is busy for a while: what a sampler of the origin read."""

    def __init__(self, begin: float, end: float) -> None:
        self.clock = current_host().clock
        self.busy = self.clock() + begin, self.clock() + end

    def sample(self) -> dict[str, float | None]:
        busy = self.busy[0] <= self.clock() < self.busy[1]
        return {"cores": 2.0, "cpu": 1.0 if busy else 0.6, "cpu_pressure": 0.99 if busy else 0.1}


async def test_the_limit_goes_down_under_load_and_up_after_it(watch: Watch) -> None:
    heard: list[Any] = []
    peaks: list[tuple[float, int]] = []
    start = anyio.current_time()

    async def branch(_: Any) -> None:
        watch.begin()
        peaks.append((anyio.current_time() - start, watch.running))
        await anyio.sleep(0.5)
        watch.end()

    config = ConcurrencyConfig(8, samplers=Cores(5, 35))
    branches = {f"branch{i}": branch for i in range(1200)}
    step = Step.parallel(branches=branches, concurrency=config, timeout=None)
    assert (await run(step, watch, observer=heard.append)).success

    def most(begin: float, end: float) -> int:
        return max(running for at, running in peaks if begin <= at < end)

    assert watch.peak == most(0, 5) == 8
    assert most(33, 35) < 8
    assert most(60, 80) > most(33, 35)
    moved = [event for event in heard if isinstance(event, LimitChanged)]
    assert any(event.new < event.old and "cpu" in event.reason for event in moved)
    assert any(event.new > event.old for event in moved)


async def test_a_limit_that_is_not_to_adapt_stays_where_it_begins(watch: Watch) -> None:
    heard: list[Any] = []
    config = ConcurrencyConfig(3, adaptive_limits=False)
    branches = wide(200)
    await run(Step.parallel(branches, concurrency=config, timeout=None), watch,
              observer=heard.append)  # fmt: skip
    assert watch.peak == 3
    assert not [event for event in heard if isinstance(event, LimitChanged)]


# 9: a limit without a class of one's own -----------------------------------------------------


async def test_max_concurrency_bounds_a_step_and_keeps_an_error_at_its_key(watch: Watch) -> None:
    branches = {**wide(9), "broken": fail}
    result = await run(Step.parallel(branches, max_concurrency=4), watch)
    assert watch.peak == 4
    assert list(result.output) == list(branches)
    assert [result.output[f"branch{i}"] for i in range(9)] == list(wide(9))
    assert str(result.output["broken"].error) == "broken"


# 10: limits of a pipeline --------------------------------------------------------------------


async def test_seed_a_pipeline_under_limits(block: Block, watch: Watch, load: Load) -> None:
    known = {**PUBLIC, "pipeline1": pipeline1, "pipeline2": pipeline2}
    names = await execute(block(10), known)
    result = await names["pipeline"].run(watch)
    assert result.success
    assert result.output == {"branch1": "slow", "branch2": "quick"}
    assert watch.peak == 2
    assert load.readings > 0
    load.memory, pressed = 2000.0, Watch()
    assert (await names["pipeline"].run(pressed)).success
    assert pressed.peak == 1


async def test_a_pipelines_limit_bounds_all_its_parallel_steps_together(watch: Watch) -> None:
    inner = Step.parallel(branches=wide(4), max_concurrency=2)
    outer = Step.parallel(branches={f"part{i}": inner for i in range(3)})
    config = ExecutionConfig(max_parallel_steps=4)
    assert (await Pipeline([outer], execution_config=config).run(watch)).success
    assert (watch.peak, len(watch.started)) == (4, 12)
    assert (await Pipeline([outer]).run(free := Watch())).success
    assert free.peak == 6


# 11: what the machine says holds back --------------------------------------------------------


async def test_a_busy_machine_holds_branches_back_and_is_read_only_while_they_run(
    watch: Watch, load: Load
) -> None:
    load.cpu = 95.0

    def calm_down() -> None:
        if anyio.current_time() - start > 2.5:
            load.cpu = 10.0

    start, load.before = anyio.current_time(), calm_down
    config = ExecutionConfig(resource_limits=ResourceLimits(max_cpu_percent=80))
    step = Step.parallel(branches=wide(7), max_concurrency=4)
    result = await Pipeline([step], execution_config=config).run(watch)
    assert result.success
    assert watch.peak == 4
    # One in each of the first three seconds, four in the fourth.
    assert result.duration == pytest.approx(4, abs=0.6)
    readings = load.readings
    await anyio.sleep(60)
    assert load.readings == readings


# 12: the config ------------------------------------------------------------------------------

FIELDS = {
    "max_concurrent_branches": None,
    "adaptive_limits": True,
    "cpu_based_limits": True,
    "memory_based_limits": True,
    "completion_tracking": True,
    "individual_cancellation": True,
    "breach_watcher": True,
}


def defaults(config: type) -> dict[str, Any]:
    parameters = inspect.signature(config).parameters.values()
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return {each.name: each.default for each in positional}


async def test_seed_the_config_has_these_fields(block: Block) -> None:
    names = await execute(block(12), {"Optional": Optional})
    theirs = names["ConcurrencyConfig"]
    assert list(defaults(theirs).items()) == list(defaults(ConcurrencyConfig).items())
    ours = ConcurrencyConfig()
    assert {name: getattr(ours, name) for name in vars(theirs())} == vars(theirs())


def test_the_config_has_seven_fields_in_order_with_their_defaults() -> None:
    assert list(defaults(ConcurrencyConfig).items()) == list(FIELDS.items())


# 13: a step under control, from its limit to its results --------------------------------------


async def test_at_the_deadline_every_branch_has_a_result_of_its_own(
    watch: Watch, event: Any
) -> None:
    """The origin named no branch: at its deadline each result was None, and it raised."""
    branches = {"quick": takes(1, "quick"), "broken": fail, **wide(3, seconds=40)}
    step = Step.parallel(
        branches=branches,
        concurrency=ConcurrencyConfig(max_concurrent_branches=2),
        breach_event=event,
    )
    result = await run(step, watch)
    assert list(result.branches) == list(branches)
    assert statuses(result) == {
        "quick": "succeeded",
        "broken": "failed",
        **dict.fromkeys(wide(3), "cancelled"),
    }
    assert result.latency_s == pytest.approx(30)
    assert watch.peak == 2
    assert watch.started == ["quick", "branch0", "branch1"]
    assert {result.branches[f"branch{i}"].reason for i in range(3)} == {DEADLINE}
    assert result.branches["branch2"].attempts == 0
    assert "broken" in result.branches["broken"].feedback
    assert result.completion_order[:2] == ("broken", "quick")


async def test_what_cancels_a_controlled_step_from_outside_is_no_failed_branch(
    watch: Watch,
) -> None:
    """The origin made a result of it, and the step went on as if nothing had been."""
    step = Step.parallel(wide(4, seconds=60), concurrency=ConcurrencyConfig(2))
    with anyio.move_on_after(3) as scope:
        await Pipeline([step]).run(watch)
    assert scope.cancelled_caught
    assert (watch.running, len(watch.started)) == (0, 2)


# 14: what a step may be told -----------------------------------------------------------------


async def test_a_step_merges_nothing_unless_asked_and_takes_no_unknown_option(
    watch: Watch,
) -> None:
    async def write(_: Watch, *, context: dict[str, int]) -> None:
        context["n"] += 1

    context = {"n": 0}
    await run(Step.parallel(branches={"a": write, "b": write}), watch, context=context)
    assert context == {"n": 0}
    with pytest.raises(UnknownOptionError, match="did you mean 'concurrency'"):
        Step.parallel(branches={"a": write}, concurrency_config=ConcurrencyConfig(1))


# 15: both spellings --------------------------------------------------------------------------


async def test_seed_both_spellings_of_a_limit(block: Block) -> None:
    known = {**PUBLIC, "pipeline1": pipeline1, "pipeline2": pipeline2}
    steps = (await execute(block(15), known)).values_of["parallel_step"]
    assert len(steps) == 2
    for step in steps:
        watch = Watch()
        result = await run(step, watch)
        assert result.output == {"branch1": "slow", "branch2": "quick"}
        assert result.completion_order == ("branch2", "branch1")
        assert watch.peak == 2


@pytest.mark.parametrize(
    "spelling",
    [
        {
            "concurrency": ConcurrencyConfig(
                max_concurrent_branches=4, adaptive_limits=True, completion_tracking=True
            )
        },
        {"max_concurrency": 4, "track_completion": True},
    ],
    ids=["config", "short"],
)
async def test_both_spellings_bound_a_step_and_track_its_completion(
    spelling: dict[str, Any], watch: Watch
) -> None:
    branches = {f"b{i}": takes(10 - i, str(i)) for i in range(9)}
    result = await run(Step.parallel(branches=branches, **spelling), watch)
    assert watch.peak == 4
    assert result.completion_order[:3] == ("b3", "b2", "b1")
    assert sorted(result.completion_order) == sorted(branches)


# 16 to 18: its tests, which are no Python until `def` is `async def` -------------------------


def mended(block: str) -> str:
    return block.replace("def test_", "async def test_")


async def test_seed_its_test_of_a_limit(block: Block, watch: Watch) -> None:
    known = {**PUBLIC, "pipeline": stand_ins.pipeline, "executor": Executor(watch)}
    names = await execute(mended(block(16)), known)
    await names["test_concurrency_limits"]()
    assert (watch.peak, len(watch.started)) == (2, 4)


async def test_two_of_four_branches_run_at_once(watch: Watch) -> None:
    config = ConcurrencyConfig(max_concurrent_branches=2)
    result = await run(Step.parallel(branches=wide(4), concurrency=config), watch)
    assert result.success
    assert (watch.peak, len(watch.started)) == (2, 4)


async def test_seed_its_test_of_adapting(block: Block, watch: Watch) -> None:
    known = {**PUBLIC, "branches": stand_ins.branches, "executor": Executor(watch), "patch": patch}
    names = await execute(mended(block(17)), known)
    await names["test_adaptive_concurrency"]()
    assert watch.peak == ConcurrencyConfig().initial_limit()


async def test_a_limit_that_binds_nobody_makes_nobody_wait(watch: Watch) -> None:
    """Of its test of overhead the waiting, in virtual time; the CPU is for the benchmarks."""
    simple = await run(Step.parallel(wide(10)), watch)
    config = ConcurrencyConfig(max_concurrent_branches=10)
    bounded = await run(Step.parallel(wide(10), concurrency=config), watch)
    assert bounded.latency_s == pytest.approx(simple.latency_s)
    assert max(branch.queued_s for branch in bounded.branches.values()) < 0.01
