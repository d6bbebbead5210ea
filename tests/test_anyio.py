"""What is not public in anyio and used all the same: this fails when it goes."""

import asyncio
import gc
import inspect
import threading
import warnings
from importlib.metadata import version

import anyio
import anyio.from_thread
import pytest
from anyio._backends import _asyncio as backend

from anabranch import _anyio

pytestmark = [pytest.mark.asyncio_only, pytest.mark.real_clock]


async def test_anyios_thread_local_is_where_we_look_for_it():
    from anyio._core._eventloop import threadlocals

    assert isinstance(threadlocals, threading.local)
    assert _anyio.threadlocals is threadlocals


async def test_a_thread_of_ours_may_call_into_the_loop_as_one_of_anyios():
    async def where():
        await anyio.sleep(0)
        return threading.get_ident()

    def thread():
        return anyio.from_thread.run(where), anyio.from_thread.run_sync(threading.get_ident)

    here = threading.get_ident()
    assert await _anyio.to_thread.run_sync(thread) == (here, here)


async def test_a_thread_has_no_loop_after_its_call():
    await _anyio.to_thread.run_sync(anyio.from_thread.run_sync, int)
    from trio.lowlevel import start_thread_soon

    found = []

    def look():
        try:
            anyio.from_thread.run_sync(int)
        except RuntimeError as error:
            found.append(type(error).__name__)

    start_thread_soon(look, lambda _: found.append("ended"))
    while "ended" not in found:
        await anyio.sleep(0.001)
    assert len(found) == 2


async def test_a_thread_gives_values_and_errors():
    assert await _anyio.to_thread.run_sync(int, "7") == 7
    with pytest.raises(ValueError, match="seven"):
        await _anyio.to_thread.run_sync(int, "seven")
    with pytest.raises(SystemExit):
        await _anyio.to_thread.run_sync(exit_)


def exit_():
    raise SystemExit(3)


async def test_a_thread_that_may_be_abandoned_is_left_at_once_and_another_is_waited_for():
    for abandon, seconds in ((True, 20), (False, 0.1)):
        go, ended = threading.Event(), []
        with anyio.move_on_after(0.01):
            await _anyio.to_thread.run_sync(
                lambda go=go, s=seconds, ended=ended: ended.append(go.wait(s)),
                abandon_on_cancel=abandon,
            )
        assert ended == ([] if abandon else [False])
        go.set()


async def test_a_cancelled_scope_starts_no_thread():
    called = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await _anyio.to_thread.run_sync(called.append, 1)
    await anyio.sleep(0.01)
    assert called == []


async def test_a_native_cancellation_is_told_from_a_scopes():
    async def native():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            assert _anyio.native_cancels() == 1
            assert _anyio.own_cancel(None)
            assert _anyio.native_cancels() == 0
            await asyncio.sleep(0)
            return "absorbed"

    task = asyncio.create_task(native())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "absorbed"

    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            assert not _anyio.own_cancel(None)
            raise


async def test_the_loops_token_says_when_the_loop_has_ended():
    def other():
        async def token():
            return _anyio.lowlevel.current_trio_token()

        return asyncio.run(token())

    token = await anyio.to_thread.run_sync(other)
    with pytest.raises(RuntimeError):
        token.run_sync_soon(print)


async def test_a_task_is_renamed_by_assignment():
    task = _anyio.lowlevel.current_task()
    before = task.name
    task.name = "renamed"
    assert asyncio.current_task().get_name() == "renamed"
    task.name = before


# Scopes that take back another task's cancellation ----------------------------------------------

TOUCHED = {
    "_pending_uncancellations": "how many cancellations of its task a scope has to take back",
    "_host_task": "the task that has entered the scope",
    "_deliver_cancellation": "cancels the tasks of a scope, for the scope that it is given",
    "_restart_cancellation_in_parent": "has a scope around it cancel again, if it is cancelled",
    "_tasks": "the tasks whose innermost scope it is",
    "_cancel_called": "whether it was cancelled",
    "_cancel_handle": "the callback that will deliver the cancellation again, if there is one",
}
MENDED = (
    f"anyio {version('anyio')} no longer takes back cancellations of another task: raise its floor "
    f"in pyproject.toml to the version that mended it, and remove from anabranch/_anyio.py the "
    f"class CancelScope and open_nursery's scope (take anyio's), and this part of tests/test_anyio"
)


@pytest.mark.parametrize("name", TOUCHED)
def test_anyio_still_has_the_private_attribute_of_scopes_that_we_use(name):
    assert hasattr(backend.CancelScope, name), (
        f"anyio {version('anyio')} changed: CancelScope.{name}, {TOUCHED[name]}, is gone; "
        f"see the scopes in anabranch/_anyio.py, which need it"
    )


