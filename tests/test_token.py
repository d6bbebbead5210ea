"""Tokens: lent to children, taken in any order, home afterwards."""

import anyio
import pytest

from anabranch._host import current_host
from anabranch._knot import Block, Loan, take
from anabranch._open import open_scheduler
from anabranch._scheduler import Scheduler
from anabranch._token import Held, holding, take_nowait
from tests.branches import Watch, read, sleep, statuses, submit


async def nest(depth, limiter, watch, width=1):
    """Open a scheduler on the same limiter within a branch, `depth` deep."""
    await anyio.lowlevel.checkpoint()
    if depth == 0:
        return await watch.sleeps(depth, 0.01)
    async with open_scheduler(limiter) as scheduler:
        for i in range(width):
            submit(scheduler, f"{depth}/{i}", nest, depth - 1, limiter, watch, width)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": width}, found
    return depth


@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 5), (3, 1), (3, 3), (10, 1)])
@pytest.mark.parametrize("limit", [1, 2])
async def test_nested_schedulers_on_one_limiter_end(depth, width, limit, all_home):
    limiter = all_home(anyio.CapacityLimiter(limit))
    watch = Watch(limiter)
    with anyio.fail_after(1000):
        await nest(depth, limiter, watch, width)
    assert watch.peak == min(limit, width)
    assert watch.above == []
    assert len(watch.started) == width**depth


async def test_a_scheduler_may_be_opened_by_a_child_of_the_branch(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))
    watch = Watch(limiter)

    async def branch():
        async with anyio.create_task_group() as group:
            group.start_soon(nest, 2, limiter, watch)

    async with open_scheduler(limiter) as scheduler:
        for i in range(3):
            submit(scheduler, str(i), branch)
        with anyio.fail_after(100):
            found = await read(scheduler)
    assert statuses(found) == {"succeeded": 3}
    assert watch.peak == 1


async def test_two_schedulers_may_be_opened_at_once_in_one_branch(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))
    watch = Watch(limiter)

    async def branch():
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(nest, 2, limiter, watch, 2)
        assert len(holding_of()) == 1
        watch.begin("after")  # the token is back
        await anyio.sleep(0.01)
        watch.end()

    def holding_of():
        return [h for h in (holding.get(),) if h is not None and not h.missing]

    async with open_scheduler(limiter) as scheduler:
        for i in range(3):
            submit(scheduler, str(i), branch)
        with anyio.fail_after(100):
            found = await read(scheduler)
    assert statuses(found) == {"succeeded": 3}
    assert watch.peak == 1
    assert watch.started.count("after") == 3


async def test_two_limiters_taken_in_different_orders_cannot_block_each_other(all_home):
    one, two = all_home(anyio.CapacityLimiter(1)), all_home(anyio.CapacityLimiter(1))
    watch = Watch(one)
    async with Scheduler([one, two]) as first, Scheduler([two, one]) as second:
        for i in range(20):
            submit(first, str(i), watch.sleeps, "first", 0.01)
            submit(second, str(i), watch.sleeps, "second", 0.01)
        with anyio.fail_after(100):
            assert len(await read(first)) == len(await read(second)) == 20
    assert watch.peak == 1


async def test_a_nested_scheduler_takes_what_it_was_lent_and_a_limiter_of_its_own(all_home):
    one, two = all_home(anyio.CapacityLimiter(1)), all_home(anyio.CapacityLimiter(1))

    async def branch(depth):
        if depth:
            async with Scheduler([two, one]) as inner:
                submit(inner, "a", branch, depth - 1)
                submit(inner, "b", branch, depth - 1)
                assert statuses(await read(inner)) == {"succeeded": 2}

    async with Scheduler([one, two]) as scheduler:
        for i in range(3):
            submit(scheduler, str(i), branch, 3)
        with anyio.fail_after(100):
            assert statuses(await read(scheduler)) == {"succeeded": 3}


