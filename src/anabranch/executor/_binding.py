"""Bind an object to the loop that uses it, and keep what is going on there.

It is bound by its first use, and again after that loop has ended; two loops at once are refused:
what it bounds is bounded for all its calls together, and a limiter belongs to one loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

import sniffio

from anabranch._host import Host, current_host
from anabranch._runtime import loop_runs_here
from anabranch.abc import Limiter
from anabranch.errors import HostLoopError

T = TypeVar("T")


class Call:
    """Be one call that is going on, until it ends or is cancelled."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._scope: Any = None
        self._ends: Callable[..., object] | None = None

    def ends_by(self, cancel: Callable[..., object]) -> None:
        """Say how it is cancelled, by a call with a ``reason``."""
        self._ends = cancel

    def cancel(self, reason: str) -> None:
        """Cancel it, in the loop's thread."""
        if self._ends is not None:
            self._ends(reason=reason)

    async def guarded(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """Await a call; None if it was cancelled here."""
        answers: list[T] = []
        with self._host.runtime.CancelScope() as scope:
            self.ends_by(scope.cancel)
            answers.append(await call())
        return answers[0] if answers else None


class Binding:
    """Know the loop that an object is used on, and the calls that are going on there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._host: Host | None = None
        self._loop: Any = None
        self._library = ""
        self._calls: set[Call] = set()
        self._limiter: Limiter | None = None
        self._idle: Any = None  # an Event while somebody waits for the last call's end

    def host(self) -> Host:
        """Return the running loop's host, to which the object is bound from now on.

        Raises:
            HostLoopError: it is bound to another loop, which has not ended.
        """
        host = current_host()
        if host is not self._host:
            if self._host is not None and not self._has_ended():
                raise HostLoopError(
                    f"this {self._name} is used on another loop, which has not ended; "
                    f"make one for each loop"
                )
            self._host = host
            self._loop = host.runtime.lowlevel.current_trio_token()
            self._library = sniffio.current_async_library()
            self._calls = set()
            self._limiter = None
        return host

    @contextmanager
    def call(self) -> Iterator[Call]:
        """Count a call for as long as the block runs."""
        call = Call(self.host())
        calls = self._calls
        calls.add(call)
        try:
            yield call
        finally:
            calls.discard(call)
            if not calls and self._idle is not None:
                self._idle.set()

    def cancel(self, reason: str) -> None:
        """Cancel every call, from any thread; nothing is going on where no loop runs."""
        if self._host is None or not self._calls:
            return
        if loop_runs_here() and self._runs_here():
            self._cancel_here(reason)
            return
        try:
            self._loop.run_sync_soon(self._cancel_soon, reason)
        except RuntimeError:  # that loop has ended, and with it its calls
            pass

    async def all_ended(self) -> None:
        """Wait until no call is going on."""
        while self._calls:
            self._idle = self.host().runtime.Event()
            await self._idle.wait()

    def limiter(self, limit: int) -> Limiter:
        """Return the limiter of all calls on this loop; ``limit`` is that of the first."""
        host = self.host()
        if self._limiter is None:
            self._limiter = host.runtime.CapacityLimiter(limit)
        return self._limiter

    def _cancel_here(self, reason: str) -> None:
        for call in list(self._calls):
            call.cancel(reason)

    def _cancel_soon(self, reason: str) -> None:
        """Cancel in a callback, which has no task by which anyio could tell the loop."""
        context = copy_context()
        context.run(sniffio.current_async_library_cvar.set, self._library)
        context.run(self._cancel_here, reason)

    def _runs_here(self) -> bool:
        try:
            return current_host() is self._host
        except HostLoopError:  # in a callback of the loop, which is no task
            return False

    def _has_ended(self) -> bool:
        try:
            self._loop.run_sync_soon(int)
        except RuntimeError:
            return True
        return False
