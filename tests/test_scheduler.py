"""The scheduler: limits, order, outcomes, cancellation by name, bad input."""

import math
import time
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio

from anabranch._open import open_scheduler
from anabranch._work import Job
from anabranch.errors import (
    ConfigurationError,
    DuplicateKeyError,
    HostLoopError,
    SchedulerClosedError,
)
from tests.branches import Watch, fails, no_checkpoint, read, sleep, statuses, submit

LIMITERS = {
    "own": lambda: None,
    "anyio": lambda: anyio.CapacityLimiter(10),
    "host": lambda: (
        trio.CapacityLimiter(10) if trio.lowlevel.in_trio_task() else anyio.CapacityLimiter(10)
    ),
}


@asynccontextmanager
async def opened(kind: str, limit: int = 10):
    """Open a scheduler; give it and the limiter by which it is to be moved."""
    limiter = LIMITERS[kind]()
    if limiter is not None:
        limiter.total_tokens = limit
    async with open_scheduler(limit if limiter is None else limiter) as scheduler:
        yield scheduler, scheduler.limiter if limiter is None else limiter


# How many run at once ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_as_many_run_at_once_as_the_limit_says_and_never_more(limit):
    watch = Watch()
    async with open_scheduler(limit) as scheduler:
        for i in range(250):
            submit(scheduler, str(i), watch.sleeps, i, 0.01)
    assert watch.peak == limit
    assert len(watch.started) == 250


async def test_without_a_limit_all_run_at_once():
    watch = Watch()
    async with open_scheduler(math.inf) as scheduler:
        for i in range(300):
            submit(scheduler, str(i), watch.sleeps, i, 1)
    assert watch.peak == 300


async def test_a_scheduler_without_a_limit_has_a_limiter_that_may_be_set():
    watch = Watch()
    async with open_scheduler(math.inf) as scheduler:
        assert scheduler.limiter.total_tokens == math.inf
        scheduler.limiter.total_tokens = 3
        for i in range(30):
            submit(scheduler, str(i), watch.sleeps, i, 1)
    assert watch.peak == 3


@pytest.mark.parametrize("kind", LIMITERS)
@pytest.mark.parametrize("where", ["block", "branch"])
async def test_a_limit_moved_to_3_and_8_is_seen_in_every_start(kind, where):
    async with opened(kind) as (scheduler, limiter):
        watch = Watch(limiter)

        async def moves():
            await anyio.sleep(0.105)
            limiter.total_tokens = 3
            at_3 = len(watch.started)
            await anyio.sleep(0.1)
            assert watch.running <= 3 + (where == "branch")
            assert len(watch.started) > at_3
            limiter.total_tokens = 8
            await anyio.sleep(0.0001)
            assert watch.running == 8 - (where == "branch")  # which holds a token itself

        if where == "branch":
            submit(scheduler, "moves", moves, priority=1)
        for i in range(400):
            submit(scheduler, str(i), watch.sleeps, i, 0.02)
        if where == "block":
            await moves()
        found = await read(scheduler)
    assert len(found) == 400 + (where == "branch")
    assert set(statuses(found)) == {"succeeded"}
    assert watch.above == []
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("kind", LIMITERS)
async def test_a_limit_of_0_pauses_and_a_larger_one_resumes(kind):
    async with opened(kind, 4) as (scheduler, limiter):
        watch = Watch(limiter)
        for i in range(40):
            submit(scheduler, str(i), watch.sleeps, i, 0.01)
        await anyio.sleep(0.025)
        limiter.total_tokens = 0
        await anyio.sleep(0.02)
        started = len(watch.started)
        assert watch.running == 0
        await anyio.sleep(10)
        assert len(watch.started) == started
        limiter.total_tokens = 5
        await anyio.sleep(0.0001)
        assert watch.running == 5
    assert len(watch.started) == 40
    assert watch.above == []


async def test_a_limit_that_is_first_looked_at_while_all_tokens_are_out_grows_at_once():
    watch = Watch()
    async with open_scheduler(2) as scheduler:
        for i in range(20):
            submit(scheduler, str(i), watch.sleeps, i, 1)
        await anyio.sleep(0.5)
        assert watch.running == 2
        scheduler.limiter.total_tokens = 9
        await anyio.sleep(0.001)
        assert watch.running == 9


@pytest.mark.slow
async def test_a_limit_of_a_billion_costs_nothing():
    limiter = anyio.CapacityLimiter(0)
    async with open_scheduler(limiter) as scheduler:
        for i in range(5):
            submit(scheduler, str(i), sleep, 0.1)
        scheduler.feed(Job(f"fed {i}", sleep, (0.1,)) for i in range(5))
        await anyio.sleep(1)
        limiter.total_tokens = 10**9
        assert len(await read(scheduler)) == 10


