"""The dispatcher waits in line for tokens, and loses no work when it is sent away meanwhile."""

import anyio

from anabranch._host import current_host
from anabranch._open import open_scheduler
from tests.branches import no_checkpoint, read, statuses, submit


async def test_a_branch_that_comes_while_the_dispatcher_is_sent_away_gets_a_token(all_home):
    limiter = all_home(current_host().runtime.CapacityLimiter(1))
    other = object()
    with anyio.fail_after(10):
        async with open_scheduler(limiter) as scheduler:
            limiter.acquire_on_behalf_of_nowait(other)
            submit(scheduler, "first", no_checkpoint)
            await anyio.wait_all_tasks_blocked()
            assert scheduler.ledger.dispatching is not None  # it waits in line for a token
            assert scheduler.cancel("first") == 1  # nothing is queued now, so it is sent away,
            submit(scheduler, "second", no_checkpoint)  # and has not heard of it yet
            assert scheduler.ledger.dispatching.cancel_called
            await anyio.wait_all_tasks_blocked()
            limiter.release_on_behalf_of(other)
            found = await read(scheduler)
    assert statuses(found) == {"cancelled": 1, "succeeded": 1}


async def test_a_dispatcher_that_was_sent_away_for_good_leaves_nothing(all_home):
    limiter = all_home(current_host().runtime.CapacityLimiter(1))
    other = object()
    with anyio.fail_after(10):
        async with open_scheduler(limiter) as scheduler:
            limiter.acquire_on_behalf_of_nowait(other)
            submit(scheduler, "first", no_checkpoint)
            await anyio.wait_all_tasks_blocked()
            scheduler.cancel("first")
            await anyio.wait_all_tasks_blocked()
            assert scheduler.ledger.dispatching is None
            assert scheduler.ledger.parked is None
            assert limiter.statistics().tasks_waiting == 0
    limiter.release_on_behalf_of(other)


async def test_hundreds_of_branches_that_sleep_begin_within_some_turns_of_the_loop():
    begun, turns = [], 0

    async def sleeps():
        begun.append(turns)
        await anyio.sleep(1)

    async with open_scheduler(300) as scheduler:
        for number in range(300):
            submit(scheduler, str(number), sleeps)
        while len(begun) < 300:
            await anyio.lowlevel.checkpoint()
            turns += 1
        assert turns < 40, "hands start hands, each time twice as many"
    assert len(begun) == 300
