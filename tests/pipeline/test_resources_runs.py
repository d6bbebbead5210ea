"""ResourceLimits over whole runs: nested, fed, cut off, read badly, and drawn; all of them end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import anyio
import hypothesis
import psutil
import pytest
from hypothesis import strategies as st
from trio.testing import MockClock

from anabranch import (
    ConcurrencyConfig,
    ExecutionConfig,
    Pipeline,
    PipelineResult,
    ResourceLimits,
    Status,
    Step,
)
from anabranch.pipeline import _resources
from anabranch.pipeline._meter import Reading
from anabranch.pipeline._stopped import is_pressed
from anabranch.samplers._memory import memory_mb
from anabranch.testing._clock import VirtualLoop
from tests.leaks import new, tasks
from tests.pipeline.machine import LIMIT, Load, after, home, loaded, run, statuses, tree


@pytest.fixture
def load() -> Iterator[Load]:
    with loaded() as machine:
        yield machine


# Nesting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [{}, {"max_concurrency": 1}, {"max_concurrency": 2}])
async def test_three_levels_under_pressure_end(load: Load, terms: dict[str, Any]) -> None:
    load.memory = 2000.0
    result = await run(tree(load, "t", 3, 3, **terms))
    assert result.success, result
    assert len(load.ended) == 27
    assert load.peak == 1
    # One by one. Where two limiters are short, who has found each of them taken pauses for a
    # moment, and trio draws who comes to that.
    assert result.duration == pytest.approx(27, abs=0.1)
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

    before = psutil.Process().children()  # of tests before this one: what reaps their scripts
    now = memory_mb()
    assert now is not None
    result = await run(Step.parallel({"small": small, "hog": hog}), memory=now + 200)
    found = result.step_history[0].branches
    assert found["small"].success
    assert is_pressed(found["hog"].reason), found["hog"]
    assert set(psutil.Process().children()) <= set(before)


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
