"""Calls on somebody else's executor: what comes back, what cannot be stopped, what is broken."""

import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import anyio
import pytest

from anabranch import ConfigurationError, ExecutorLane, LaneError

pytestmark = [pytest.mark.real_clock]


class Manual(Executor):
    """Be an executor whose calls end when a test says so."""

    def __init__(self):
        self.futures = []

    def submit(self, fn, /, *args, **kwargs):
        self.futures.append(Future())
        return self.futures[-1]


async def call(lane, *args):
    return await lane.run(time.sleep, args, {})


async def test_a_call_that_has_not_begun_is_taken_back_when_it_is_cancelled():
    executor = Manual()
    lane = ExecutorLane(executor)
    with anyio.move_on_after(0.05):
        await call(lane, 1)
    assert executor.futures[0].cancelled()
    assert lane.abandoned == 0


async def test_a_call_that_has_begun_is_abandoned_and_counted_until_it_ends(caplog):
    executor = Manual()
    lane = ExecutorLane(executor)
    async with anyio.create_task_group() as group:
        group.start_soon(call, lane, 1)
        await anyio.wait_all_tasks_blocked()
        executor.futures[0].set_running_or_notify_cancel()
        group.cancel_scope.cancel()
    assert lane.abandoned == 1
    assert "could not be stopped" in caplog.text
    executor.futures[0].set_result(None)
    assert lane.abandoned == 0


async def test_a_call_may_be_waited_for_instead():
    begun, ended = threading.Event(), []

    def slow():
        begun.set()
        time.sleep(0.1)
        ended.append(True)

    async def cancel(scope):
        while not begun.is_set():
            await anyio.sleep(0.001)
        scope.cancel()

    with ThreadPoolExecutor(1) as executor:
        lane = ExecutorLane(executor, on_cancel="wait")
        async with anyio.create_task_group() as group:
            group.start_soon(cancel, group.cancel_scope)
            await lane.run(slow, (), {})
        assert ended


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BrokenProcessPool("a process died"), "the executor broke while it ran sleep"),
        (SystemExit(3), "raised SystemExit"),
        (TypeError("cannot pickle 'lock' object"), "result of sleep"),
    ],
)
async def test_what_is_no_error_of_the_call_is_a_lane_error(error, says):
    executor = Manual()

    async def fails():
        await anyio.sleep(0.01)
        executor.futures[0].set_exception(error)

    async with anyio.create_task_group() as group:
        group.start_soon(fails)
        with pytest.raises(LaneError, match=says):
            await call(ExecutorLane(executor), 1)


async def test_a_call_that_somebody_else_cancels_fails():
    executor = Manual()

    async def cancels():
        await anyio.sleep(0.01)
        executor.futures[0].cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancels)
        with pytest.raises(LaneError, match="was cancelled on its executor"):
            await call(ExecutorLane(executor), 1)


async def test_an_executor_that_was_shut_down_takes_no_call():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(LaneError, match="takes no call"):
        await call(ExecutorLane(executor), 0)


async def test_a_call_runs_in_a_thread_of_the_executor():
    with ThreadPoolExecutor(1, thread_name_prefix="theirs") as executor:
        lane = ExecutorLane(executor)
        name = await lane.run(lambda: threading.current_thread().name, (), {})
    assert name.startswith("theirs")


@pytest.mark.parametrize("executor", [None, 3, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(ConfigurationError, match="submit"):
        ExecutorLane(executor)


async def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ConfigurationError, match="on_cancel"):
        ExecutorLane(Manual(), on_cancel="kill")
    with pytest.raises(ConfigurationError, match="async function"):
        await ExecutorLane(Manual()).run(call, (), {})
