"""How a scheduler ends: cancelled from outside, by its block, by an exit in a branch."""

import asyncio
import time

import anyio
import pytest
import trio

from anabranch._open import open_scheduler
from tests.branches import Watch, read, sleep, statuses, submit


async def fan(watch, count=20, limit=4, seconds=1.0):
    """Run branches until somebody ends it."""
    async with open_scheduler(limit) as scheduler:
        watch.scheduler = scheduler
        for i in range(count):
            submit(scheduler, str(i), watch.sleeps, i, seconds)


async def ended(watch, count=20):
    """See that nothing runs, nothing starts, and each job has one outcome."""
    assert watch.running == 0
    started = len(watch.started)
    await anyio.sleep(100)
    assert len(watch.started) == started
    found = await read(watch.scheduler)
    assert len(found) == count
    return found


# From outside --------------------------------------------------------------------------------


async def test_a_scope_around_it_ends_it_at_once():
    watch = Watch()
    before = anyio.current_time()
    with anyio.move_on_after(2.5) as scope:
        await fan(watch)
    assert scope.cancelled_caught
    assert anyio.current_time() - before == pytest.approx(2.5, abs=0.01)
    found = await ended(watch)
    assert statuses(found) == {"succeeded": 8, "cancelled": 12}
    assert {o.reason for o in found.values() if o.status == "cancelled"} == {"outer"}


async def test_a_scope_within_the_block_ends_the_block_alone():
    watch = Watch()
    async with open_scheduler(4) as scheduler:
        watch.scheduler = scheduler
        for i in range(20):
            submit(scheduler, str(i), watch.sleeps, i, 1)
        with anyio.move_on_after(2.5):
            await read(scheduler)
    assert len(await read(scheduler)) + 8 == 20
    assert len(watch.started) == 20


async def test_fail_after_raises_its_own_error():
    watch = Watch()
    with pytest.raises(TimeoutError):
        with anyio.fail_after(1.5):
            await fan(watch)
    await ended(watch)


@pytest.mark.trio_only
async def test_trios_own_scopes_end_it():
    watch = Watch()
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(1.5):
            await fan(watch)
    await ended(watch)
    with trio.move_on_after(1.5) as scope:
        await fan(watch)
    assert scope.cancelled_caught
    await ended(watch)


@pytest.mark.asyncio_only
async def test_asyncio_timeout_ends_it_at_once():
    watch = Watch()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await fan(watch)
    assert asyncio.current_task().cancelling() == 0
    found = await ended(watch)
    assert statuses(found) == {"succeeded": 8, "cancelled": 12}


@pytest.mark.asyncio_only
async def test_asyncio_wait_for_ends_it_at_once():
    watch = Watch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(fan(watch), 2.5)
    await ended(watch)


@pytest.mark.asyncio_only
@pytest.mark.parametrize("moment", [0, 0.5, 1, 1.5])
async def test_task_cancel_ends_it_at_once(moment):
    watch = Watch()
    task = asyncio.create_task(fan(watch))
    await asyncio.sleep(moment)
    task.cancel("please")
    with pytest.raises(asyncio.CancelledError):
        await task
    if hasattr(watch, "scheduler"):
        await ended(watch)


@pytest.mark.asyncio_only
async def test_task_cancel_ends_a_task_that_reads_outcomes():
    watch = Watch()

    async def reads():
        async with open_scheduler(2) as scheduler:
            watch.scheduler = scheduler
            for i in range(10):
                submit(scheduler, str(i), watch.sleeps, i, 1)
            await read(scheduler)

    task = asyncio.create_task(reads())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended(watch, 10)


async def test_a_cancellation_at_any_moment_leaves_one_outcome_for_each_job(all_home):
    for moment in range(40):
        watch = Watch()
        limiter = all_home(anyio.CapacityLimiter(3))
        with anyio.move_on_after(moment / 10_000):
            async with open_scheduler(limiter) as scheduler:
                watch.scheduler = scheduler
                for i in range(12):
                    submit(scheduler, str(i), watch.sleeps, i, 0.001 * (i % 3))
        await ended(watch, 12)
        assert limiter.borrowed_tokens == 0


async def test_a_cancelled_scope_runs_nothing_past_its_first_checkpoint():
    passed = []

    async def branch():
        await anyio.lowlevel.checkpoint()
        passed.append(1)

    with anyio.CancelScope() as scope:
        scope.cancel()
        async with open_scheduler(2) as scheduler:
            for i in range(5):
                submit(scheduler, str(i), branch)
    assert passed == []
    assert statuses(await read(scheduler)) == {"cancelled": 5}


async def test_a_branch_that_swallows_the_cancellation_is_followed_by_no_other():
    started = []

    async def stubborn(i):
        started.append(i)
        try:
            await anyio.sleep(10)
        except anyio.get_cancelled_exc_class():
            return "stayed"

    with anyio.move_on_after(1) as scope:
        async with open_scheduler(2) as scheduler:
            for i in range(10):
                submit(scheduler, str(i), stubborn, i)
    assert scope.cancelled_caught
    assert sorted(started) == [0, 1]
    found = await read(scheduler)
    assert statuses(found) == {"succeeded": 2, "cancelled": 8}
    assert found["0"].value == "stayed"