async def test_two_schedulers_on_one_limiter_stay_under_it_together():
    limiter = anyio.CapacityLimiter(5)
    watch = Watch(limiter)
    async with open_scheduler(limiter) as first, open_scheduler(limiter) as second:
        for i in range(60):
            submit(first, str(i), watch.sleeps, "first", 0.01)
            submit(second, str(i), watch.sleeps, "second", 0.01)
        await anyio.sleep(0.1)
        assert {"first", "second"} <= set(watch.started)
    assert watch.peak == 5
    assert watch.above == []
    assert len(watch.started) == 120


async def test_two_schedulers_on_one_limiter_of_1_both_advance():
    limiter = anyio.CapacityLimiter(1)
    watch = Watch(limiter)
    async with open_scheduler(limiter) as first, open_scheduler(limiter) as second:
        for i in range(50):
            submit(first, str(i), watch.sleeps, "first", 0.003)
            submit(second, str(i), watch.sleeps, "second", 0.003)
        await anyio.sleep(0.1)
        share = watch.started.count("first") / len(watch.started)
        assert 0.3 < share < 0.7
    assert watch.peak == 1


@pytest.mark.real_clock
@pytest.mark.slow
async def test_two_schedulers_on_one_limiter_of_1_both_advance_without_a_checkpoint():
    import time

    limiter = anyio.CapacityLimiter(1)
    started = []

    async def busy(name):
        started.append(name)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    async with open_scheduler(limiter) as first, open_scheduler(limiter) as second:
        for i in range(50):
            submit(first, str(i), busy, "first")
            submit(second, str(i), busy, "second")
    assert 15 <= started[:50].count("first") <= 35


async def test_a_foreign_holder_of_every_token_does_not_hold_a_cancelled_queue():
    limiter = anyio.CapacityLimiter(2)
    for holder in "ab":
        limiter.acquire_on_behalf_of_nowait(holder)
    async with open_scheduler(limiter) as scheduler:
        for i in range(10):
            submit(scheduler, str(i), sleep, 1)
        await anyio.sleep(1)
        assert scheduler.cancel("*", reason="enough") == 10
        found = await read(scheduler)
        before = anyio.current_time()
    assert anyio.current_time() == before
    assert {outcome.reason for outcome in found.values()} == {"enough"}
    for holder in "ab":
        limiter.release_on_behalf_of(holder)


async def test_a_job_submitted_right_after_the_queue_was_cancelled_still_runs():
    limiter = anyio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("foreign")
    async with open_scheduler(limiter) as scheduler:
        submit(scheduler, "old", sleep, 1)
        await anyio.sleep(1)
        scheduler.cancel("old")
        submit(scheduler, "new", sleep, 1)
        await anyio.sleep(1)
        limiter.release_on_behalf_of("foreign")
        found = await read(scheduler)
    assert statuses(found) == {"cancelled": 1, "succeeded": 1}


@pytest.mark.parametrize("kind", ["anyio", "host"])
@pytest.mark.real_clock
@pytest.mark.slow
async def test_someone_elses_waiter_gets_a_token_within_10_ms(kind):
    waits = []
    async with opened(kind) as (scheduler, limiter):
        for i in range(10_000):
            submit(scheduler, str(i), anyio.lowlevel.checkpoint)
        while len(waits) < 20 and scheduler.ledger.queue:
            # The loop is always busy, so this leaves out what others on the machine take.
            before = time.thread_time()
            async with limiter:
                waits.append(time.thread_time() - before)
            await anyio.lowlevel.checkpoint()
    assert len(waits) > 5
    assert sorted(waits)[len(waits) * 3 // 4] < 0.010


# In what order -------------------------------------------------------------------------------


async def test_an_urgent_job_overtakes_those_that_are_queued():
    watch = Watch()
    async with open_scheduler(1) as scheduler:
        for i in range(3):
            submit(scheduler, f"low {i}", watch.sleeps, f"low {i}", 0.01)
        await anyio.sleep(0.001)
        submit(scheduler, "high", watch.sleeps, "high", 0.01, priority=7)
        submit(scheduler, "lower", watch.sleeps, "lower", 0.01, priority=-1)
    assert watch.started == ["low 0", "high", "low 1", "low 2", "lower"]


async def test_equals_start_in_the_order_in_which_they_were_submitted():
    watch = Watch()
    async with open_scheduler(3) as scheduler:
        for i in range(50):
            submit(scheduler, str(i), watch.sleeps, i, 0.01 if i % 3 else 0)
    if not trio.lowlevel.in_trio_task():  # trio shuffles who of a batch goes first, on purpose
        assert watch.started == sorted(watch.started)
    assert all(abs(at - name) < 3 for at, name in enumerate(watch.started))


async def test_a_branch_may_submit_more_while_the_block_is_being_left():
    seen = []

    async def grows(depth):
        await anyio.sleep(0.01)
        seen.append(depth)
        if depth < 20:
            submit(scheduler, f"depth {depth + 1}", grows, depth + 1)

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "depth 0", grows, 0)
    assert seen == list(range(21))


