"""Hands: branch after branch in one task, each on its own terms."""

import asyncio
import contextvars
import statistics
import time

import anyio
import pytest
import trio

from anabranch._open import open_scheduler
from anabranch.errors import BranchTimedOutError
from tests.branches import Watch, fails, no_checkpoint, read, sleep, statuses, submit

VAR = contextvars.ContextVar("var", default="unset")


# Timeouts ------------------------------------------------------------------------------------


async def test_a_branchs_timeout_ends_it_alone():
    async with open_scheduler(2) as scheduler:
        submit(scheduler, "slow", sleep, 100, timeout=2)
        for i in range(5):
            submit(scheduler, str(i), sleep, 1, timeout=2)
        found = await read(scheduler)
    slow = found.pop("slow")
    assert slow.status == "timed_out"
    assert slow.ran_s == pytest.approx(2, abs=0.01)
    assert "2 s" in slow.reason
    assert isinstance(slow.error, BranchTimedOutError)
    assert isinstance(slow.error, TimeoutError)
    assert statuses(found) == {"succeeded": 5}


async def test_a_timeout_counts_from_the_start_and_not_from_queueing():
    async with open_scheduler(1) as scheduler:
        for i in range(5):
            submit(scheduler, str(i), sleep, 1, timeout=1.5)
        assert statuses(await read(scheduler)) == {"succeeded": 5}


async def test_the_lease_is_renewed_after_each_that_used_it_up():
    async with open_scheduler(1) as scheduler:
        for i in range(30):
            submit(scheduler, str(i), sleep, 2 if i % 2 else 0.5, timeout=1)
        found = await read(scheduler)
    for i in range(30):
        assert found[str(i)].status == ("timed_out" if i % 2 else "succeeded")


async def test_an_old_deadline_does_not_strike_the_next_branch():
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "short", sleep, 0.9, timeout=1)
        submit(scheduler, "long", sleep, 100)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 2}


async def test_an_error_in_finally_at_a_timeout_hides_neither():
    async def clumsy():
        try:
            await anyio.sleep(100)
        finally:
            raise ValueError("in finally")

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", clumsy, timeout=1)
        submit(scheduler, "b", sleep, 1)
        found = await read(scheduler)
    assert found["a"].status == "timed_out"
    assert "1 s" in found["a"].reason
    assert "in finally" in str(found["a"].error)
    assert found["b"].status == "succeeded"


async def test_a_branch_that_swallows_its_timeout_has_succeeded():
    async def stubborn():
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            return "stayed"

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", stubborn, timeout=1)
        submit(scheduler, "b", sleep, 1, "next")
        found = await read(scheduler)
    assert (found["a"].status, found["a"].value, found["a"].reason) == ("succeeded", "stayed", "")
    assert found["b"].value == "next"


async def test_a_branchs_own_timeout_error_is_an_error():
    async def own():
        with anyio.fail_after(1):
            await anyio.sleep(5)

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", own, timeout=3)
        submit(scheduler, "b", own)
        found = await read(scheduler)
    assert statuses(found) == {"failed": 2}
    assert all(type(o.error) is TimeoutError for o in found.values())


@pytest.mark.real_clock
async def test_a_plain_function_inline_that_is_late_has_succeeded_all_the_same():
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "late", time.sleep, 0.05, lane="inline", timeout=0.01)
        submit(scheduler, "next", sleep, 0.001, timeout=5)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 2}


async def test_a_plain_function_inline_runs_where_it_stands():
    async with open_scheduler(3) as scheduler:
        submit(scheduler, "a", lambda x, y: x * y, 6, kwargs={"y": 7}, lane="inline")
        submit(scheduler, "b", lambda: sleep(1, "awaited"), lane="inline")
        submit(scheduler, "c", int, "no number", lane="inline")
        found = await read(scheduler)
    assert found["a"].value == 42
    assert found["b"].value == "awaited"
    assert isinstance(found["c"].error, ValueError)


# Cancelled by name ---------------------------------------------------------------------------


