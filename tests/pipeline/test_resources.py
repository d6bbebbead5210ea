"""ResourceLimits: what is held back, who is cancelled, when, and what the step then says."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import anyio
import attrs
import pytest

from anabranch import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ConfigurationError,
    ExecutionConfig,
    LimitChanged,
    Pipeline,
    ResourceLimits,
    Status,
    Step,
)
from anabranch.pipeline._resources import Bound
from anabranch.pipeline._stopped import is_pressed
from tests.pipeline.machine import LIMIT, Load, after, home, loaded, run, statuses


@pytest.fixture
def load() -> Iterator[Load]:
    with loaded() as machine:
        yield machine


# The ladder ----------------------------------------------------------------------------------


async def test_below_the_limit_nothing_changes(load: Load) -> None:
    branches = {str(i): load.takes(str(i), 10) for i in range(20)}
    result = await run(Step.parallel(branches))
    assert result.success
    assert load.peak == 20
    assert result.duration == pytest.approx(10)
    assert home(load)


async def test_over_the_limit_nothing_more_is_started_and_what_runs_goes_on(load: Load) -> None:
    script = {2: 2000.0, 4: 100.0}

    def follow() -> None:
        load.memory = script.get(load.readings, load.memory)

    load.before = follow
    start, began = anyio.current_time(), []

    async def work(_: Any) -> None:
        began.append(anyio.current_time() - start)
        await anyio.sleep(0.15)

    result = await run(Step.parallel({str(i): work for i in range(7)}, max_concurrency=3))
    assert result.success, result
    # Over from 0.1 to 0.3: three end at 0.15, one goes on, at 0.3 two more begin.
    assert began == [pytest.approx(at) for at in (0, 0, 0, 0.15, 0.3, 0.3, 0.3)]
    assert home(load)


async def test_memory_that_stays_above_costs_the_youngest_branch(load: Load) -> None:
    branches = {"old": load.takes("old", 600), "young": after(0.15, load.takes("young", 634))}
    result = await run(Step.parallel(branches))
    assert statuses(result.step_history[0]) == {"old": "succeeded", "young": "cancelled"}
    young = result.step_history[0].branches["young"]
    assert young.reason == "memory: 1,234 of 1,000 MB (max_memory_mb=)"
    # Taken at 0.15, seen at 0.2, and three readings more.
    assert young.latency_s == pytest.approx(0.5)
    assert home(load)


async def test_a_step_that_lost_branches_to_memory_has_failed_and_says_why(load: Load) -> None:
    branches = {"a": load.takes("a", 600), "b": load.takes("b", 600)}
    result = await run(Step.parallel("work", branches))
    step = result.step_history[0]
    why = "memory: 1,200 of 1,000 MB (max_memory_mb=)"
    assert not result.success
    assert step.status is Status.FAILED
    assert step.reason == why
    assert step.feedback == f"1 of 2 branches succeeded; {why}"
    assert result.feedback == f"step 'work': 1 of 2 branches succeeded; {why}"
    with pytest.raises(ExceptionGroup, match="1,200 of 1,000 MB"):
        result.unwrap()


async def test_who_ignores_failures_ignores_these_too_and_can_read_of_them(load: Load) -> None:
    branches = {"a": load.takes("a", 600), "b": load.takes("b", 600)}
    ignore = BranchFailureStrategy.IGNORE
    step = (await run(Step.parallel(branches, on_branch_failure=ignore))).step_history[0]
    assert step.success
    assert is_pressed(step.reason)


async def test_a_wish_of_the_user_beside_it_is_still_one(load: Load) -> None:
    """Branches that the user has stopped are no failures; the one that memory has cost is."""
    limits = ExecutionConfig(resource_limits=ResourceLimits(max_memory_mb=LIMIT))
    branches = {name: load.takes(name, 600) for name in ("a", "b", "c")}
    pipeline = Pipeline([Step.parallel(branches)], execution_config=limits)
    async with pipeline.open(1) as live:
        await anyio.sleep(0.05)
        live.cancel("c", reason="not needed")
    step = live.result.step_history[0]
    assert [branch.reason for branch in step.branches.values()].count("not needed") == 1
    assert not step.success
    assert "1 were stopped; memory: 1,200 of 1,000 MB" in step.feedback


async def test_one_branch_after_another_is_cancelled_until_it_is_enough(load: Load) -> None:
    names = [str(i) for i in range(10)]
    branches = {name: after(0.001 * int(name), load.takes(name, 300)) for name in names}
    result = await run(Step.parallel(branches))
    found = statuses(result.step_history[0])
    assert [name for name in names if found[name] == "succeeded"] == ["0", "1", "2"]
    times = sorted(
        branch.latency_s
        for branch in result.step_history[0].branches.values()
        if branch.status is Status.CANCELLED
    )
    # At three readings' distance each.
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert apart == [pytest.approx(0.3)] * 6
    assert times[0] == pytest.approx(0.4)


async def test_the_least_urgent_goes_before_the_youngest(load: Load) -> None:
    branches = {
        "low": load.takes("low", 600),
        "high_a": after(0.01, load.takes("high_a", 300)),
        "high_b": after(0.02, load.takes("high_b", 300)),
    }
    result = await run(Step.parallel(branches, priorities={"high_*": 5}))
    found = statuses(result.step_history[0])
    assert found == {"low": "cancelled", "high_a": "succeeded", "high_b": "succeeded"}


async def test_a_branch_of_an_urgent_one_is_urgent(load: Load) -> None:
    """The outer priority counts first, however urgent a branch is in its own step."""
    inner = {"x": load.takes("high/x", 600)}
    other = {"y": after(0.01, load.takes("low/y", 600))}
    branches = {
        "high": Step.parallel(inner, priorities={"x": -5}),
        "low": Step.parallel(other, priorities={"y": 5}),
    }
    step = Step.parallel(branches, priorities={"high": 1})
    result = await run(step)
    assert load.ended == ["high/x"]
    low = result.step_history[0].branches["low"]
    assert is_pressed(low.branches["y"].reason)
    assert statuses(result.step_history[0]) == {"high": "succeeded", "low": "failed"}


async def test_without_individual_cancellation_nobody_is_cancelled(load: Load) -> None:
    config = ConcurrencyConfig(4, individual_cancellation=False)
    branches = {str(i): load.takes(str(i), 600, seconds=3) for i in range(8)}
    result = await run(Step.parallel(branches, concurrency=config))
    assert result.success
    assert len(load.ended) == 8
    assert home(load)


async def test_cancelled_is_the_branch_that_does_the_work(load: Load) -> None:
    inner = {"x": load.takes("x", 600), "y": after(0.01, load.takes("y", 600))}
    branches = {"parent": Step.parallel(inner), "other": load.takes("other", 0)}
    result = await run(Step.parallel(branches))
    outer = result.step_history[0]
    assert statuses(outer) == {"parent": "failed", "other": "succeeded"}
    assert statuses(outer.branches["parent"]) == {"x": "succeeded", "y": "cancelled"}


@pytest.mark.real_clock
@pytest.mark.slow
@pytest.mark.parametrize("on_cancel", ["abandon", "wait"])
async def test_a_thread_which_would_work_on_is_left_alone(load: Load, on_cancel: str) -> None:
    """To cancel it frees nothing, and costs a result."""
    end = threading.Event()

    def blocks(_: Any) -> bool:
        return end.wait(10)

    async def task(_: Any) -> None:
        load.others = 2000.0
        try:
            await anyio.sleep(10)
        finally:
            end.set()

    thread = Step("thread", blocks, on_cancel=on_cancel)
    result = await run(Step.parallel({"task": task, "thread": thread}))
    assert statuses(result.step_history[0]) == {"task": "cancelled", "thread": "succeeded"}


# Who began above the limit --------------------------------------------------------------------


async def test_a_run_that_begins_above_its_limit_ends_one_at_a_time(load: Load) -> None:
    load.memory = 5000.0
    branches = {str(i): load.takes(str(i), 100, seconds=2) for i in range(10)}
    result = await run(Step.parallel(branches))
    assert result.success, result
    assert load.peak == 1
    assert result.duration == pytest.approx(20)
    assert home(load)


async def test_who_begins_above_the_limit_and_takes_much_more_is_cancelled(load: Load) -> None:
    load.memory = 5000.0
    branches = {"small": load.takes("small", 100), "hog": load.takes("hog", 1000)}
    result = await run(Step.parallel(branches, max_concurrency=1))
    found = statuses(result.step_history[0])
    assert found == {"small": "succeeded", "hog": "cancelled"}
    assert result.step_history[0].reason.startswith("memory: 6,000 of 1,000 MB")


async def test_who_began_while_only_cpu_held_back_is_to_blame_for_memory(load: Load) -> None:
    load.memory, load.cpu = 990.0, 95.0
    branches = {"a": load.takes("a", 0, seconds=1), "b": load.takes("b", 20, seconds=10)}
    result = await run(Step.parallel(branches, max_concurrency=1), cpu=80)
    assert statuses(result.step_history[0]) == {"a": "succeeded", "b": "cancelled"}


async def test_who_is_being_cancelled_keeps_its_own_reason(load: Load) -> None:
    """Its step's deadline has struck, and it takes its time to end."""

    async def slow_to_end(_: Any) -> None:
        load.others = 2000.0
        try:
            await anyio.sleep(10)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)

    in_time = Step("in_time", slow_to_end, timeout=0.2)
    for step, words in (
        (Step.parallel({"a": slow_to_end, "b": slow_to_end}, timeout=0.2), "(timeout=)"),
        (Step.parallel({"a": in_time, "b": in_time}), "(timeout= of the branch)"),
    ):
        load.others = 0.0
        found = (await run(step)).step_history[0].branches
        assert [branch.reason for branch in found.values()] == [f"deadline: 0.2 s {words}"] * 2


