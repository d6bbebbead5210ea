"""Job.queue_timeout: a branch that has not begun in time is rejected, without a token."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from anabranch import BranchFinished, ConfigurationError, Job, Retry, Status
from anabranch._host import current_host
from anabranch._open import open_scheduler
from anabranch.lanes._thread import io_lane
from tests.branches import Watch, fails, read, sleep, statuses, submit

REASON = "deadline: 5 s (queue_timeout=)"


async def test_a_branch_that_has_not_begun_in_time_is_rejected_at_once() -> None:
    watch = Watch()
    begun = anyio.current_time()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "long", watch.sleeps, "long", 60)
        submit(scheduler, "late", watch.sleeps, "late", queue_timeout=5)
        async for outcome in scheduler.outcomes:
            assert outcome.key == "late"
            assert anyio.current_time() - begun == pytest.approx(5)
            break
    assert (outcome.status, outcome.reason) == (Status.REJECTED, REASON)
    assert (outcome.attempts, outcome.value, outcome.error, outcome.ran_s) == (0, None, None, 0)
    assert outcome.queued_s == pytest.approx(5)
    assert watch.started == ["long"]


async def test_a_branch_that_begins_in_time_may_run_for_as_long_as_it_likes() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "first", sleep, 4)
        submit(scheduler, "a", sleep, 100, "done", queue_timeout=5)
        found = await read(scheduler)
    assert found["a"].value == "done"
    assert found["a"].queued_s == pytest.approx(4)


async def test_the_block_is_left_with_its_last_branch_and_not_with_the_last_moment() -> None:
    begun = anyio.current_time()
    async with open_scheduler(2) as scheduler:
        for number in range(10):
            submit(scheduler, str(number), sleep, 1, queue_timeout=1000)
    assert anyio.current_time() - begun == pytest.approx(5)


@pytest.mark.parametrize("moved", [0, 1])
async def test_the_block_is_left_too_where_the_last_hand_makes_way(moved: int) -> None:
    begun = anyio.current_time()
    async with open_scheduler(2) as scheduler:
        submit(scheduler, "a", sleep, 3, queue_timeout=1000)
        submit(scheduler, "b", sleep, 4, queue_timeout=1000)
        await anyio.sleep(1)
        scheduler.limiter.total_tokens = moved
    assert anyio.current_time() - begun == pytest.approx(4)


async def test_it_strikes_while_the_limit_is_0_and_the_block_can_be_left() -> None:
    async with open_scheduler(1) as scheduler:
        scheduler.limiter.total_tokens = 0
        for number in range(3):
            submit(scheduler, str(number), sleep, 1, queue_timeout=5 + number)
        found = await read(scheduler)
    assert statuses(found) == {"rejected": 3}
    assert [found[str(n)].queued_s for n in range(3)] == pytest.approx([5, 6, 7])


async def test_each_branch_has_a_moment_of_its_own() -> None:
    watch = Watch()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "long", watch.sleeps, "long", 10)
        for number in (9, 3, 12, 6):
            submit(scheduler, str(number), watch.sleeps, number, queue_timeout=number)
        found = await read(scheduler)
    assert [key for key in found if found[key].status is Status.REJECTED] == ["3", "6", "9"]
    assert watch.started == ["long", 12]


async def test_the_key_is_free_again() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "long", sleep, 60)
        submit(scheduler, "a", sleep, 1, queue_timeout=5)
        await anyio.sleep(6)
        submit(scheduler, "a", sleep, 1, queue_timeout=5)
        await anyio.sleep(6)
        assert scheduler.cancel("*") == 1


async def test_a_branch_that_was_cancelled_before_is_not_rejected_too() -> None:
    begun = anyio.current_time()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "long", sleep, 2)
        submit(scheduler, "a", sleep, 1, queue_timeout=50)
        await anyio.sleep(1)
        assert scheduler.cancel("a", reason="unwanted") == 1
        found = await read(scheduler)
    assert found["a"].reason == "unwanted"
    assert anyio.current_time() - begun == pytest.approx(2)


async def test_urgent_branches_may_starve_others_into_their_queue_timeout() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "running", sleep, 1)
        submit(scheduler, "low", sleep, 1, queue_timeout=5)
        for number in range(8):
            submit(scheduler, str(number), sleep, 1, priority=1, queue_timeout=20)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 9, "rejected": 1}
    assert found["low"].reason == REASON


async def test_an_observer_hears_of_the_end_alone() -> None:
    events: list[Any] = []
    async with open_scheduler(1, observer=events.append) as scheduler:
        submit(scheduler, "long", sleep, 10)
        submit(scheduler, "a", sleep, 1, queue_timeout=5)
    of_a = [event for event in events if getattr(event, "key", None) == "a"]
    assert [type(event).__name__ for event in of_a] == ["BranchQueued", "BranchFinished"]
    assert isinstance(of_a[1], BranchFinished)
    assert of_a[1].outcome.reason == REASON


async def test_a_rejection_counts_from_acceptance_and_once_begun_a_branch_may_wait_again() -> None:
    async with open_scheduler(1) as scheduler:
        retry = Retry(attempts=2, wait=30, wait_max=30, jitter=0)
        submit(scheduler, "a", fails, ValueError(), retry=retry, queue_timeout=5)
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts) == (Status.FAILED, 2)


async def test_what_is_fed_has_a_queue_timeout_too() -> None:
    async def jobs() -> AsyncIterator[Job]:
        for number in range(3):
            await anyio.sleep(1)
            yield Job(f"fed-{number}", sleep, (1,), queue_timeout=5)

    async with open_scheduler(1) as scheduler:
        scheduler.feed(jobs())
        scheduler.feed(Job(f"plain-{number}", sleep, (1,), queue_timeout=5) for number in range(3))
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 6}


async def test_many_that_begin_in_time_are_not_remembered() -> None:
    async with open_scheduler(10) as scheduler:
        jobs = (Job(str(number), anyio.sleep, (0,), queue_timeout=3600) for number in range(2000))
        scheduler.feed(jobs)
        kept = [len(scheduler.ledger.alarm._heap) async for _ in scheduler.outcomes]
    assert max(kept) < 200


@pytest.mark.slow
async def test_ten_thousand_are_rejected_at_once() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "long", sleep, 10, priority=9)
        for number in range(10_000):
            submit(scheduler, str(number), sleep, 1, queue_timeout=5, priority=number % 3)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 1, "rejected": 10_000}


async def test_an_outer_cancellation_comes_before_it() -> None:
    with anyio.move_on_after(2):
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "long", sleep, 10)
            submit(scheduler, "a", sleep, 1, queue_timeout=5)
    assert statuses(await read(scheduler)) == {"cancelled": 2}


@pytest.mark.real_clock
@pytest.mark.slow
async def test_a_plain_function_that_waits_for_a_thread_is_rejected_at_once() -> None:
    go = threading.Event()
    lane = io_lane(current_host())
    with lane.at_least(1):
        before, lane.limiter.total_tokens = lane.limiter.total_tokens, 1
        try:
            async with open_scheduler(5) as scheduler:
                submit(scheduler, "long", go.wait, 5)
                submit(scheduler, "a", go.wait, 5, queue_timeout=0.1)
                outcome = await anext(scheduler.outcomes)
                assert outcome.key == "a"
                assert (outcome.status, outcome.attempts) == (Status.REJECTED, 0)
                assert outcome.reason == "deadline: 0.1 s (queue_timeout=)"
                go.set()
        finally:
            lane.limiter.total_tokens = before
    assert lane.limiter.borrowed_tokens == 0


@pytest.mark.real_clock
@pytest.mark.slow
async def test_threads_that_take_from_the_queue_and_the_alarm_share_the_branches_out() -> None:
    calls = []

    def call(number: int) -> None:
        calls.append(number)
        time.sleep(0.0005)

    async with open_scheduler(3) as scheduler:
        for number in range(500):
            submit(scheduler, str(number), call, number, queue_timeout=0.03)
        found = await read(scheduler)
    counts = statuses(found)
    assert counts["succeeded"] + counts.get("rejected", 0) == 500
    assert len(calls) == len(set(calls)) == counts["succeeded"]
    assert {n for n in range(500) if found[str(n)].status is Status.SUCCEEDED} == set(calls)


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (0, "queue_timeout=0 is not above 0 seconds; give a positive number, or None"),
        (-1, "queue_timeout=-1 is not above 0 seconds"),
        (math.nan, "queue_timeout=nan is not above 0 seconds"),
        (True, r"queue_timeout=True \(bool\) is no number of seconds; give a positive number"),
        ("5", r"queue_timeout='5' \(str\) is no number of seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused(seconds: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Job 'a': {says}"):
        Job("a", sleep, queue_timeout=seconds)


async def test_a_queue_timeout_without_an_end_is_none() -> None:
    begun = anyio.current_time()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", sleep, 1, queue_timeout=math.inf)
        submit(scheduler, "b", sleep, 1, queue_timeout=math.inf)
    assert anyio.current_time() - begun == pytest.approx(2)
