"""Name the plugs: what a part from outside must be able to do to take the place of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from anabranch._load import Bounds, Decision, Load
from anabranch._work import Outcome
from anabranch.events import Event


@runtime_checkable
class Limiter(Protocol):
    """Lend a number of tokens; trio's and anyio's CapacityLimiter are two.

    ``total_tokens`` may be set at any time, and below what is borrowed.
    ``statistics()`` has ``tasks_waiting``.
    """

    @property
    def total_tokens(self) -> float: ...
    @total_tokens.setter
    def total_tokens(self, total: float, /) -> None: ...
    @property
    def borrowed_tokens(self) -> int: ...
    async def acquire_on_behalf_of(self, borrower: Any, /) -> None: ...
    def acquire_on_behalf_of_nowait(self, borrower: Any, /) -> None: ...
    def release_on_behalf_of(self, borrower: Any, /) -> None: ...
    def statistics(self) -> Any: ...


@runtime_checkable
class Lane(Protocol):
    """Run one call somewhere: here, in a thread, in a process, on another machine.

    When ``run`` is cancelled the call is stopped before it returns.
    """

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Any: ...


class BreachEvent(Protocol):
    """Be set from outside to end a run; the events of trio, asyncio and anyio are such."""

    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Observer(Protocol):
    """Hear of events after the fact, in a thread of its own; any callable is one."""

    def __call__(self, event: Event, /) -> object: ...


@runtime_checkable
class Sampler(Protocol):
    """Read a part of the machine: fields of a Load by name, None for what cannot be told now.

    Called in a thread, so it may block; it is left alone while a call of it hangs.
    """

    def sample(self) -> Mapping[str, float | None]: ...


@runtime_checkable
class Controller(Protocol):
    """Decide a limit from what is seen: a law without a clock, without I/O, without chance.

    Equal states and loads give equal decisions; whatever it remembers is in the state.
    """

    def initial(self, config: Bounds, /) -> Any: ...
    def next(self, state: Any, load: Load, /) -> Decision: ...


@runtime_checkable
class Recorder(Protocol):
    """Keep each outcome before anybody else hears of it."""

    async def record(self, outcome: Outcome, /) -> None: ...


@runtime_checkable
class GroupRecorder(Recorder, Protocol):
    """Keep several outcomes in one go as well, all or none: cheaper where each write costs."""

    async def record_all(self, outcomes: Sequence[Outcome], /) -> None: ...