async def test_the_next_branch_is_not_hit_by_the_cancellation_of_the_last():
    async with open_scheduler(1) as scheduler:
        for i in range(20):
            submit(scheduler, str(i), sleep, 1)
        for i in range(0, 20, 2):
            await anyio.sleep(0.5)
            scheduler.cancel(str(i))
            await anyio.sleep(1)
        found = await read(scheduler)
    assert statuses(found) == {"cancelled": 10, "succeeded": 10}


async def test_a_branch_that_ends_before_its_cancellation_lands_has_succeeded():
    async def ends():
        await anyio.sleep(1)
        assert scheduler.cancel("a", reason="late") == 1
        return "done"

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", ends)
        submit(scheduler, "b", sleep, 1)
        found = await read(scheduler)
    assert (found["a"].status, found["a"].value, found["a"].reason) == ("succeeded", "done", "")
    assert found["b"].status == "succeeded"


async def test_a_cancel_between_two_branches_hits_whom_it_names():
    async with open_scheduler(1) as scheduler:

        async def cancels():
            scheduler.cancel("b", reason="before its start")

        submit(scheduler, "a", cancels)
        submit(scheduler, "b", sleep, 1)
        submit(scheduler, "c", sleep, 1)
        found = await read(scheduler)
    assert (found["b"].status, found["b"].attempts) == ("cancelled", 0)
    assert found["c"].status == "succeeded"


@pytest.mark.asyncio_only
async def test_a_branch_that_cancels_its_own_task_ends_alone():
    async def suicide():
        asyncio.current_task().cancel()
        await asyncio.sleep(1)

    async def raises():
        raise asyncio.CancelledError

    async with open_scheduler(2) as scheduler:
        for i in range(6):
            submit(scheduler, f"task {i}", suicide)
            submit(scheduler, f"raise {i}", raises)
            submit(scheduler, str(i), sleep, 1)
        found = await read(scheduler)
    assert statuses(found) == {"cancelled": 12, "succeeded": 6}
    own = {
        "task": "its own task was cancelled",
        "raise": "it raised CancelledError, and nobody had cancelled it",
    }
    assert all(o.reason == own.get(o.key.split()[0], "") for o in found.values())


@pytest.mark.asyncio_only
async def test_asyncios_own_timeouts_and_tasks_work_within_a_branch():
    async def branch():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 1)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(1, i)) for i in range(3)]
        return [task.result() for task in tasks]

    async with open_scheduler(2) as scheduler:
        for i in range(5):
            submit(scheduler, str(i), branch)
        found = await read(scheduler)
    assert all(o.value == [0, 1, 2] for o in found.values()), found


async def test_scopes_and_nurseries_work_within_a_branch():
    async def branch():
        with anyio.move_on_after(1) as scope:
            await anyio.sleep(5)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(anyio.sleep, 1)
        return scope.cancelled_caught

    async with open_scheduler(2) as scheduler:
        for i in range(6):
            submit(scheduler, str(i), branch)
        found = await read(scheduler)
    assert all(o.value is True for o in found.values()), found


async def test_tasks_are_named_after_the_branch_that_they_run():
    async def name():
        await anyio.sleep(0.1)
        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_task().name
        return asyncio.current_task().get_name()

    async with open_scheduler(2) as scheduler:
        for i in range(6):
            submit(scheduler, f"branch {i}", name)
        found = await read(scheduler)
    assert all(o.value == key for key, o in found.items())


# Contextvars ---------------------------------------------------------------------------------


class Hostile:
    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = None


async def test_what_a_branch_sets_no_other_sees():
    async def branch(value):
        seen = VAR.get()
        VAR.set(value)
        await anyio.sleep(0.01)
        assert VAR.get() is value
        return seen

    VAR.set("outside")
    equal = ([1], [1])
    values = [Hostile(), *equal, Hostile(), "outside", *(object() for _ in range(20))]
    async with open_scheduler(3) as scheduler:
        for i, value in enumerate(values):
            submit(scheduler, str(i), branch, value)
        found = await read(scheduler)
    assert {o.value for o in found.values()} == {"outside"}
    assert VAR.get() == "outside"