async def test_the_only_branch_is_cancelled_when_it_went_over_the_limit_itself(load: Load) -> None:
    branches = {"hog": load.takes("hog", 1001)}
    result = await run(Step.parallel(branches))
    assert statuses(result.step_history[0]) == {"hog": "cancelled"}


async def test_a_single_step_is_no_branch_and_is_not_cancelled(load: Load) -> None:
    result = await run(Step("one", load.takes("one", 5000)), load.takes("two", 5000))
    assert result.success


# Hysteresis ----------------------------------------------------------------------------------


def test_a_bound_holds_until_it_is_clearly_below() -> None:
    bound = Bound(1000.0)
    held = []
    for figure in (999, 1000, 1001, 999, 951, 1001, 950, 999, 1000):
        bound.see(figure)
        held.append(bound.holds)
    assert held == [False, False, True, True, True, True, False, False, False]


def test_a_bound_counts_readings_in_a_row() -> None:
    bound = Bound(1000.0)
    counts = []
    for figure in (1001, 1001, 999, 1001, 1001, 1001):
        bound.see(figure)
        counts.append(bound.over)
    assert counts == [1, 2, 0, 1, 2, 3]


async def test_a_little_less_does_not_let_go_on_and_much_less_does_at_once(load: Load) -> None:
    script = {1: 1100.0, 2: 990.0, 12: 940.0}

    def follow() -> None:
        load.memory = script.get(load.readings, load.memory)

    load.before = follow
    began: dict[str, float] = {}
    start = anyio.current_time()

    def note(name: str) -> Any:
        async def branch(_: Any) -> None:
            began[name] = anyio.current_time() - start
            await anyio.sleep(5)

        return branch

    await run(Step.parallel({str(i): note(str(i)) for i in range(4)}))
    assert began["0"] == pytest.approx(0.0, abs=0.01)
    assert [began[str(i)] for i in (1, 2, 3)] == [pytest.approx(1.1)] * 3


