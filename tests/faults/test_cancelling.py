"""Faults 3, 4, 5 and 20: cancellation that is swallowed, spins, cannot land, or hides an error."""

import threading
import time

import anyio
import pytest

from anabranch import BranchStubborn, Pipeline, Status, Step
from tests.branches import Watch, with_begun


async def endless(_):
    await anyio.sleep(1000)


async def swallows(_):
    try:
        await anyio.sleep(1000)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(20)
    return "all the same"


@pytest.mark.parametrize("whose", ["of the step", "of the branch"])
async def test_fault_03_who_swallows_a_deadline_is_named_and_delays_nobody_else(whose):
    heard, ended = [], {}
    own = whose == "of the branch"
    branches = {
        "mule": Step("mule", swallows, timeout=2 if own else None),
        "other": Step("other", endless, timeout=2),
    }
    step = Step.parallel("s", branches, timeout=30 if own else 2, cancel_grace=3)
    async with Pipeline([step]).open(1, observer=heard.append) as run:
        async for outcome in run.outcomes:
            ended[outcome.key] = anyio.current_time()
    assert ended["other"] - ended["mule"] == pytest.approx(-20)
    mule = run.result.step_history[0].branches["mule"]
    assert (mule.status, mule.output) == (Status.SUCCEEDED, "all the same")
    assert mule.reason.startswith("ignored: deadline: 2 s"), "the result says it"
    assert "ignored: deadline" in mule.feedback
    for _ in range(200):  # the observer has a thread of its own
        if any(isinstance(event, BranchStubborn) for event in heard):
            break
        time.sleep(0.005)
    named = [event for event in heard if isinstance(event, BranchStubborn)]
    assert [(event.key, event.seconds) for event in named] == [("mule", 3)]
    assert named[0].where.endswith("in swallows")


@pytest.mark.real_clock
@pytest.mark.slow
async def test_fault_04_the_cpu_rests_while_a_shielded_child_holds_a_cancelled_scope():
    async def holds(_):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.6)

    async def holds_in_a_child(_):
        async with anyio.create_task_group() as group:
            group.start_soon(holds, None)

    branches = {"a": holds, "b": endless, "c": holds_in_a_child}
    wall, busy = time.perf_counter(), time.thread_time()
    await Pipeline([Step.parallel(branches, timeout=0.05, cancel_grace=0.1)]).run(1)
    wall, busy = time.perf_counter() - wall, time.thread_time() - busy
    assert wall > 0.5
    assert busy < wall / 10, f"{busy:.3f} s of CPU in {wall:.3f} s"


@pytest.mark.real_clock
async def test_fault_05_a_thread_that_cannot_be_stopped_holds_its_token_until_it_ends():
    free, limiter = threading.Event(), anyio.CapacityLimiter(3)

    async def attempt(seconds, begun):
        def stuck(_):
            begun.set()
            free.wait(60)

        async def ok(_):
            return "ok"

        step = Step.parallel({"stuck": stuck, "ok": ok}, timeout=seconds, max_concurrency=3)
        with anyio.fail_after(seconds + 10):
            result = await Pipeline([step]).run(1, limiter=limiter)
        return seconds, result.step_history[0].branches

    try:
        seconds, branches = await with_begun(attempt)
        assert branches["stuck"].status is Status.ABANDONED
        assert branches["stuck"].reason.startswith(f"deadline: {seconds:g} s")
        assert branches["ok"].success
        assert limiter.borrowed_tokens == 1, "the thread runs on, so its token is not free"
    finally:
        free.set()
    with anyio.fail_after(10):
        while limiter.borrowed_tokens:
            await anyio.sleep(0.001)


async def test_fault_20_an_error_in_a_finally_at_a_deadline_hides_neither():
    async def breaks_up(_):
        try:
            await anyio.sleep(1000)
        finally:
            raise ValueError("while cleaning up")

    step = Step.parallel("s", {"a": breaks_up, "b": endless}, timeout=2)
    (result,) = (await Pipeline([step]).run(1)).step_history
    assert (result.status, result.branches["a"].status) == (Status.TIMED_OUT, Status.CANCELLED)
    assert result.branches["a"].reason == "deadline: 2 s (timeout=)"
    assert str(result.branches["a"].error) == "while cleaning up"


def leaves(error):
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]


async def test_fault_20_every_error_is_in_the_result_exactly_once_and_no_sibling_runs_on():
    watch, errors = Watch(), [ValueError(i) for i in range(6)]

    def fails(error, seconds):
        async def branch(_):
            watch.begin()
            try:
                await anyio.sleep(seconds)
            finally:
                watch.end()
                raise error

        return branch

    async def fails_twice(_):
        async with anyio.create_task_group() as group:
            group.start_soon(fails(errors[4], 1), 1)
            group.start_soon(fails(errors[5], 100), 1)

    inner = Step.parallel("inner", {"c": fails(errors[2], 3), "d": fails(errors[3], 4)})
    branches = {"a": fails(errors[0], 1), "b": fails(errors[1], 2), "n": inner, "g": fails_twice}
    result = await Pipeline([Step.parallel("s", branches)]).run(1)
    assert (watch.running, len(watch.started)) == (0, 6)
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    found = [leaf for leaf in leaves(caught.value) if isinstance(leaf, ValueError)]
    assert sorted(map(id, found)) == sorted(map(id, errors))
