"""What is not public in anyio and used all the same: this fails when it goes."""

import asyncio
import threading
import time

import anyio
import anyio.from_thread
import pytest

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
    for abandon, least, most in ((True, 0, 0.08), (False, 0.1, 5)):
        before = time.perf_counter()
        with anyio.move_on_after(0.01):
            await _anyio.to_thread.run_sync(time.sleep, 0.1, abandon_on_cancel=abandon)
        assert least <= time.perf_counter() - before < most


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
