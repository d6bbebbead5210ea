"""Find the loop that runs and return its words: the module trio itself, or ``_anyio``."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import anyio.lowlevel

# anyio has no public way to say that a thread belongs to a loop.
from anyio._core._eventloop import threadlocals

from anabranch.errors import ConfigurationError, HostLoopError

_HOMES = {"trio": "trio", "anyio._backends._trio": "trio", "anyio._backends._asyncio": "asyncio"}


class Runtime(Protocol):
    """The part of trio's namespace that the engine calls.

    The module ``trio`` satisfies it unadapted; ``_anyio`` gives anyio's things the same names.
    """

    Cancelled: type[BaseException]
    WouldBlock: type[Exception]
    CancelScope: Callable[..., Any]
    CapacityLimiter: Callable[[float], Any]
    Event: Callable[[], Any]
    lowlevel: Any
    to_thread: Any

    def open_nursery(self) -> AbstractAsyncContextManager[Any]: ...
    def current_effective_deadline(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...
    async def sleep_forever(self) -> None: ...


def on_trio() -> bool:
    """Tell whether the caller is in a trio task, without importing trio for it."""
    trio = sys.modules.get("trio")
    try:
        return trio is not None and bool(trio.lowlevel.in_trio_task())
    except AttributeError:  # another thread is importing it, so no loop of it runs yet
        return False


def on_asyncio() -> bool:
    """Tell whether the caller is in a task of an asyncio loop, without importing asyncio for it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        return asyncio.current_task() is not None
    except (RuntimeError, AttributeError):  # no loop runs here; or another thread is importing it
        return False


def loop_runs_here() -> bool:
    """Tell whether a loop runs in this thread, in a task or in a callback."""
    if on_trio():
        return True
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    try:
        if asyncio is not None and asyncio._get_running_loop() is not None:
            return True
    except AttributeError:  # likewise
        pass
    try:
        return trio is not None and bool(trio.lowlevel.in_trio_run())
    except AttributeError:
        return False


def check_thread(what: str) -> None:
    """Refuse a call from a thread where no loop runs.

    Raises:
        HostLoopError: no loop runs in this thread.
    """
    if not loop_runs_here():
        raise HostLoopError(
            f"{what} was called in a thread where no loop runs; "
            f"call it in the loop: anyio.from_thread.run_sync({what}, ...)"
        )


def current() -> Runtime:
    """Return the runtime of the running loop.

    Raises:
        HostLoopError: no loop runs in this thread.
    """
    if on_trio():
        return cast(Runtime, sys.modules["trio"])
    if on_asyncio():
        from anabranch import _anyio  # anyio's asyncio parts, for asyncio's users only

        return cast(Runtime, _anyio)
    raise HostLoopError(
        "no loop runs here: await this inside trio.run, asyncio.run or anyio.run, "
        "or call Pipeline.run_sync from a plain program"
    )


def check_home(limiter: object) -> None:
    """Refuse a limiter that belongs to another kind of loop than the running one.

    Raises:
        ConfigurationError: trio's on asyncio, or asyncio's on trio.
    """
    home, host = _HOMES.get(type(limiter).__module__), "trio" if on_trio() else "asyncio"
    if home not in (None, host):
        raise ConfigurationError(
            f"{limiter!r} is a CapacityLimiter of {home}, and {host} runs here; "
            f"give one of {host}, or one that anyio makes inside the loop"
        )


def native_counter() -> Callable[[], int]:
    """Return what counts the native cancellations (``Task.cancel``) of the current task."""
    if on_trio():
        return int  # trio has none
    from anabranch import _anyio

    return _anyio.native_cancels


def brief_trap() -> Any:
    """Return what a coroutine yields to let the loop go round once: it is resumed at once."""
    if not on_trio():
        return None  # asyncio's word for it is a bare yield
    checkpoint = sys.modules["trio"].lowlevel.cancel_shielded_checkpoint()
    trap = checkpoint.send(None)
    checkpoint.close()
    return trap


def own_cancel(before: int | None) -> str:
    """Say why a branch ended with a cancellation that is its own affair; empty if it is not.

    Only asyncio has such a thing: a CancelledError is an exception like others there.
    ``before`` counts the native cancellations of a task that is not the branch's alone.
    """
    if on_trio():
        return ""
    from anabranch import _anyio

    return _anyio.own_cancel(before)


def may_be_left(coroutine: Any) -> bool:
    """Tell whether a suspended coroutine waits for what it can go without though it is there.

    A sleep's end and an event that was set are; the rest might be lost, as a lock would be.
    """
    safe = _waits_without_a_gain()
    while coroutine is not None:
        if getattr(coroutine, "cr_code", None) in safe:
            return True
        coroutine = _awaited_by(coroutine)
    return False


def _awaited_by(waits: Any) -> Any:
    """Return what a suspended coroutine, or another awaitable, awaits; None if nobody can know."""
    for name in ("cr_await", "ag_await", "gi_yieldfrom"):
        if hasattr(waits, name):
            return getattr(waits, name)
    # A step of an async generator, or what `__await__` of a coroutine gave: neither tells.
    inside = (each for each in gc.get_referents(waits) if inspect.isawaitable(each) or
              inspect.isasyncgen(each))  # fmt: skip
    return next(inside, None)


def _waits_without_a_gain() -> tuple[Any, ...]:
    if on_trio():
        return (sys.modules["trio"].Event.wait.__code__,)  # a sleep is taken back by trio itself
    from anabranch import _anyio

    return _anyio.WAITS_WITHOUT_A_GAIN


def keeps_real_time() -> bool | None:
    """Tell whether the running loop's clock is the machine's; None where nobody can say."""
    if on_trio():
        home = type(sys.modules["trio"].lowlevel.current_clock()).__module__
        known = {"trio._core": True, "trio.testing": False}
        return known.get(".".join(home.split(".")[:2]))
    from anabranch import _anyio

    return _anyio.keeps_real_time()


def for_thread(fn: Callable[[], None]) -> Callable[[], None]:
    """Wrap ``fn`` so that ``anyio.from_thread`` works in the thread that calls it.

    So a plain function may call back into the loop without knowing which one it is.
    The seam's own threads can; trio's know trio's words only.
    """
    if not on_trio():
        return fn
    token = anyio.lowlevel.current_token()

    def call() -> None:
        threadlocals.current_token = token
        try:
            fn()
        finally:
            del threadlocals.current_token

    return call
