"""Give anyio's things on asyncio the names that trio gives its own.

Above this file nobody knows which loop runs: ``_runtime.current()`` returns this module or trio.
The one file of the engine that may import asyncio.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable
from contextvars import copy_context
from functools import partial
from types import FunctionType, SimpleNamespace, TracebackType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
from anyio import CapacityLimiter, Event, WouldBlock, current_effective_deadline, sleep

# Only here can a scope be kept from taking back another task's cancellation (see CancelScope).
from anyio._backends._asyncio import CancelScope as _AnyioScope
from anyio._backends._asyncio import TaskGroup as _AnyioGroup

# The thread-local that anyio.from_thread reads; anyio has no public way to say
# "this thread, which I started myself, belongs to that loop" (tests/test_anyio.py watches it).
from anyio._core._eventloop import threadlocals
from sniffio import current_async_library_cvar

from anabranch._work import OWN_CANCELS

T = TypeVar("T")

Cancelled = asyncio.CancelledError
WAITS_WITHOUT_A_GAIN = (asyncio.sleep.__code__, asyncio.Event.wait.__code__)

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


class CancelScope(_AnyioScope):
    """Take back, when it is left, only those cancellations of its task that it has made.

    anyio 4.16 hands the count of a scope's cancellations on to the scope around it, also where
    that belongs to another task, as in nested task groups. It then takes that many cancellations
    of the other task back, and a ``Task.cancel`` from outside is swallowed:
    tests/test_anyio.py shows it with anyio alone.
    """

    __slots__ = ("_counted", "_delivers")

    def __init__(self, deadline: float = math.inf, shield: bool = False) -> None:
        self._counted = 0
        self._delivers = False
        super().__init__(deadline, shield)

    @property
    def _pending_uncancellations(self) -> int:
        return self._counted

    @_pending_uncancellations.setter
    def _pending_uncancellations(self, count: int) -> None:
        ours = self._delivers or asyncio.current_task() is self._host_task
        if ours or count < self._counted:
            self._counted = count

    def _deliver_cancellation(self, origin: _AnyioScope) -> bool:
        before, self._delivers = self._delivers, origin is self
        try:
            return super()._deliver_cancellation(origin)
        finally:
            self._delivers = before


class _ThreadScope(CancelScope):
    """Cancel what a thread calls in the loop, also what it calls after the cancellation.

    anyio delivers a cancellation only as long as it finds tasks: a call that came later would
    never hear of it, and with it the thread, and the task that waits for the thread.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self._tasks = _LateTasks(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        try:
            return super().__exit__(kind, error, trace)
        finally:
            self._tasks = set(self._tasks)  # no cycle is left for the garbage collector


class _LateTasks(set[Any]):
    """Deliver a cancellation again when a task joins."""

    def __init__(self, scope: _AnyioScope) -> None:
        super().__init__()
        self._scope = scope

    def add(self, task: Any) -> None:
        super().add(task)
        if self._scope._cancel_called and self._scope._cancel_handle is None:
            self._scope._deliver_cancellation(self._scope)
        self._scope._restart_cancellation_in_parent()


class _Group(_AnyioGroup):
    """Start tasks from callbacks of the loop too, where anyio knows no library: no task runs there.

    What a thread hands to the loop is one, and so is what ``call_soon`` and signals call.
    """

    def _spawn(self, *args: Any, **options: Any) -> Any:
        # The first question costs a fifth of the second, which is enough by itself.
        if current_async_library_cvar.get() is not None or asyncio.current_task() is not None:
            return super()._spawn(*args, **options)
        context = copy_context()
        context.run(current_async_library_cvar.set, "asyncio")
        return context.run(partial(super()._spawn, *args, **options))


def open_nursery() -> _AnyioGroup:
    """Open a task group whose scope is one of ours."""
    group = _Group()
    group.cancel_scope = CancelScope()
    return group


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
    """Keep one value for each loop; anyio's RunVar does, at ten times the cost of a look.

    A value leads back to its loop, so it is dropped when the loop ends: else each of them stayed.
    """

    __slots__ = ("_ends", "_values")

    def __init__(self, name: str) -> None:
        del name
        self._values: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()
        self._ends: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    def get(self) -> Any:
        """Return the running loop's value; LookupError when it has none."""
        return self._values[asyncio.get_running_loop()]

    def set(self, value: Any) -> None:
        """Set the running loop's value."""
        loop = asyncio.get_running_loop()
        self._values[loop] = value
        if loop not in self._ends:
            self._ends[loop] = end = self._at_the_end(loop)
            try:
                end.asend(None).send(None)  # to its yield, where nobody waits for anything
            except StopIteration:
                pass

    async def _at_the_end(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
        """Be closed by the loop when it ends, as all asynchronous generators are."""
        try:
            yield
        finally:
            self._values.pop(loop, None)
            self._ends.pop(loop, None)


def keeps_real_time() -> bool:
    """Tell whether the running loop's clock is the machine's: who writes another means another."""
    own = type(asyncio.get_running_loop()).time
    return own is asyncio.BaseEventLoop.time or not isinstance(own, FunctionType)  # uvloop's: in C


class _Task:
    """Let a task be renamed by assignment, as trio's can."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    @property
    def coro(self) -> Any:
        return self._task.get_coro()

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


def own_cancel(before: int | None) -> str:
    """Say why a branch ended with a CancelledError that is its own affair; empty if it is not.

    ``before`` is how often the task was cancelled before, if it is somebody else's task.
    A hand's own task is in a nursery of ours, so nobody but the branch itself can know it;
    whoever cancels it natively means that branch, not the nursery.
    """
    task = asyncio.current_task()
    if task is None or current_effective_deadline() == -math.inf:
        return ""
    if before is not None and task.cancelling() > before:
        return ""
    if before is None and task.cancelling():
        while task.uncancel():
            pass
        return OWN_CANCELS[0]
    return OWN_CANCELS[1]


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
        threadlocals.current_cancel_scope = scope
        try:
            return fn(*args)
        finally:
            del threadlocals.current_token, threadlocals.current_cancel_scope

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

    with CancelScope() if abandon_on_cancel else _ThreadScope() as scope:
        start_thread_soon(call, deliver)
        if abandon_on_cancel:
            await future
        else:
            with CancelScope(shield=True):
                await _to_the_end(future, scope)
    return future.result()


async def _to_the_end(future: asyncio.Future[Any], scope: CancelScope) -> None:
    """Wait for ``future`` whatever happens: a shield does not hold against ``Task.cancel``.

    ``scope`` holds what the thread calls in the loop.
    """
    cancelled: BaseException | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
            scope.cancel("the task that waits for the thread was cancelled")
    if cancelled is not None:
        future.exception()  # seen, whatever it is: the cancellation comes first
        raise cancelled


lowlevel = SimpleNamespace(
    RunVar=_LoopVar,
    checkpoint=anyio.lowlevel.checkpoint,
    checkpoint_if_cancelled=anyio.lowlevel.checkpoint_if_cancelled,
    current_clock=lambda: _Clock(asyncio.get_running_loop()),
    current_task=_current_task,
    current_trio_token=lambda: _LoopToken(asyncio.get_running_loop()),
)
to_thread = SimpleNamespace(run_sync=_run_sync)
