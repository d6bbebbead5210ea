"""ResourceLimits: what is held back, who is cancelled, when, and what the step then says."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import anyio
import attrs
import hypothesis
import psutil
import pytest
from hypothesis import strategies as st
from trio.testing import MockClock

from anabranch import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ConfigurationError,
    ExecutionConfig,
    LimitChanged,
    Pipeline,
    PipelineResult,
    ResourceLimits,
    Status,
    Step,
)
from anabranch.pipeline import _resources
from anabranch.pipeline._gate import Gate
from anabranch.pipeline._meter import Reading
from anabranch.pipeline._resources import Bound, is_pressed
from anabranch.samplers._memory import memory_mb
from anabranch.testing._clock import VirtualLoop
from tests.leaks import new, tasks

LIMIT = 1000.0


class Load:
    """Be the machine: branches take memory and give it back, and a script says the rest."""

    def __init__(self) -> None:
        self.memory: float | None = 0.0
        self.others: float | None = 0.0  # what is not the branches'
        self.cpu: float | None = None
        self.running: list[str] = []
        self.began: list[str] = []
        self.ended: list[str] = []
        self.peak = 0
        self.readings = 0
        self.before: Callable[[], None] = lambda: None  # called with each reading
        self.gates: list[Gate] = []

    async def read(self, exact_above: float) -> Reading:
        self.readings += 1
        self.before()
        if self.memory is None or self.others is None:
            return Reading(None, self.cpu)
        return Reading(self.memory + self.others, self.cpu)

    def takes(self, name: str, mb: float = 0.0, seconds: float = 10.0) -> Any:
        """Return a branch that takes some memory while it runs."""

        async def branch(_: Any) -> str:
            self.began.append(name)
            self.running.append(name)
            self.peak = max(self.peak, len(self.running))
            self.memory = (self.memory or 0.0) + mb
            try:
                await anyio.sleep(seconds)
            finally:
                self.memory = (self.memory or 0.0) - mb
                self.running.remove(name)
            self.ended.append(name)
            return name

        return branch


@contextmanager
def loaded() -> Iterator[Load]:
    """Put a machine in the place of the real one."""
    machine = Load()

    def gate(runtime: Any) -> Gate:
        machine.gates.append(Gate(runtime))
        return machine.gates[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_resources, "meter_of", lambda host: machine)
        patch.setattr(_resources, "Gate", gate)
        yield machine


@pytest.fixture
def load() -> Iterator[Load]:
    with loaded() as machine:
        yield machine


async def run(
    *steps: Any, memory: float | None = LIMIT, cpu: float | None = None, **options: Any
) -> PipelineResult[Any]:
    limits = ResourceLimits(max_memory_mb=memory, max_cpu_percent=cpu)
    config = ExecutionConfig(resource_limits=limits)
    with anyio.fail_after(100_000):
        return await Pipeline(list(steps), execution_config=config).run(1, **options)


def statuses(result: Any) -> dict[str, str]:
    return {key: str(branch.status) for key, branch in result.branches.items()}


def home(load: Load) -> bool:
    """Tell whether every token is back, and nobody waits."""
    return all(not each.borrowed_tokens and not each.tasks_waiting for each in load.gates)


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


def after(seconds: float, branch: Any) -> Any:
    async def late(data: Any) -> Any:
        await anyio.sleep(seconds)
        return await branch(data)

    return late


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


# Nesting -------------------------------------------------------------------------------------


def tree(load: Load, path: str, depth: int, width: int, seconds: float = 1, **terms: Any) -> Any:
    if depth == 0:
        return load.takes(path, 100, seconds)
    below = (depth - 1, width, seconds)
    inside = {str(i): tree(load, f"{path}/{i}", *below, **terms) for i in range(width)}
    return Step.parallel(inside, timeout=None, **terms)


@pytest.mark.parametrize("terms", [{}, {"max_concurrency": 1}, {"max_concurrency": 2}])
async def test_three_levels_under_pressure_end(load: Load, terms: dict[str, Any]) -> None:
    load.memory = 2000.0
    result = await run(tree(load, "t", 3, 3, **terms))
    assert result.success, result
    assert len(load.ended) == 27
    assert load.peak == 1
    assert result.duration == pytest.approx(27)
    assert home(load)


@pytest.mark.parametrize("limit", [1, 2])
async def test_three_levels_under_one_limiter_and_pressure_end(load: Load, limit: int) -> None:
    load.memory = 2000.0
    limiter = anyio.CapacityLimiter(limit)
    result = await run(tree(load, "t", 3, 3), limiter=limiter)
    assert result.success, result
    assert load.peak == 1
    assert limiter.borrowed_tokens == 0
    assert home(load)


async def test_pressure_that_comes_and_goes_loses_no_branch(load: Load) -> None:
    def flip() -> None:
        load.memory = 2000.0 if load.readings % 4 < 2 else 10.0

    load.before = flip
    result = await run(tree(load, "t", 3, 3, max_concurrency=2))
    assert result.success, result
    assert len(load.ended) == 27
    assert home(load)


async def test_pressure_in_the_midst_of_nested_steps_costs_leaves_only(load: Load) -> None:
    """27 leaves of 100 MB: ten may run at once, and what is cancelled are leaves."""
    result = await run(tree(load, "t", 3, 3, seconds=100))
    assert len(load.ended) == 10
    assert home(load)

    def leaves(step: Any) -> list[Any]:
        if not step.branches:
            return [step]
        return [leaf for branch in step.branches.values() for leaf in leaves(branch)]

    reasons = [leaf.reason for leaf in leaves(result.step_history[0])]
    assert sum(map(is_pressed, reasons)) == 17
    assert "memory: " in result.feedback or "branches succeeded" in result.feedback


async def test_a_parent_whose_children_have_ended_goes_on_while_others_are_held_back(
    load: Load,
) -> None:
    async def grow(_: Any) -> None:
        load.memory = 2000.0
        await anyio.sleep(0.5)

    ended: dict[str, float] = {}

    async def rest(_: Any) -> None:
        ended["rest"] = anyio.current_time()

    config = ConcurrencyConfig(2, individual_cancellation=False)
    inner = Pipeline([Step.parallel({"grow": grow}, concurrency=config), rest])
    start = anyio.current_time()
    slow = load.takes("slow", 0, seconds=100)
    await run(Step.parallel({"slow": slow, "inner": inner}, concurrency=config, timeout=None))
    assert ended["rest"] - start == pytest.approx(0.5)


async def test_a_nested_pipeline_has_limits_of_its_own(load: Load) -> None:
    load.memory = 500.0
    strict = ExecutionConfig(resource_limits=ResourceLimits(max_memory_mb=100))
    inner = {str(i): load.takes(f"inner/{i}", 0, seconds=1) for i in range(4)}
    outer = {str(i): load.takes(f"outer/{i}", 0, seconds=1) for i in range(4)}
    nested = Pipeline([Step.parallel(inner)], execution_config=strict)
    result = await run(Step.parallel({"strict": nested, "free": Step.parallel(outer)}))
    assert result.success
    assert load.peak == 5
    assert result.duration == pytest.approx(4)


# What is fed ---------------------------------------------------------------------------------


async def test_what_is_fed_is_not_pulled_while_held_back(load: Load) -> None:
    load.memory = 2000.0
    pulled: list[int] = []

    def items() -> Any:
        for i in range(30):
            pulled.append(i)
            yield i

    async def work(i: int) -> int:
        assert len(pulled) <= len(load.ended) + 2
        return int(await load.takes(str(i), 0, seconds=1)(i))

    step = Step.map_over("each", work, items=lambda _: items(), max_concurrency=5)
    result = await run(step)
    assert result.success
    assert result.output == list(range(30))
    assert load.peak == 1


async def test_async_items_are_not_pulled_while_held_back(load: Load) -> None:
    load.memory = 2000.0
    pulled: list[int] = []

    async def items() -> Any:
        for i in range(10):
            pulled.append(i)
            yield i

    async def work(i: int) -> None:
        await load.takes(str(i), 0, seconds=1)(i)
        assert len(pulled) <= len(load.ended) + 2

    result = await run(Step.map_over("each", work, items=lambda _: items(), max_concurrency=5))
    assert result.success, result
    assert load.peak == 1


async def test_a_map_without_an_end_is_still_bounded(load: Load) -> None:
    """The gate is no limit of the pipeline's: what has none of its own gets the default."""

    async def items() -> Any:
        for i in range(50):
            yield i

    step = Step.map_over("each", load.takes("x", 0), items=lambda _: items())
    await run(step)
    assert load.peak <= 10