async def test_observers_hear_of_the_limit_with_its_reason(load: Load) -> None:
    heard: list[Any] = []
    branches = {str(i): load.takes(str(i), 600, seconds=0.35) for i in range(4)}
    await run(Step.parallel("s", branches, max_concurrency=2), observer=heard.append)
    changes = [(each.old, each.new, each.reason) for each in heard if type(each) is LimitChanged]
    assert changes[0] == (2, 1, "memory: 1,200 of 1,000 MB (max_memory_mb=)")
    assert changes[1][:2] == (1, 2)
    assert changes[1][2].endswith("of 1,000 MB (max_memory_mb=)")


# CPU -----------------------------------------------------------------------------------------


async def test_cpu_holds_back_and_never_cancels(load: Load) -> None:
    load.cpu = 95.0
    branches = {str(i): load.takes(str(i), 0, seconds=2) for i in range(5)}
    result = await run(Step.parallel(branches), memory=None, cpu=80)
    assert result.success
    assert load.peak == 1
    assert home(load)


async def test_cpu_that_rises_stops_what_is_to_start(load: Load) -> None:
    def follow() -> None:
        load.cpu = None if load.readings == 1 else 90.0 if load.readings < 50 else 10.0

    load.before = follow
    branches = {str(i): load.takes(str(i), 0, seconds=1) for i in range(12)}
    result = await run(Step.parallel(branches, max_concurrency=3), memory=None, cpu=80)
    assert result.success
    assert load.peak == 3
    # Three before the first figure, one each second up to the fifth, then three again.
    assert result.duration == pytest.approx(1 + 4 + 2, abs=0.2)


async def test_both_limits_hold_until_both_are_kept(load: Load) -> None:
    load.memory, load.cpu = 2000.0, 90.0
    script: dict[int, tuple[float, float]] = {10: (10.0, 90.0), 20: (10.0, 10.0)}

    def follow() -> None:
        load.memory, load.cpu = script.get(load.readings, (load.memory, load.cpu))

    load.before = follow
    branches = {str(i): load.takes(str(i), 0, seconds=100) for i in range(5)}
    times: list[float] = []
    start = anyio.current_time()

    async def late(_: Any) -> None:
        times.append(anyio.current_time() - start)

    result = await run(Step.parallel({**branches, "late": late}, timeout=None), cpu=80)
    assert result.success
    assert times == [pytest.approx(1.9)]


# Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, True, "1024", 0.5, [1]])
def test_a_memory_limit_that_cannot_be_meant_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_memory_mb=.*give megabytes"):
        ResourceLimits(max_memory_mb=value)


@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf, True, "80", 0.8, 101, 100.5])
def test_a_percentage_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_cpu_percent=.*from 1 to 100"):
        ResourceLimits(max_cpu_percent=value)


def test_a_slip_of_the_unit_is_named() -> None:
    with pytest.raises(ConfigurationError, match="is 80 meant"):
        ResourceLimits(max_cpu_percent=0.8)
    with pytest.raises(ConfigurationError, match="100 is all CPUs"):
        ResourceLimits(max_cpu_percent=400)
    with pytest.raises(ConfigurationError, match="a share of the memory"):
        ResourceLimits(max_memory_mb=0.8)


def test_limits_are_values() -> None:
    assert ResourceLimits(1024, 80) == ResourceLimits(max_memory_mb=1024, max_cpu_percent=80)
    assert attrs.evolve(ResourceLimits(1024), max_cpu_percent=1).bounded
    assert not ResourceLimits().bounded
