"""Faults 1, 2, 6, 7, 34 and 39: tokens that are held, lost or over-granted, and limits that lie."""

import math
import sys
import time
import tracemalloc

import anyio
import anyio.from_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import (
    ConcurrencyConfig,
    ConcurrencyManager,
    ConcurrencyManagerConfig,
    ConfigurationError,
    ExecutionConfig,
    Halt,
    Pipeline,
    ResourceLimits,
    ResourceManager,
    Step,
    open_scheduler,
)
from anabranch.pipeline._depth import FRAMES
from anabranch.testing import run_virtual
from tests.branches import Watch, read, sleep, statuses, submit

LOOPS = ["trio", "asyncio"]


async def leaf(_):
    await anyio.sleep(0.01)
    return 1


def nested(depth, width, limit):
    """Return a step that many deep, each level under its own limit."""
    step = leaf
    for level in range(depth):
        branches = {f"b{i}": step for i in range(width)}
        step = Step.parallel(f"s{level}", branches, max_concurrency=limit, timeout=None)
    return step


async def ends(depth, width, limit, limiter=None):
    with anyio.fail_after(100):
        result = await Pipeline([nested(depth, width, limit)]).run(1, limiter=limiter)
    assert result.success, result


@pytest.mark.parametrize("shared", [True, False])
async def test_fault_01_nested_three_deep_at_a_limit_of_one_ends(shared):
    limiter = anyio.CapacityLimiter(1)
    await ends(3, 2, limiter if shared else 1, limiter)
    assert limiter.borrowed_tokens == 0


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@given(depth=st.integers(1, 4), width=st.integers(1, 3), limit=st.integers(1, 3))
def test_fault_01_any_depth_width_and_limit_ends(loop, depth, width, limit):
    async def main():
        limiter = anyio.CapacityLimiter(limit)
        await ends(depth, width, limiter, limiter)
        assert limiter.borrowed_tokens == 0

    run_virtual(main, loop=loop)


@pytest.mark.real_clock
@pytest.mark.slow
@pytest.mark.parametrize("outer", ["io", "chunk"])
@pytest.mark.parametrize("middle", ["io", "chunk"])
@pytest.mark.parametrize("inner", ["io", "chunk", "cpu"])
async def test_fault_02_a_lane_called_from_inside_itself_ends(outer, middle, inner):
    config = ConcurrencyManagerConfig(
        cpu_workers=1, io_workers=1, chunk_processor_workers=1, use_processes=False
    )
    async with ConcurrencyManager(config) as manager:
        calls = {name: getattr(manager, f"run_{name}") for name in ("io", "chunk", "cpu")}

        def deep():
            return anyio.from_thread.run(calls[inner], abs, -1)

        async def between():
            return await calls[middle](deep)

        with anyio.fail_after(5):
            assert await calls[outer](between) == 1


@pytest.mark.real_clock
async def test_fault_02_a_thread_that_calls_back_into_the_loop_ends():
    limiter = anyio.CapacityLimiter(1)

    def thread(data):
        if data == 0:
            return "bottom"

        async def below():
            return (await pipeline.run(data - 1, limiter=limiter)).unwrap()

        return anyio.from_thread.run(below)

    step = Step.parallel("p", {"a": thread}, max_concurrency=limiter)
    pipeline = Pipeline([step], execution_config=ExecutionConfig(io_limit=1))
    with anyio.fail_after(5):
        found = (await pipeline.run(3, limiter=limiter)).unwrap()
    assert found == {"a": {"a": {"a": {"a": "bottom"}}}}
    assert limiter.borrowed_tokens == 0


STEPS = st.one_of(
    st.tuples(st.just("spawn"), st.integers(1, 5)),
    st.tuples(st.just("resize"), st.integers(0, 5)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("tick"), st.integers(0, 4)),
)


async def play(program, checkpoint=None):
    """Run a drawn program; cancel all at that moment, if one is given."""
    limiter = anyio.CapacityLimiter(2)
    watch, count = Watch(limiter), 0
    with anyio.move_on_after(math.inf if checkpoint is None else checkpoint * 0.004):
        async with open_scheduler(limiter) as scheduler:
            for what, number in program:
                if what == "spawn":
                    for _ in range(number):
                        submit(scheduler, str(count), watch.sleeps, count)
                        count += 1
                elif what == "resize":
                    limiter.total_tokens = number
                elif what == "cancel":
                    scheduler.cancel(f"*{number}")
                else:
                    await anyio.sleep(0.004 * number)
            limiter.total_tokens = 3
    assert not watch.above, watch.above
    assert limiter.borrowed_tokens == 0
    assert watch.running == 0


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@given(program=st.lists(STEPS, max_size=12), moment=st.none() | st.integers(0, 12))
def test_fault_06_no_token_is_lost_or_lent_twice_around_cancel_and_resize(loop, program, moment):
    run_virtual(play, program, moment, loop=loop)