async def test_on_the_hot_path_too_a_branch_has_its_own():
    from anabranch._branch import ASYNC, Branch
    from anabranch._scheduler import Scheduler

    async def branch(value):
        seen = VAR.get()
        VAR.set(value)
        await anyio.sleep(0)
        assert VAR.get() is value
        return seen

    VAR.set("outside")
    values = [Hostile() for _ in range(50)]
    branches = [Branch(str(i), ASYNC, branch, (value,), 0.0) for i, value in enumerate(values)]
    await Scheduler([3], reads=False, leases=False).run_all(branches)
    assert {b.value for b in branches} == {"outside"}
    assert VAR.get() == "outside"


async def test_a_branch_sees_what_was_set_when_it_was_submitted():
    async def branch():
        await anyio.sleep(0.01)
        return VAR.get()

    async with open_scheduler(1) as scheduler:
        for i in range(5):
            VAR.set(i)
            submit(scheduler, str(i), branch)
        VAR.set("later")
        found = await read(scheduler)
    assert [found[str(i)].value for i in range(5)] == [0, 1, 2, 3, 4]


async def test_children_of_a_branch_inherit_its_context():
    async def child(seen):
        seen.append(VAR.get())

    async def branch(i):
        VAR.set(i)
        seen = []
        async with anyio.create_task_group() as group:
            group.start_soon(child, seen)
        return seen

    async with open_scheduler(2) as scheduler:
        for i in range(5):
            submit(scheduler, str(i), branch, i)
        found = await read(scheduler)
    assert all(o.value == [int(key)] for key, o in found.items())


# Fairness ------------------------------------------------------------------------------------


async def lag_while(run):
    """Measure for how long the loop does not go round while something runs.

    In seconds of this thread's own processor time: other processes must not count.
    """
    lags = []

    async def measure():
        while True:
            before = time.thread_time()
            await anyio.lowlevel.checkpoint()
            lags.append(time.thread_time() - before)

    async with anyio.create_task_group() as group:
        group.start_soon(measure)
        await anyio.sleep(0.01)
        lags.clear()
        await run()
        group.cancel_scope.cancel()
    return lags


def spin(seconds=0.0001):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def busy():
    spin()


@pytest.mark.real_clock
@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 10, 1000])
@pytest.mark.parametrize("schedulers", [1, 4])
async def test_branches_without_a_checkpoint_hold_the_loop_for_less_than_5_ms(limit, schedulers):
    async def one():
        async with open_scheduler(limit) as scheduler:
            for i in range(1500 // schedulers):
                submit(scheduler, str(i), busy)

    async def several():
        async with anyio.create_task_group() as group:
            for _ in range(schedulers):
                group.start_soon(one)

    lags = await lag_while(several)
    assert len(lags) > 20
    assert statistics.median(lags) < 0.003
    assert statistics.quantiles(lags, n=10)[-1] < 0.005


@pytest.mark.real_clock
@pytest.mark.slow
async def test_plain_functions_inline_hold_the_loop_for_less_than_5_ms():
    async def run():
        async with open_scheduler(10) as scheduler:
            for i in range(1000):
                submit(scheduler, str(i), spin, lane="inline")

    assert statistics.quantiles(await lag_while(run), n=10)[-1] < 0.005


async def test_branches_without_a_checkpoint_let_others_run():
    watch = Watch()
    async with open_scheduler(5) as scheduler:
        for i in range(100):
            submit(scheduler, f"none {i}", no_checkpoint)
            submit(scheduler, f"sleeps {i}", watch.sleeps, i, 0.01)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 200}
    assert watch.peak == 5


async def test_a_failure_without_a_checkpoint_is_like_any_other():
    async def raises():
        raise KeyError("x")

    async with open_scheduler(1) as scheduler:
        for i in range(10):
            submit(scheduler, str(i), raises)
            submit(scheduler, f"later {i}", fails, ValueError(i))
        found = await read(scheduler)
    assert statuses(found) == {"failed": 20}