# What comes out ------------------------------------------------------------------------------


async def test_an_outcome_tells_value_times_and_place():
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "first", sleep, 1, "x")
        submit(scheduler, "second", sleep, 2, "y")
        found = await read(scheduler)
    first, second = found["first"], found["second"]
    assert (first.value, first.status, first.attempts, first.order) == ("x", "succeeded", 1, 0)
    assert (second.value, second.order) == ("y", 1)
    assert first.queued_s == pytest.approx(0, abs=0.01)
    assert second.queued_s == pytest.approx(1, abs=0.01)
    assert second.ran_s == pytest.approx(2, abs=0.01)


async def test_a_branchs_error_is_data_and_its_siblings_finish():
    error = ValueError("no")
    async with open_scheduler(2) as scheduler:
        submit(scheduler, "bad", fails, error)
        submit(scheduler, "good", sleep, 1, "fine")
        submit(scheduler, "type", sleep)
        found = await read(scheduler)
    assert found["bad"].error is error
    assert found["bad"].status == "failed"
    assert found["good"].value == "fine"
    assert isinstance(found["type"].error, TypeError)


async def test_an_exception_group_of_a_branch_is_kept_as_it_is():
    group = ExceptionGroup("two", [ValueError(1), KeyError(2)])
    async with open_scheduler(2) as scheduler:
        submit(scheduler, "bad", fails, group)
        found = await read(scheduler)
    assert found["bad"].error is group


async def test_a_key_may_be_used_again_once_its_branch_has_ended():
    async with open_scheduler(1) as scheduler:
        for turn in range(3):
            submit(scheduler, "same", sleep, 0.01, turn)
            assert [o.value async for o in scheduler.outcomes] == [turn]


# Cancelled by name ---------------------------------------------------------------------------


async def test_a_glob_cancels_queued_and_running_branches_and_nothing_else():
    watch = Watch()
    async with open_scheduler(4) as scheduler:
        for i in range(4):
            submit(scheduler, f"low_{i}", watch.sleeps, f"low_{i}", 10)
            submit(scheduler, f"high_{i}", watch.sleeps, f"high_{i}", 10)
        await anyio.sleep(1)
        assert scheduler.cancel("low_*", reason="not needed") == 4
        found = await read(scheduler)
    low = [found[f"low_{i}"] for i in range(4)]
    assert [o.status for o in low] == ["cancelled"] * 4
    assert [o.reason for o in low] == ["not needed"] * 4
    assert [o.attempts for o in low] == [1, 1, 0, 0]
    assert [o.ran_s for o in low] == pytest.approx([1, 1, 0, 0], abs=0.01)
    assert [o.queued_s for o in low][2:] == pytest.approx([1, 1], abs=0.01)
    assert all(found[f"high_{i}"].status == "succeeded" for i in range(4))
    assert anyio.current_time() is not None
    assert watch.started.count("low_2") == 0


async def test_a_predicate_chooses_what_is_cancelled():
    async with open_scheduler(2) as scheduler:
        for i in range(6):
            submit(scheduler, str(i), sleep, 1)
        await anyio.sleep(0.1)
        assert scheduler.cancel(lambda key: int(key) % 2 == 1) == 3
        found = await read(scheduler)
    assert {key for key, o in found.items() if o.status == "cancelled"} == {"1", "3", "5"}


async def test_a_cancelled_branch_frees_its_token_at_once():
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "long", sleep, 1000)
        submit(scheduler, "next", sleep, 1)
        await anyio.sleep(1)
        before = anyio.current_time()
        scheduler.cancel("long")
        await read(scheduler)
        assert anyio.current_time() - before == pytest.approx(1, abs=0.01)