async def test_fault_06_a_shrink_and_a_grow_lend_no_more_than_there_are():
    limiter = anyio.CapacityLimiter(10)
    watch = Watch(limiter)
    async with open_scheduler(limiter) as scheduler:
        for i in range(30):
            submit(scheduler, str(i), watch.sleeps, i, 1)
        await anyio.sleep(0.1)
        limiter.total_tokens = 2
        await anyio.sleep(1.5)
        limiter.total_tokens = 4
        await anyio.sleep(0.1)
        assert limiter.borrowed_tokens <= 4
        await read(scheduler)
    assert not watch.above
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("limit", [True, False, math.nan, -1, 1.5, "4", -math.inf])
async def test_fault_07_what_is_no_limit_is_refused(limit):
    with pytest.raises(ConfigurationError):
        async with open_scheduler(limit):
            raise AssertionError("it began")
    with pytest.raises(ConfigurationError):
        Step.parallel({"a": leaf}, max_concurrency=limit)
    with pytest.raises(ConfigurationError):
        ConcurrencyConfig(max_concurrent_branches=limit)


async def test_fault_07_none_run_at_zero_and_all_when_it_grows_again():
    limiter = anyio.CapacityLimiter(1)
    async with open_scheduler(limiter) as scheduler:
        limiter.total_tokens = 0
        submit(scheduler, "a", sleep, 0)
        await anyio.sleep(100)
        assert limiter.borrowed_tokens == 0
        limiter.total_tokens = math.inf
        assert statuses(await read(scheduler)) == {"succeeded": 1}


@pytest.mark.slow
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8))
@pytest.mark.parametrize("loop", LOOPS)
def test_fault_07_below_what_is_borrowed_nothing_starts(loop, totals):
    run_virtual(
        play,
        [("spawn", 6), *[(w, n) for total in totals for w, n in (("resize", total), ("tick", 1))]],
        loop=loop,
    )


FRACTIONS = {
    "cpu_threshold": (lambda: ConcurrencyManagerConfig(cpu_threshold=0.85), "85"),
    "memory_threshold": (lambda: ConcurrencyManagerConfig(memory_threshold=0.8), "80"),
    "max_cpu_percent": (lambda: ResourceLimits(max_cpu_percent=0.8), "80"),
    "cpu_threshold_percent": (lambda: ResourceManager(cpu_threshold_percent=0.8), "80"),
    "percent": (lambda: Halt(percent=0.5), "50"),
}


@pytest.mark.parametrize("name", FRACTIONS)
def test_fault_34_a_fraction_where_percent_is_meant_is_refused_with_a_hint(name):
    make, hint = FRACTIONS[name]
    with pytest.raises(ConfigurationError, match=rf"{name}.*{hint}"):
        make()


async def test_fault_39_nothing_is_allocated_in_proportion_to_a_limit():
    huge = 10**9
    tracemalloc.start()
    try:
        async with open_scheduler(huge) as scheduler:
            submit(scheduler, "a", sleep, 0)
            await read(scheduler)
        config = ExecutionConfig(max_parallel_steps=huge, io_limit=huge)
        step = Step.parallel({"a": leaf}, max_concurrency=huge)
        assert (await Pipeline([step], execution_config=config).run(1)).success
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


async def test_fault_39_steps_nested_deeper_than_the_stack_are_refused_and_the_deepest_run():
    step, deepest = leaf, sys.getrecursionlimit() // FRAMES
    for level in range(deepest):
        step = Step.parallel(f"s{level}", {"a": step, "b": leaf}, max_concurrency=1, timeout=None)
    assert (await Pipeline([step_inside(step)]).run(1)).success
    for around in (lambda: Step.parallel({"a": step}), lambda: Step.map_over("m", step)):
        with pytest.raises(ConfigurationError, match=f"{deepest + 1} steps are nested"):
            around()


def step_inside(step):
    """Return the step within the deepest, so that the pipeline around it is the last level."""
    return step._plans[0].node


@pytest.mark.slow
async def test_fault_39_names_of_10_megabytes_cost_no_more_than_themselves():
    name = "n" * 10_000_000
    tracemalloc.start()
    began = time.perf_counter()
    try:
        step = Step.parallel("s", {name: leaf, "b": leaf})
        result = await Pipeline([step]).run(1)
        words = repr(result) + result.step_history[0].feedback
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
    assert result.success
    assert len(words) < 50_000_000
    assert time.perf_counter() - began < 10