async def test_anyio_still_hands_its_scopes_what_we_take():
    parameters = list(inspect.signature(backend.CancelScope._deliver_cancellation).parameters)
    assert parameters == ["self", "origin"], f"anyio {version('anyio')} changed"
    group = backend.TaskGroup()
    assert isinstance(group.cancel_scope, backend.CancelScope), "open_nursery puts ours there"
    assert isinstance(_anyio.open_nursery().cancel_scope, _anyio.CancelScope)


async def test_a_scope_of_ours_counts_where_anyio_looks():
    with _anyio.CancelScope() as scope:
        assert scope._host_task is asyncio.current_task()
        assert scope._pending_uncancellations == 0
        scope._pending_uncancellations += 1  # as anyio does when it cancels the task
        assert scope._pending_uncancellations == 1
        scope._pending_uncancellations = 0


async def went_on(open_group, open_scope, order):
    """Cancel a task natively while a scope of a child task and its own group are cancelled too.

    All in one turn of the loop; return whether the task goes on as if nobody had cancelled it.
    """
    here, found = {}, []

    async def child():
        with open_scope() as here["inner"]:
            await asyncio.sleep(3600)

    async def parent():
        async with open_group() as group:
            here["group"] = group.cancel_scope
            group.start_soon(child)
            await asyncio.sleep(3600)
        found.append("went on")

    here["task"] = task = asyncio.create_task(parent())
    while "inner" not in here:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    for name in order.split():
        here[name].cancel()
    await asyncio.wait([task])
    assert task.cancelled() == (not found)
    return bool(found)


ORDERS = ["inner group task", "inner task group", "group inner task"]
ORDERS += ["group task inner", "task inner group", "task group inner", "group task", "task group"]


async def test_anyio_alone_still_swallows_a_cancellation():
    """Fail on the day on which anyio mends it: then our own scope can go."""
    swallowed = [
        order
        for order in ORDERS
        if await went_on(anyio.create_task_group, anyio.CancelScope, order)
    ]
    assert swallowed == ["inner group task"], MENDED


@pytest.mark.parametrize("order", ORDERS)
async def test_our_scopes_swallow_no_cancellation(order):
    assert not await went_on(_anyio.open_nursery, _anyio.CancelScope, order)


# What a thread calls in the loop after the cancellation ------------------------------------------

HEARD = (
    f"anyio {version('anyio')} cancels what a thread calls after the cancellation: raise its floor "
    f"in pyproject.toml, and remove _ThreadScope and _LateTasks from anabranch/_anyio.py"
)


async def ends_late(run_in_thread, seconds):
    """Cancel a thread that is waited for, let it call the loop then.

    Return whether that ends within so many seconds.
    """
    begun, cancelled, ended = threading.Event(), threading.Event(), []
    release = anyio.Event()

    def thread():
        begun.set()
        cancelled.wait(60)
        try:
            anyio.from_thread.run(release.wait)
        finally:
            ended.append(True)

    async def cancel(scope):
        while not begun.is_set():
            await anyio.sleep(0.001)
        scope.cancel()
        await anyio.sleep(0.01)
        cancelled.set()
        await anyio.sleep(seconds)
        ended.append(False)
        release.set()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel, scope)
            await run_in_thread(thread)
        group.cancel_scope.cancel()
    return ended[0]


async def test_anyio_alone_cancels_no_late_call_of_a_thread():
    """Fail on the day on which anyio mends it: then our own scope for threads can go."""
    assert not await ends_late(anyio.to_thread.run_sync, 0.1), HEARD


async def test_our_threads_late_calls_are_cancelled():
    assert await ends_late(_anyio.to_thread.run_sync, 10)


# Callbacks of the loop --------------------------------------------------------------------------


def started_by_a_callback(open_group):
    """Tell whether a task group starts a task that a callback asks for, in a loop of asyncio's."""

    async def main():
        began, wrong = asyncio.Event(), []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: wrong.append("a callback raised"))
        async with open_group() as group:
            loop.call_soon(group.start_soon, anyio.sleep, 0)
            loop.call_later(0.01, began.set)
            await began.wait()
        return not wrong

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a coroutine that was never started
        started = asyncio.run(main())
        gc.collect()
    return started


def test_anyio_alone_starts_no_task_from_a_callback():
    """Fail on the day on which anyio mends it: then our own ``_spawn`` can go."""
    assert not started_by_a_callback(anyio.create_task_group)


def test_our_nurseries_start_tasks_from_callbacks():
    assert started_by_a_callback(_anyio.open_nursery)
