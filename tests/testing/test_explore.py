"""See that faults are found by whatever disturbs them, made short, and found again by one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from anabranch import Pipeline, Step
from anabranch._token import Held
from anabranch.testing import (
    DeadlockError,
    InjectedError,
    LeftRunningError,
    ScheduleFailedError,
    SpinningError,
    explore,
    interruptible,
    script,
    sleep,
)
from anabranch.testing._schedule import VERSION, parse
from tests.testing import faulty

each_loop = pytest.mark.parametrize("loop", ["trio", "asyncio"])
PLANTED = {
    faulty.lost_wakeup: DeadlockError,
    faulty.leaked_token: AssertionError,
    faulty.double_outcome: AssertionError,
    faulty.wakeup_between_look_and_wait: DeadlockError,
    faulty.token_behind_an_await: AssertionError,
    faulty.outcome_and_deadline: AssertionError,
    faulty.relies_on_order: AssertionError,
}
each_planted = pytest.mark.parametrize("program", PLANTED, ids=lambda program: program.__name__)
Program = Callable[..., Any]


def found(program: Program, **options: Any) -> ScheduleFailedError:
    with pytest.raises(ScheduleFailedError) as caught:
        explore(program, **options)
    return caught.value


# The hardest three


@pytest.mark.slow
@each_loop
@each_planted
def test_a_planted_fault_is_found_within_2000_schedules_and_again_by_its_line(
    program: Program, loop: str
) -> None:
    error = found(program, seeds=2000, loops=[loop])
    assert isinstance(error.__cause__, PLANTED[program])
    assert error.replay.startswith(f"{VERSION}:{loop}")
    assert f"replay it with: explore({program.__name__}, replay={error.replay!r})" in str(error)
    again = found(program, replay=error.replay)
    assert again.replay == error.replay
    assert type(again.__cause__) is type(error.__cause__)


def test_an_error_without_words_is_told_by_its_line() -> None:
    async def program() -> None:
        await checkpoint()
        raise AssertionError

    says = rf"AssertionError: at {__file__}:\d+ in program: raise AssertionError"
    assert re.search(says, str(found(program, seeds=1)))


@pytest.mark.slow
@each_loop
def test_what_is_found_is_as_short_as_it_can_be(loop: str) -> None:
    short = parse("test", found(faulty.relies_on_order, seeds=2000, loops=[loop]).replay)
    assert len(short.moves) == 1
    assert short.cancel is None
    assert short.fail is None
    (order,) = short.moves.values()
    assert order[0] == 4
    assert list(order[1:]) == sorted(order[1:])


@pytest.mark.slow
def test_a_sound_program_stays_sound_under_every_schedule() -> None:
    explored = explore(faulty.sound, seeds=300)
    assert explored.schedules == 302
    assert set(explored.steps) == {"trio", "asyncio"}
    assert min(explored.steps.values()) > 8
    assert min(explored.waits.values()) == 4


# What is disturbed


@pytest.mark.slow
@each_loop
def test_a_cancellation_comes_before_each_step_once(loop: str) -> None:
    seen: set[str] = set()

    async def program() -> None:
        at = "before"
        try:
            with interruptible():
                at = "first"
                await anyio.sleep(1)
                at = "second"
                await anyio.sleep(1)
                at = "third"
                await anyio.sleep(1)
                at = "end"
        finally:
            seen.add(at)

    explore(program, seeds=50, loops=[loop], disturb=["cancel"])
    assert seen == {"first", "second", "third", "end"}


@each_loop
def test_a_failure_comes_at_each_wait_for_the_outside_and_at_no_lock(loop: str) -> None:
    seen: set[str] = set()

    async def program() -> None:
        lock, at = anyio.Lock(), ""
        async with anyio.create_task_group() as group:
            group.start_soon(hold, lock)
            with interruptible():
                try:
                    at = "sleep"
                    await anyio.sleep(0.5)
                    at = "lock"
                    async with lock:
                        at = "checkpoint"
                        await checkpoint()
                except InjectedError:
                    seen.add(at)
                    raise

    async def hold(lock: anyio.Lock) -> None:
        async with lock:
            await anyio.sleep(1)

    explore(program, seeds=20, loops=[loop], disturb="fail")
    assert seen == {"sleep", "checkpoint"}


@each_loop
def test_functions_of_the_test_may_be_named_that_fail_too(loop: str) -> None:
    failed = 0

    async def ask(event: anyio.Event) -> None:
        await event.wait()

    async def program() -> None:
        nonlocal failed
        event = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(answer, event)
            with interruptible():
                try:
                    await ask(event)
                except InjectedError:
                    failed += 1

    async def answer(event: anyio.Event) -> None:
        await checkpoint()
        event.set()

    assert explore(program, seeds=4, loops=[loop]).waits == {loop: 0}
    explore(program, seeds=9, loops=[loop], may_fail=[ask])
    assert failed


@each_loop
def test_without_a_block_all_of_the_test_may_be_interrupted(loop: str) -> None:
    async def program() -> None:
        held = True
        await anyio.sleep(1)
        held = False
        await checkpoint()
        try:
            await anyio.sleep(1)
        finally:
            assert not held, "never"

    assert explore(program, seeds=30, loops=[loop]).steps[loop] >= 4


@pytest.mark.slow
@each_loop
def test_a_branch_of_a_pipeline_fails_and_the_limiter_gets_all_tokens_back(loop: str) -> None:
    ends: set[str] = set()

    async def program() -> None:
        limiter = anyio.CapacityLimiter(2)
        branches = script({key: [sleep(1)] for key in "abc"})
        with interruptible():
            result = await Pipeline([Step.parallel(branches)]).run(1, limiter=limiter)
            ends.update(str(each.status) for each in result.step_history[0].branches.values())
        assert limiter.borrowed_tokens == 0
        assert not branches.running

    explore(program, seeds=40, loops=[loop], disturb=["cancel", "fail"])
    assert {"succeeded", "failed"} <= ends


def test_outside_of_explore_a_block_does_nothing() -> None:
    async def program() -> str:
        with interruptible():
            await anyio.sleep(0)
            return "went on"

    assert trio.run(program) == "went on"


# What is a fault


@each_loop
def test_steps_without_end_are_a_fault(loop: str) -> None:
    async def program() -> None:
        while True:
            await checkpoint()

    error = found(program, loops=[loop], max_steps=1000)
    assert isinstance(error.__cause__, SpinningError)


@each_loop
def test_a_test_that_waits_for_a_thread_is_told_that_nobody_does(loop: str) -> None:
    async def program() -> None:
        await anyio.sleep_forever()

    error = found(program, loops=[loop])
    assert "fails undisturbed" in str(error)
    assert "threads and processes are not waited for" in str(error)


def test_a_task_that_outlives_its_test_is_a_fault_on_asyncio() -> None:
    import asyncio

    tasks = set()

    async def program() -> None:
        tasks.add(asyncio.create_task(asyncio.sleep(1)))

    error = found(program, loops=["asyncio"])
    assert isinstance(error.__cause__, LeftRunningError)
    assert "1 of its tasks" in str(error)


@each_loop
def test_a_test_that_fails_undisturbed_is_told_so(loop: str) -> None:
    async def program() -> None:
        await checkpoint()
        raise KeyError("missing")

    error = found(program, loops=[loop])
    assert "fails undisturbed" in str(error)
    assert isinstance(error.__cause__, KeyError)


# The engine ----------------------------------------------------------------------------------


async def nested_steps() -> None:
    """Run steps within each other on one limiter, which is lent and taken back."""
    limiter = anyio.CapacityLimiter(1)
    branches = script({key: [sleep(1)] for key in "abc"})
    inner = Step.parallel("inner", branches, max_concurrency=2)
    outer = Step.parallel("outer", {"x": inner, "y": sleep_a_second}, max_concurrency=2)
    with interruptible():
        await Pipeline([outer]).run(1, limiter=limiter)
    assert limiter.borrowed_tokens == 0, "tokens are lost"
    assert not branches.running


async def sleep_a_second(_: object) -> None:
    await anyio.sleep(1)


@pytest.mark.slow
@each_loop
def test_nested_steps_on_one_limiter_go_the_same_way_again_and_keep_their_promises(
    loop: str,
) -> None:
    explored = explore(nested_steps, seeds=150, loops=[loop])
    assert explored.steps[loop] > 30


@pytest.mark.slow
@each_loop
def test_a_token_that_the_engine_loses_when_it_is_cancelled_is_found(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_back = Held.give_back

    def forgetful(held: Held) -> None:
        if sys.exc_info()[0] is None:
            give_back(held)

    monkeypatch.setattr(Held, "give_back", forgetful)
    error = found(nested_steps, seeds=2000, loops=[loop])
    assert "tokens are lost" in str(error.__cause__)
    assert parse("test", error.replay).cancel is not None