async def test_a_streamed_map_tells_what_memory_has_cost(load: Load) -> None:
    limits = ExecutionConfig(resource_limits=ResourceLimits(max_memory_mb=LIMIT))
    work = load.takes("x", 400, seconds=2)
    step = Step.map_over("each", work, items=range(4), max_concurrency=4)
    async with Pipeline([step], execution_config=limits).open() as live:
        found = [outcome async for outcome in live.outcomes]
    assert sum(is_pressed(outcome.reason) for outcome in found) == 2
    step_result = live.result.step_history[0]
    assert dict(step_result.counts) == {"succeeded": 2, "cancelled": 2}
    assert not step_result.success
    assert is_pressed(step_result.reason)


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


# Readings that fail --------------------------------------------------------------------------


async def test_what_is_unknown_changes_nothing_and_is_said_once(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    load.before = lambda: setattr(load, "memory", None)
    branches = {str(i): load.takes(str(i), 0, seconds=5) for i in range(5)}
    with caplog.at_level(logging.WARNING, "anabranch"):
        result = await run(Step.parallel(branches), cpu=80)
    assert result.success
    assert load.peak == 5
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "max_memory_mb= limits nothing while the load is unknown",
        "max_cpu_percent= limits nothing while the load is unknown",
    ]


async def test_the_first_reading_of_cpu_is_unknown_and_that_is_not_worth_a_word(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    load.before = lambda: setattr(load, "cpu", None if load.readings == 1 else 10.0)
    with caplog.at_level(logging.WARNING, "anabranch"):
        await run(Step.parallel({"a": load.takes("a")}), memory=None, cpu=80)
    assert caplog.records == []


async def test_an_unknown_reading_neither_holds_back_nor_lets_go(load: Load) -> None:
    def follow() -> None:
        load.memory = 2000.0 if load.readings == 1 else None

    load.before = follow

    async def work(_: Any) -> None:
        load.running.append("x")
        load.peak = max(load.peak, len(load.running))
        await anyio.sleep(1)
        load.running.pop()

    result = await run(Step.parallel({str(i): work for i in range(5)}))
    assert result.success
    assert load.peak == 1


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("odd")])
async def test_a_reading_that_raises_is_an_unknown_one(
    load: Load, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    load.before = fail
    branches = {str(i): load.takes(str(i), 0, seconds=5) for i in range(5)}
    with caplog.at_level(logging.WARNING, "anabranch"):
        result = await run(Step.parallel(branches))
    assert result.success
    assert load.peak == 5
    assert [record.getMessage() for record in caplog.records] == [
        f"max_memory_mb= limits nothing while the load is unknown: {error!r}"
    ]


async def test_a_machine_that_does_not_answer_delays_a_run_once_and_ends_with_it(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(exact_above: float) -> Reading:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(load, "read", read)
    result = await run(Step.parallel({str(i): load.takes(str(i)) for i in range(5)}))
    assert result.success
    assert load.peak == 5
    assert result.duration == pytest.approx(10 + _resources.FIRST_S)


async def test_slow_readings_take_a_tenth_of_the_time(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []

    async def read(exact_above: float) -> Reading:
        times.append(anyio.current_time())
        await anyio.sleep(0.5)
        return Reading(1.0)

    monkeypatch.setattr(load, "read", read)
    await run(Step.parallel({"a": load.takes("a", seconds=19)}))
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert apart == [pytest.approx(5)] * 3


# The end -------------------------------------------------------------------------------------


async def test_an_outer_cancellation_while_held_back_leaves_nothing(load: Load) -> None:
    load.memory = 2000.0
    with anyio.move_on_after(3.5) as scope:
        await run(tree(load, "t", 3, 3, max_concurrency=2))
    assert scope.cancelled_caught
    assert load.running == []
    assert home(load)
    before = load.readings
    await anyio.sleep(10)
    assert load.readings == before


async def test_a_cancellation_before_the_first_reading_leaves_nothing(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(exact_above: float) -> Reading:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(load, "read", read)
    with anyio.move_on_after(0.5) as scope:
        await run(Step.parallel({"a": load.takes("a")}))
    assert scope.cancelled_caught
    assert load.began == []


async def test_deadlines_count_while_held_back(load: Load) -> None:
    load.memory = 2000.0
    branches = {str(i): load.takes(str(i), 0, seconds=2) for i in range(5)}
    result = await run(Step.parallel(branches, timeout=5))
    step = result.step_history[0]
    assert step.status is Status.TIMED_OUT
    assert step.latency_s == pytest.approx(5)
    assert load.ended == ["0", "1"]
    assert home(load)


async def test_the_pipelines_own_deadline_counts_too(load: Load) -> None:
    load.memory = 2000.0
    branches = {str(i): load.takes(str(i), 0, seconds=2) for i in range(5)}
    result = await run(Step.parallel(branches), timeout=5)
    assert result.reason == "deadline: 5 s (timeout= of the pipeline)"
    assert home(load)


async def test_what_a_step_raises_comes_out_as_itself(load: Load) -> None:
    """Nothing of the watcher is around what ends a run."""

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await run(Step("stop", interrupt, lane="inline"))


async def test_without_limits_nobody_reads_the_machine(load: Load) -> None:
    result = await run(Step.parallel({"a": load.takes("a")}), memory=None)
    assert result.success
    assert load.readings == 0
    assert load.gates == []


async def test_a_snapshot_shows_that_one_may_run(load: Load) -> None:
    load.memory = 2000.0
    limits = ExecutionConfig(resource_limits=ResourceLimits(max_memory_mb=LIMIT))
    branches = {str(i): load.takes(str(i), 0, seconds=2) for i in range(5)}
    async with Pipeline([Step.parallel(branches)], execution_config=limits).open(1) as live:
        await anyio.sleep(0.5)
        (step,) = live.snapshot().steps
        assert (step.limit, step.queued, step.running) == (1, 4, ("0",))


async def test_a_finally_of_a_cancelled_branch_is_waited_for(load: Load) -> None:
    """It is cancelled once, and while it cleans up others are, after further readings."""
    cleaned: list[str] = []

    def slow_to_end(name: str) -> Any:
        async def branch(_: Any) -> None:
            load.memory = (load.memory or 0) + 600
            try:
                await anyio.sleep(10)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                cleaned.append(name)
                load.memory -= 600

        return branch

    branches = {name: after(0.01 * i, slow_to_end(name)) for i, name in enumerate("abc")}
    result = await run(Step.parallel(branches))
    assert statuses(result.step_history[0])["c"] == "cancelled"
    assert cleaned[0] == "c"
    assert home(load)


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


# The real machine ----------------------------------------------------------------------------


@pytest.mark.real_clock
@pytest.mark.slow
async def test_the_real_machine_is_read_and_ends_with_the_run() -> None:
    """This interpreter takes more than a megabyte, so all run one at a time."""
    running: list[int] = []
    peak = 0

    async def work(_: Any) -> None:
        nonlocal peak
        running.append(1)
        peak = max(peak, len(running))
        await anyio.sleep(0.05)
        running.pop()

    result = await run(Step.parallel({str(i): work for i in range(5)}), memory=1, cpu=100)
    assert result.success, result
    assert peak == 1


HOG = """
import time
hog = bytearray(400 * 1024 * 1024)
hog[::4096] = b'x' * len(hog[::4096])
time.sleep(60)
"""


@pytest.mark.real_clock
@pytest.mark.slow
async def test_a_child_process_that_takes_too_much_is_ended() -> None:
    async def small(_: Any) -> str:
        await anyio.sleep(0.5)
        return "small"

    async def hog(_: Any) -> None:
        await anyio.run_process([sys.executable, "-c", HOG])

    now = memory_mb()
    assert now is not None
    result = await run(Step.parallel({"small": small, "hog": hog}), memory=now + 200)
    found = result.step_history[0].branches
    assert found["small"].success
    assert is_pressed(found["hog"].reason), found["hog"]
    assert psutil.Process().children() == []


# Drawn ---------------------------------------------------------------------------------------

figures = st.sampled_from([0.0, 500.0, 980.0, 1500.0, 5000.0, None])


@st.composite
def steps(draw: Any, depth: int = 3) -> Any:
    """Draw a tree of steps: a leaf is what it takes, and how long."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([0, 50, 400])), draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    width, limit = draw(st.integers(1, 4)), draw(st.sampled_from([None, 1, 2]))
    return limit, draw(st.booleans()), [draw(steps(depth=depth - 1)) for _ in range(width)]


def built(load: Load, drawn: Any, path: str) -> Any:
    if len(drawn) == 2:
        return load.takes(path, *drawn)
    limit, singly, inside = drawn
    config = ConcurrencyConfig(limit or 100, individual_cancellation=singly)
    branches = {str(i): built(load, each, f"{path}/{i}") for i, each in enumerate(inside)}
    return Step.parallel(branches, timeout=None, concurrency=config)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@hypothesis.given(
    drawn=steps(),
    script=st.lists(st.tuples(figures, st.sampled_from([None, 10.0, 95.0])), max_size=12),
    total=st.sampled_from([None, 1, 3]),
)
def test_whatever_the_machine_says_a_run_ends_and_all_is_home(
    backend: str, drawn: Any, script: list[Any], total: int | None
) -> None:
    limits = ResourceLimits(max_memory_mb=LIMIT, max_cpu_percent=80)
    config = ExecutionConfig(resource_limits=limits, max_parallel_steps=total)
    virtual: dict[str, Any] = {"clock": MockClock(autojump_threshold=0)}
    if backend == "asyncio":
        virtual = {"loop_factory": VirtualLoop}
    with loaded() as load:

        def follow() -> None:
            says = script[load.readings - 1 :][:1] or [(0.0, 10.0)]
            load.others, load.cpu = says[0]

        load.before = follow

        async def main() -> PipelineResult[Any]:
            before = tasks()
            step = Step.parallel({"r": built(load, drawn, "r")}, timeout=None)
            with anyio.fail_after(600):
                result = await Pipeline([step], execution_config=config).run(1)
            assert not new(before, tasks())
            return result

        result = anyio.run(main, backend=backend, backend_options=virtual)
    assert load.running == []
    assert home(load)
    assert result.success == (set(load.began) == set(load.ended))