async def test_a_branch_may_cancel_itself_and_all_others():
    async def ends_it():
        await anyio.sleep(0.1)
        scheduler.cancel("*", reason="the end")
        await anyio.sleep(1)

    async with open_scheduler(3) as scheduler:
        submit(scheduler, "ends", ends_it)
        for i in range(10):
            submit(scheduler, str(i), sleep, 5)
        found = await read(scheduler)
    assert statuses(found) == {"cancelled": 11}


async def test_cancelling_twice_counts_once():
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", sleep, 5)
        submit(scheduler, "b", sleep, 5)
        await anyio.sleep(1)
        assert scheduler.cancel("*") == 2
        assert scheduler.cancel("*") == 0
        await anyio.sleep(1)
        assert scheduler.cancel("*") == 0


async def test_a_cancelled_queue_is_forgotten_at_once():
    async with open_scheduler(1) as scheduler:
        for i in range(1000):
            submit(scheduler, str(i), sleep, 1)
        await anyio.sleep(0.5)
        scheduler.cancel("*")
        assert len(scheduler.ledger.queue) == 0
        assert len(await read(scheduler)) == 1000


async def test_a_stop_gives_every_job_its_outcome_and_the_reason():
    async with open_scheduler(2) as scheduler:
        for i in range(10):
            submit(scheduler, str(i), sleep, 5)
        await anyio.sleep(1)
        scheduler.stop("budget")
        with pytest.raises(SchedulerClosedError, match="budget"):
            submit(scheduler, "late", sleep, 1)
    found = await read(scheduler)
    assert len(found) == 10
    assert {(str(o.status), o.reason) for o in found.values()} == {("cancelled", "budget")}


# Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", [0, -1, 1.5, True, False, math.nan, "10", None, -math.inf, [3], 10.0, 3 + 0j]
)
async def test_a_limit_that_cannot_be_meant_is_refused(limit):
    with pytest.raises(ConfigurationError, match=r"open_scheduler: limit="):
        open_scheduler(limit)


async def test_an_observer_that_cannot_be_called_is_refused():
    with pytest.raises(ConfigurationError, match="observer"):
        open_scheduler(1, observer="print")


async def test_a_key_that_is_queued_or_running_is_refused():
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", sleep, 1)
        submit(scheduler, "b", sleep, 1)
        await anyio.sleep(0.5)
        for key in "ab":
            with pytest.raises(DuplicateKeyError, match=repr(key)):
                submit(scheduler, key, sleep, 1)
        assert len(await read(scheduler)) == 2


async def test_a_scheduler_takes_nothing_before_its_block_and_after_it():
    scheduler = open_scheduler(1)
    with pytest.raises(SchedulerClosedError, match="not entered"):
        submit(scheduler, "a", sleep, 1)
    async with scheduler:
        pass
    with pytest.raises(SchedulerClosedError, match="left"):
        submit(scheduler, "a", sleep, 1)
    with pytest.raises(SchedulerClosedError, match="left"):
        scheduler.feed([])
    with pytest.raises(SchedulerClosedError):
        await scheduler.__aenter__()


@pytest.mark.parametrize("job", [None, "job", sleep, ("key", sleep)])
async def test_what_is_no_job_is_refused(job):
    async with open_scheduler(1) as scheduler:
        with pytest.raises(ConfigurationError, match="is no Job"):
            scheduler.submit(job)


@pytest.mark.parametrize("lane", ["io", "cpu"])
async def test_an_async_function_in_a_lane_of_threads_or_processes_is_refused(lane):
    async with open_scheduler(1) as scheduler:
        with pytest.raises(ConfigurationError, match="async function"):
            submit(scheduler, "a", sleep, 1, lane=lane)


@pytest.mark.parametrize("which", ["", 3, None, b"x"])
async def test_what_chooses_no_branch_is_refused(which):
    async with open_scheduler(1) as scheduler:
        with pytest.raises(ConfigurationError, match="chooses no branch"):
            scheduler.cancel(which)


def test_a_scheduler_needs_a_loop():
    block = open_scheduler(1).__aenter__()
    with pytest.raises(HostLoopError, match="no loop runs here"):
        block.send(None)


async def test_an_empty_block_ends_at_once():
    async with open_scheduler(1) as scheduler:
        assert await read(scheduler) == {}
    assert await read(scheduler) == {}


async def test_a_lane_of_the_users_own_runs_the_call():
    class Twice:
        async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
            await anyio.sleep(1)
            return fn(*args, **kwargs) * 2

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", lambda x: x + 1, 20, lane=Twice())
        submit(scheduler, "b", no_checkpoint, lane="inline")
        found = await read(scheduler)
    assert found["a"].value == 42
    assert found["b"].value is None