async def test_several_limiters_are_held_all_or_none():
    host = current_host()
    limiters = [anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)]
    limiters[1].acquire_on_behalf_of_nowait("foreign")
    held = Held(limiters)
    assert not take_nowait(limiters, host.runtime, held)
    assert limiters[0].borrowed_tokens == 0
    async with anyio.create_task_group() as group:
        group.start_soon(take, limiters, host.runtime, held)
        await anyio.sleep(1)
        assert limiters[0].borrowed_tokens == 0  # nothing is held while something is waited for
        limiters[1].release_on_behalf_of("foreign")
    assert [limiter.borrowed_tokens for limiter in limiters] == [1, 1]
    held.give_back()
    assert [limiter.borrowed_tokens for limiter in limiters] == [0, 0]


async def test_a_cancellation_while_the_lent_token_is_waited_for_leaves_all_home(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))
    state = []

    async def branch():
        with anyio.move_on_after(2):
            async with open_scheduler(limiter) as inner:
                submit(inner, "a", sleep, 1)
                await read(inner)
                limiter.acquire_on_behalf_of_nowait("foreign")
        state.append("went on")
        await anyio.sleep(10)

    async with open_scheduler(limiter) as scheduler:
        submit(scheduler, "a", branch)
        await anyio.sleep(5)
        assert state == ["went on"]
        submit(scheduler, "b", sleep, 1)
        limiter.release_on_behalf_of("foreign")
        with anyio.fail_after(100):
            found = await read(scheduler)
    assert statuses(found) == {"succeeded": 2}


@pytest.mark.slow
async def test_every_token_is_home_after_a_cancellation_at_any_moment(all_home):
    for moment in range(60):
        limiter = all_home(anyio.CapacityLimiter(2))
        with anyio.move_on_after(moment / 1000):
            await nest(3, limiter, Watch(limiter), 2)
        assert limiter.borrowed_tokens == 0


async def test_a_lent_token_is_back_before_the_block_is_left(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))

    async def branch():
        async with open_scheduler(limiter) as inner:
            submit(inner, "a", sleep, 1)
        return limiter.borrowed_tokens

    async with open_scheduler(limiter) as scheduler:
        submit(scheduler, "a", branch)
        submit(scheduler, "b", branch)
        found = await read(scheduler)
    assert [o.value for o in found.values()] == [1, 1]


async def test_a_block_that_raises_gives_the_lent_token_back(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))

    async def branch():
        try:
            async with open_scheduler(limiter) as inner:
                submit(inner, "a", sleep, 10)
                await anyio.sleep(1)
                raise KeyError("x")
        except KeyError:
            pass
        await anyio.sleep(1)
        return limiter.borrowed_tokens

    async with open_scheduler(limiter) as scheduler:
        submit(scheduler, "a", branch)
        found = await read(scheduler)
    assert found["a"].value == 1


async def test_a_task_that_outlives_its_branch_lends_nothing(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))
    seen = []

    async def later():
        await anyio.sleep(5)
        async with open_scheduler(limiter) as inner:
            submit(inner, "a", sleep, 1, "ran")
            seen.extend([o.value async for o in inner.outcomes])

    async with anyio.create_task_group() as outer:

        async def branch():
            outer.start_soon(later)

        async with open_scheduler(limiter) as scheduler:
            submit(scheduler, "a", branch)
    assert seen == ["ran"]


async def test_outside_of_every_branch_nothing_is_lent():
    limiter = anyio.CapacityLimiter(1)
    loan = Loan([limiter], current_host().runtime)
    await loan.take_back(Block())
    assert limiter.borrowed_tokens == 0
    assert holding.get() is None


async def test_a_limiter_that_shrank_to_0_while_it_was_lent_holds_the_parent(all_home):
    limiter = all_home(anyio.CapacityLimiter(1))
    seen = []

    async def branch():
        async with open_scheduler(limiter) as inner:
            submit(inner, "a", sleep, 1)
        seen.append(anyio.current_time())

    async with open_scheduler(limiter) as scheduler:
        submit(scheduler, "a", branch)
        await anyio.sleep(0.5)
        before = anyio.current_time()
        limiter.total_tokens = 0
        await anyio.sleep(10)
        assert seen == []
        limiter.total_tokens = 1
    assert seen == [pytest.approx(before + 10, abs=0.1)]