async def test_an_error_in_finally_while_cancelled_is_kept_and_the_cancellation_goes_on():
    started = []

    async def clumsy(i):
        started.append(i)
        try:
            await anyio.sleep(10)
        finally:
            raise ValueError(i)

    with anyio.move_on_after(1) as scope:
        async with open_scheduler(2) as scheduler:
            for i in range(10):
                submit(scheduler, str(i), clumsy, i)
    assert scope.cancelled_caught
    assert sorted(started) == [0, 1]
    found = await read(scheduler)
    assert statuses(found) == {"cancelled": 10}
    assert sorted(str(found[key].error) for key in "01") == ["0", "1"]
    assert {found[key].reason for key in "01"} == {"outer"}


@pytest.mark.asyncio_only
async def test_an_error_in_finally_does_not_swallow_asyncios_timeout():
    started = []

    async def clumsy(i):
        started.append(i)
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError(i)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            async with open_scheduler(2) as scheduler:
                for i in range(10):
                    submit(scheduler, str(i), clumsy, i)
    assert sorted(started) == [0, 1]
    assert statuses(await read(scheduler)) == {"cancelled": 10}


@pytest.mark.trio_only
async def test_a_group_of_a_cancellation_and_errors_is_parted():
    async def mixed():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 100)
            try:
                await trio.sleep(100)
            finally:
                raise ValueError("kept")

    with trio.move_on_after(1) as scope:
        async with open_scheduler(2) as scheduler:
            for i in range(4):
                submit(scheduler, str(i), mixed)
    assert scope.cancelled_caught
    found = await read(scheduler)
    assert statuses(found) == {"cancelled": 4}
    (kept,) = found["0"].error.exceptions
    assert str(kept) == "kept"


async def test_a_cancelled_branch_of_children_keeps_what_they_raised():
    async def mixed():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            try:
                await anyio.sleep(100)
            finally:
                raise ValueError("kept")

    async with open_scheduler(2) as scheduler:
        submit(scheduler, "a", mixed)
        submit(scheduler, "b", sleep, 2, "fine")
        await anyio.sleep(1)
        scheduler.cancel("a", reason="by name")
        found = await read(scheduler)
    assert (found["a"].status, found["a"].reason) == ("cancelled", "by name")
    assert [str(e) for e in found["a"].error.exceptions] == ["kept"]
    assert found["b"].value == "fine"


@pytest.mark.real_clock
@pytest.mark.slow
async def test_waiting_for_a_shielded_child_of_a_cancelled_step_costs_no_processor_time():
    async def shielded():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.6)

    async def branch():
        async with anyio.create_task_group() as group:
            group.start_soon(shielded)

    with anyio.move_on_after(0.05):
        async with open_scheduler(3) as scheduler:
            for i in range(3):
                submit(scheduler, str(i), branch)
            try:
                await anyio.sleep(10)
            finally:
                before, at = time.thread_time(), time.perf_counter()
    share = (time.thread_time() - before) / (time.perf_counter() - at)
    assert share < 0.1, f"{share:.0%} of the processor"


# By the block --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyboardInterrupt(), SystemExit(3), ExceptionGroup("g", [ValueError(1)])],
    ids=repr,
)
async def test_what_the_block_raises_cancels_all_and_comes_out_as_itself(error):
    watch = Watch()
    before = anyio.current_time()
    with pytest.raises(type(error)) as caught:
        async with open_scheduler(2) as scheduler:
            watch.scheduler = scheduler
            for i in range(10):
                submit(scheduler, str(i), watch.sleeps, i, 10)
            await anyio.sleep(1)
            raise error
    assert caught.value is error
    assert anyio.current_time() - before == pytest.approx(1, abs=0.01)
    found = await ended(watch, 10)
    assert statuses(found) == {"cancelled": 10}
    assert all("the block raised" in o.reason for o in found.values())


async def test_an_error_of_the_block_is_not_lost_to_a_cancellation_from_outside():
    async def slow_end():
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)

    with pytest.raises(ValueError, match="mine"):
        with anyio.move_on_after(2):
            async with open_scheduler(2) as scheduler:
                submit(scheduler, "a", slow_end)
                await anyio.sleep(1)
                raise ValueError("mine")
    assert statuses(await read(scheduler)) == {"cancelled": 1}


async def test_leaving_the_block_waits_for_every_branch():
    watch = Watch()
    async with open_scheduler(3) as scheduler:
        watch.scheduler = scheduler
        for i in range(10):
            submit(scheduler, str(i), watch.sleeps, i, 1)
    assert len(watch.started) == 10
    assert statuses(await ended(watch, 10)) == {"succeeded": 10}


# By an exit in a branch ----------------------------------------------------------------------


def loops():
    # asyncio's loop itself ends with an exit that any of its tasks raises, so run whole loops.
    return pytest.mark.parametrize("run", [asyncio.run, trio_run], ids=["asyncio", "trio"])


def trio_run(coroutine):
    async def main():
        return await coroutine

    return trio.run(main)


@loops()
@pytest.mark.parametrize("error", [KeyboardInterrupt("k"), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("limit", [1, 3])
def test_an_exit_in_a_branch_arrives_as_itself(error, limit, run):
    watch = Watch()

    async def exits():
        await anyio.sleep(0.01)  # a task that asyncio ends before its first step warns
        raise error

    async def main():
        async with open_scheduler(limit) as scheduler:
            watch.scheduler = scheduler
            submit(scheduler, "exit", exits)
            for i in range(10):
                submit(scheduler, str(i), watch.sleeps, i, 10)

    with pytest.raises(type(error)) as caught:
        run(main())
    assert caught.value is error
    assert watch.running == 0
    ended = [branch.outcome(0) for branch in watch.scheduler.ledger.ended]
    found = {outcome.key: outcome for outcome in ended}
    assert statuses(found) == {"failed": 1, "cancelled": 10}
    assert found["exit"].error is error
