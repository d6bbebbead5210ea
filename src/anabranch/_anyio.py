"""Give anyio's things on asyncio the names that trio gives its own.

Above this file nobody knows which loop runs: ``_runtime.current()`` returns this module or trio.
The one file of the engine that may import asyncio.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
from anyio import CancelScope, CapacityLimiter, Event, WouldBlock, current_effective_deadline, sleep
from anyio import create_task_group as open_nursery

# The thread-local that anyio.from_thread reads; anyio has no public way to say
# "this thread, which I started myself, belongs to that loop" (tests/test_anyio.py watches it).
from anyio._core._eventloop import threadlocals

T = TypeVar("T")

Cancelled = asyncio.CancelledError

__all__ = [
    "CancelScope",
    "Cancelled",
    "CapacityLimiter",
    "Event",
    "WouldBlock",
    "current_effective_deadline",
    "lowlevel",
    "open_nursery",
    "sleep",
    "sleep_forever",
    "to_thread",
]


async def sleep_forever() -> None:
    """Sleep until cancelled."""
    await anyio.sleep(math.inf)


class _LoopToken:
    """Reach the loop from any thread, as trio's TrioToken does."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run_sync_soon(self, fn: Callable[..., object], *args: object) -> None:
        """Call ``fn`` in the loop's thread; RuntimeError when the loop has ended."""
        self._loop.call_soon_threadsafe(fn, *args)


class _Clock:
    """Tell the loop's time from any thread."""

    __slots__ = ("current_time",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.current_time = loop.time


class _LoopVar:
    """Keep one value for each loop; anyio's RunVar does, at ten times the cost of a look."""

    __slots__ = ("_values",)

    def __init__(self, name: str) -> None:
        del name
        self._values: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    def get(self) -> Any:
        """Return the running loop's value; LookupError when it has none."""
        return self._values[asyncio.get_running_loop()]

    def set(self, value: Any) -> None:
        """Set the running loop's value."""
        self._values[asyncio.get_running_loop()] = value


class _Task:
    """Let a task be renamed by assignment, as trio's can."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    @property
    def name(self) -> str:
        return self._task.get_name()

    @name.setter
    def name(self, name: str) -> None:
        self._task.set_name(name)


def _current_task() -> _Task:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("no asyncio task is running here")
    return _Task(task)


def native_cancels() -> int:
    """Count the ``Task.cancel()`` that the current task has not taken back."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def absorb_native_cancel() -> bool:
    """Take back a ``Task.cancel()`` that hit this task alone; False when a scope is behind it.

    A hand's task is in a nursery of ours, so nobody but the branch itself can know it;
    whoever cancels it natively means that branch, not the nursery.
    """
    task = asyncio.current_task()
    if task is None or current_effective_deadline() == -math.inf:
        return False
    while task.uncancel():
        pass
    return True


async def _run_sync(
    fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False, limiter: object = None
) -> T:
    """Call ``fn`` in a daemon thread of trio's cache, which works under any loop.

    asyncio's own executor threads, and anyio's, are joined when the process ends:
    one stuck function would keep it from ending.
    ``limiter`` is there for trio's signature: the caller holds its own tokens.
    """
    from trio.lowlevel import start_thread_soon  # heavy, and only threads need it

    del limiter
    await anyio.lowlevel.checkpoint_if_cancelled()
    loop = asyncio.get_running_loop()
    token = anyio.lowlevel.current_token()
    future: asyncio.Future[T] = loop.create_future()

    def call() -> T:
        threadlocals.current_token = token
        try:
            return fn(*args)
        finally:
            del threadlocals.current_token

    def deliver(result: Any) -> None:
        try:
            loop.call_soon_threadsafe(settle, result)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            pass

    def settle(result: Any) -> None:
        if future.done():
            return
        try:
            future.set_result(result.unwrap())
        except BaseException as error:
            future.set_exception(error)

    start_thread_soon(call, deliver)
    with CancelScope(shield=not abandon_on_cancel):
        await future
    return future.result()


lowlevel = SimpleNamespace(
    RunVar=_LoopVar,
    checkpoint=anyio.lowlevel.checkpoint,
    checkpoint_if_cancelled=anyio.lowlevel.checkpoint_if_cancelled,
    current_clock=lambda: _Clock(asyncio.get_running_loop()),
    current_task=_current_task,
    current_trio_token=lambda: _LoopToken(asyncio.get_running_loop()),
)
to_thread = SimpleNamespace(run_sync=_run_sync)
