"""Watch an event from outside while a block runs, parked on it, and trip once if it is set."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Self

from anabranch._nursery import leave
from anabranch._runtime import Runtime, on_trio
from anabranch.abc import BreachEvent
from anabranch.errors import ConfigurationError

WAS_SET: Final = "breach: the breach_event was set"

_HOMES = {
    "trio": "trio",
    "anyio._backends._trio": "trio",
    "asyncio.locks": "asyncio",
    "anyio._backends._asyncio": "asyncio",
}


def check_event(where: str, event: object) -> None:
    """Raise ConfigurationError for what is no event that a task can wait for."""
    if event is None:
        return
    wait = getattr(event, "wait", None)
    if callable(getattr(event, "is_set", None)) and inspect.iscoroutinefunction(wait):
        return
    what = "is no event"
    if callable(wait):
        what = "blocks whoever waits for it, and would stop the loop"
    raise ConfigurationError(
        f"{where}: breach_event={event!r:.80} ({type(event).__name__}) {what}; "
        f"give an Event of trio, asyncio or anyio, set in the loop's thread"
    )


def check_event_home(event: object) -> None:
    """Refuse an event that belongs to another kind of loop than the running one.

    Raises:
        ConfigurationError: trio's on asyncio, or asyncio's on trio.
    """
    homes = (_HOMES.get(kind.__module__) for kind in type(event).__mro__)
    home, host = next(filter(None, homes), None), "trio" if on_trio() else "asyncio"
    if home not in (None, host):
        raise ConfigurationError(
            f"breach_event={event!r:.80} is an Event of {home}, and {host} runs here; "
            f"give one of {host}, or one that anyio makes inside the loop"
        )


class Watcher:
    """Call ``trip`` when the event is set while the block runs; it ends with the block."""

    def __init__(self, event: BreachEvent, trip: Callable[[], None], runtime: Runtime) -> None:
        self._event = event
        self._trip = trip
        self._runtime = runtime
        self._block: Any = runtime.open_nursery()
        self._scope = runtime.CancelScope()  # of the task that waits
        self._broken: ConfigurationError | None = None

    async def __aenter__(self) -> Self:
        self._nursery = await self._block.__aenter__()
        self._nursery.start_soon(self._watch)
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._scope.cancel(reason="what it watches has ended")
        swallowed = await leave(self._block, error, self._runtime)
        if self._broken is not None:
            raise self._broken
        return swallowed

    async def _watch(self) -> None:
        with self._scope:
            try:
                await self._event.wait()
            except RuntimeError as error:  # asyncio: it belongs to a loop of another thread
                self._broken = ConfigurationError(
                    f"breach_event={self._event!r:.80} cannot be waited for here: {error}"
                )
                self._nursery.cancel_scope.cancel(reason="the event cannot be waited for")
            else:
                self._trip()
