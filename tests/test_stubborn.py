"""A branch that works on after its cancellation keeps its step open, and is named with its line."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from anabranch import (
    BranchStubborn,
    ConfigurationError,
    Job,
    Pipeline,
    Status,
    Step,
    open_scheduler,
)
from anabranch.testing import _clock
from tests.branches import with_begun


async def pass_on(_: Any) -> None:
    await anyio.sleep(1000)


def stubborn(seconds: float) -> Any:
    """Make a branch that keeps its first cancellation for itself, and works on."""

    async def work_on(_: Any) -> str:
        try:
            await anyio.sleep(1000)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)  # the line where it sits
            raise
        return "never"

    return work_on


async def events_of(step: Any, **options: Any) -> tuple[Any, list[Any]]:
    heard: list[Any] = []
    with anyio.fail_after(2000):
        result = await Pipeline([step]).run(1, observer=heard.append, **options)
    await anyio.sleep(0.01)
    for _ in range(200):  # the observer has a thread of its own
        if any(type(each).__name__ == "StepFinished" for each in heard):
            break
        time.sleep(0.005)
    return result.step_history[-1], [each for each in heard if isinstance(each, BranchStubborn)]


@pytest.mark.parametrize("where", ["first", "second", "alone"])
async def test_it_is_named_after_its_grace_with_the_line_where_it_sits(where: str) -> None:
    branches = {"first": pass_on, "second": pass_on}
    if where == "alone":
        branches = {}
    branches[where] = stubborn(20)
    result, named = await events_of(Step.parallel("s", branches, timeout=2, cancel_grace=3))
    assert [each.key for each in named] == [where]
    assert named[0].where.endswith("in work_on")
    assert "test_stubborn.py" in named[0].where
    assert named[0].seconds == 3
    assert result.latency_s == pytest.approx(22), "nothing is detached: the step waited for it"
    assert result.branches[where].status is Status.CANCELLED


async def test_who_ends_within_its_grace_is_not_named() -> None:
    branches = {"a": stubborn(2), "b": pass_on}
    result, named = await events_of(Step.parallel(branches, timeout=2, cancel_grace=3))
    assert not named
    assert result.latency_s == pytest.approx(4)


async def test_a_timeout_of_its_own_is_no_cancellation() -> None:
    async def retries(_: Any) -> str:
        with anyio.move_on_after(1):
            await anyio.sleep(100)
        await anyio.sleep(50)
        return "done"

    result, named = await events_of(Step.parallel({"a": retries, "b": pass_on}, timeout=60))
    assert not named
    assert result.output["a"] == "done"


async def test_the_others_are_published_before_and_the_snapshot_tells() -> None:
    branches = {"slow": stubborn(20), "b": pass_on, "c": pass_on}
    step = Step.parallel("s", branches, timeout=None, cancel_grace=3)
    ended: list[str] = []
    seen: dict[str, str] = {}
    async with Pipeline([step]).open(1) as run, anyio.create_task_group() as group:

        async def look() -> None:
            await anyio.sleep(1)
            assert run.cancel("*", reason="enough") == 3
            await anyio.sleep(10)
            assert sorted(ended) == ["b", "c"]
            seen.update(run.snapshot().steps[0].stubborn)

        group.start_soon(look)
        async for outcome in run.outcomes:
            ended.append(outcome.key)
            assert outcome.reason == "enough"
    assert list(seen) == ["slow"]
    assert "in work_on" in seen["slow"]
    assert ended[-1] == "slow"


async def test_a_cancellation_from_outside_counts_too() -> None:
    heard: list[Any] = []
    step = Step.parallel("s", {"a": stubborn(20), "b": stubborn(20)}, cancel_grace=3, timeout=None)
    started = anyio.current_time()
    with anyio.move_on_after(1) as scope:
        await Pipeline([step]).run(1, observer=heard.append)
    assert scope.cancelled_caught
    assert anyio.current_time() - started == pytest.approx(21)
    for _ in range(200):
        if len([each for each in heard if isinstance(each, BranchStubborn)]) == 2:
            break
        time.sleep(0.005)
    assert {each.key for each in heard if isinstance(each, BranchStubborn)} == {"a", "b"}


@pytest.mark.real_clock
async def test_a_thread_that_is_waited_for_is_named_with_its_line() -> None:
    async def attempt(seconds: float, begun: threading.Event) -> list[Any]:
        free, heard = threading.Event(), []

        def dig(_: Any) -> str:
            if not free.is_set():  # else it was named before it began
                begun.set()
            free.wait(60)
            return "dug"

        def hear(event: Any) -> None:
            heard.append(event)
            if isinstance(event, BranchStubborn):
                free.set()

        branches = {"t": Step("t", dig, on_cancel="wait"), "b": pass_on}
        with anyio.fail_after(seconds + 30):
            # Named a while after the deadline: by then a thread that has begun is in `dig`.
            step = Step.parallel(branches, timeout=seconds, cancel_grace=0.05)
            await Pipeline([step]).run(1, observer=hear)
        return heard

    heard = await with_begun(attempt)
    (named,) = [each for each in heard if isinstance(each, BranchStubborn)]
    assert named.key == "t"
    assert any("in dig" in line for line in named.stack)


async def test_none_never_looks() -> None:
    branches = {"a": stubborn(20), "b": pass_on}
    _, named = await events_of(Step.parallel(branches, timeout=2, cancel_grace=None))
    assert not named


@pytest.mark.real_clock
@pytest.mark.slow
async def test_the_cpu_stays_idle_while_a_shielded_child_holds_a_cancelled_step() -> None:
    async def hold(_: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.6)

    async def nested(_: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hold, 1)
            await anyio.sleep(1000)

    branches = {"a": hold, "b": pass_on, "c": nested}
    for width in (1, 3):
        some = dict(list(branches.items())[:width])
        step = Step.parallel(some, timeout=0.05, cancel_grace=0.1)
        wall, busy = time.perf_counter(), time.thread_time()
        await Pipeline([step]).run(1)
        wall, busy = time.perf_counter() - wall, time.thread_time() - busy
        assert wall > 0.5
        assert busy < wall / 10, f"{busy:.3f} s of CPU in {wall:.3f} s"


@pytest.mark.parametrize("grace", [0, -1, float("nan"), "5", True])
def test_a_grace_that_cannot_be_meant(grace: Any) -> None:
    with pytest.raises(ConfigurationError, match="cancel_grace"):
        Step.parallel({"a": pass_on}, cancel_grace=grace)


def test_the_clock_of_the_tests_looks_into_branches_too() -> None:
    assert _clock.where(None) == "no frame"


# Who does not hear of it ----------------------------------------------------------------------


async def shielded(_: Any) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(20)  # the line where it sits


async def waits_for_a_child(_: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(shielded, None)


@pytest.mark.parametrize("branch", [shielded, waits_for_a_child])
@pytest.mark.parametrize("beside", [False, True])
async def test_one_that_does_not_hear_of_the_deadline_is_named_too(
    branch: Any, beside: bool
) -> None:
    others = {"other": pass_on} if beside else {}
    step = Step.parallel("s", {"a": branch, **others}, timeout=2, cancel_grace=3)
    result, named = await events_of(step)
    assert [each.key for each in named] == ["a"]
    assert named[0].where.endswith(f"in {branch.__name__}")
    assert result.latency_s == pytest.approx(20)


@pytest.mark.parametrize("branch", [shielded, waits_for_a_child])
async def test_one_that_does_not_hear_of_its_own_cancellation_is_named_too(branch: Any) -> None:
    heard: list[Any] = []
    step = Step.parallel("s", {"a": branch, "b": shielded}, cancel_grace=3, timeout=None)
    async with Pipeline([step]).open(1, observer=heard.append) as run:
        await anyio.sleep(1)
        assert run.cancel("a", reason="enough") == 1
        await anyio.sleep(5)
        assert list(run.snapshot().steps[0].stubborn) == ["a"]
    time.sleep(0.05)  # the observer has a thread of its own
    assert [each.key for each in heard if isinstance(each, BranchStubborn)] == ["a"]


async def test_hands_that_come_and_go_leave_no_task_behind() -> None:
    async with open_scheduler(2) as scheduler:
        for number in range(20):
            scheduler.submit(Job(f"j{number}", pass_soon))
            await anyio.sleep(2)
        with anyio.move_on_after(1):
            async for outcome in scheduler.outcomes:
                assert outcome.status is Status.SUCCEEDED
    assert anyio.current_time() < 1000


async def pass_soon() -> None:
    await anyio.sleep(1)
