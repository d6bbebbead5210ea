"""asyncio's own cancellation: never swallowed, never spread further than it was meant."""

import asyncio
import time

import anyio
import pytest

from anabranch import Pipeline, Step

pytestmark = [pytest.mark.asyncio_only]


async def leaf(data):
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def nested():
    """Nest task groups so that some scopes belong to other tasks than those around them."""
    two, one = {"a": leaf, "b": leaf}, {"a": leaf}
    inner = {"x": Step.parallel(two), "y": Step.parallel(one), "z": Step.parallel(two)}
    return Pipeline([Step.parallel(inner, max_concurrency=2)])


@pytest.mark.parametrize("turns", range(8))
async def test_a_task_that_is_cancelled_in_nested_steps_ends_cancelled(turns):
    task = asyncio.create_task(nested().run(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    cancelled = task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == cancelled


async def test_a_timeout_around_nested_steps_strikes():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await nested().run(1)


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("first", [True, False])
async def test_a_cancelled_error_that_a_branch_met_stays_with_it(first, limit):
    async def meets(data):
        task = asyncio.ensure_future(asyncio.sleep(9))
        await asyncio.sleep(0)
        task.cancel()
        await task

    async def fine(data):
        await anyio.sleep(1)

    keys = {"meets": meets, "fine": fine} if first else {"fine": fine, "meets": meets}
    result = await Pipeline([Step.parallel(keys, max_concurrency=limit)]).run(1)
    branches = result.step_history[0].branches
    assert branches["fine"].success
    assert branches["meets"].status == "cancelled"
    assert branches["meets"].reason == "it raised CancelledError, and nobody had cancelled it"


@pytest.mark.real_clock
@pytest.mark.parametrize("count", [1, 2])
async def test_a_thread_that_is_to_be_waited_for_is(count, all_home):
    limiter = all_home(anyio.CapacityLimiter(2))
    ended = []

    def plain(data):
        time.sleep(0.2)
        ended.append(data)

    steps = {str(n): Step("s", plain, on_cancel="wait") for n in range(count)}
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(
            Pipeline([Step.parallel(steps, max_concurrency=limiter)]).run(1), 0.05
        )
    assert len(ended) == count
