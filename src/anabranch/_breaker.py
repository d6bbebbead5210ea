"""Stop calling what keeps failing, and try it again with a few calls: a circuit breaker.

Closed, calls pass and failures in a row are counted; open, calls are refused at once; half-open,
exactly ``probes`` calls pass, whoever else comes, and what becomes of them decides; if they have
not ended after ``recovery_timeout``, so many others may.
Our own, because the libraries looked at let everybody through while half-open, count
cancellations as failures, or read a clock that cannot be virtual.

One lock, never held over an await or a call, so a breaker may be shared by threads and loops.
A call belongs to the circuit of the moment in which it began: one that ends after the circuit
has opened, or closed again, changes nothing any more.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError
from contextvars import copy_context
from enum import StrEnum
from functools import wraps
from types import CoroutineType
from typing import Any, TypeVar, cast

import attrs
from sniffio import current_async_library_cvar

from anabranch import _runtime
from anabranch._options import exact
from anabranch._work import check_callable, check_limit, check_seconds, is_async
from anabranch.errors import BranchCancelledError, CircuitOpenError, ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("anabranch")

# An Exception by its type, and what a call raises that waited for a future or branch in vain.
CANCELLED = (CancelledError, BranchCancelledError)


class CircuitState(StrEnum):
    """Say what a breaker does with a call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@attrs.frozen
class CircuitChanged:
    """Say that a breaker went from one state to another; ``at`` is its clock's."""

    at: float
    breaker: str
    old: CircuitState
    new: CircuitState
    reason: str


Listener = Callable[[CircuitChanged], object]


@attrs.define(eq=False)
class _Circuit:
    """Count what happens between two changes of state, each of which makes another one."""

    state: CircuitState
    since: float = 0.0
    failures: int = 0  # in a row
    passed: int = 0  # probes that were let through, less those that were cancelled
    succeeded: int = 0  # probes
    last: BaseException | None = None


class CircuitBreaker:
    """Refuse calls of what has failed ``failure_threshold`` times in a row.

    Args:
        failure_threshold: failures in a row that open the circuit.
        recovery_timeout: seconds from then until a call is let through again.
        probes: how many calls are let through then; the circuit closes when all of them succeed,
            and opens again when one fails.
        on: the exception types that are failures, or a function of the error that tells;
            a cancellation never is.
        name: what messages and listeners call it.
        clock: seconds that only grow; called from any thread.
        listeners: each is called with a CircuitChanged, after the fact, by whoever's call did it.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    @exact("CircuitBreaker")
    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: float = 60,
        *,
        probes: int = 1,
        on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] = Exception,
        name: str = "circuit",
        clock: Callable[[], float] = time.monotonic,
        listeners: Iterable[Listener] = (),
    ) -> None:
        where = "CircuitBreaker"
        check_limit(where, "failure_threshold", failure_threshold)
        _check_recovery(recovery_timeout)
        check_limit(where, "probes", probes)
        if not isinstance(name, str):
            raise ConfigurationError(
                f"{where}: name={name!r:.80} ({type(name).__name__}) is no string; give one"
            )
        check_callable(f"{where}: clock", clock)
        if not isinstance(listeners, Iterable):
            raise ConfigurationError(
                f"{where}: listeners={listeners!r:.80} ({type(listeners).__name__}) is no list of "
                f"functions; give listeners=[fn]"
            )
        self._threshold = failure_threshold
        self._timeout = recovery_timeout
        self._probes = probes
        self._fails = _failing(on)
        self.name = name
        self._clock = clock
        self._listeners = list(listeners)
        for listener in self._listeners:
            check_callable(f"{where}: listeners", listener)
        self._lock = threading.Lock()
        self._circuit = _Circuit(CircuitState.CLOSED, clock())

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r}: {self.state}>"

    @property
    def state(self) -> CircuitState:
        """What it would do with a call that came now."""
        with self._lock:
            circuit = self._circuit
            over = circuit.since + self._timeout <= self._clock()
            if circuit.state is CircuitState.OPEN and over:
                return CircuitState.HALF_OPEN
            return circuit.state

    @property
    def failures(self) -> int:
        """Failures in a row, until it opened."""
        return self._circuit.failures

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` called with each change from now on."""
        check_callable("CircuitBreaker.listen", listener)
        self._listeners.append(listener)

    def reset(self) -> None:
        """Close the circuit, whatever happened."""
        with self._lock:
            change = self._turn(CircuitState.CLOSED, "it was reset")
        self._tell(change)

    async def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``fn``, which may be async; a plain one runs in a thread.

        Raises:
            CircuitOpenError: the circuit is open; ``retry_after`` says for how long.
        """
        check_callable("CircuitBreaker.call", fn)
        if is_async(fn):
            return await self.guard_async(fn, *args, **kwargs)
        return await self._await(self._enter(), _in_thread(fn, args, kwargs))

    async def guard_async(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Await ``fn(*args, **kwargs)``, where it stands."""
        circuit = self._enter()
        try:
            coroutine = fn(*args, **kwargs)
        except BaseException as error:
            self._ended(circuit, error)
            raise
        return await self._await(circuit, coroutine)

    def guard(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a plain function where it stands; what is left of a coroutine counts with it."""
        circuit = self._enter()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            self._ended(circuit, error)
            raise
        if type(value) is CoroutineType:
            return self._await(circuit, value)
        self._ended(circuit, None)
        return value

    def __call__(self, fn: F) -> F:
        """Decorate a function, async or plain: every call of it goes through the breaker."""
        check_callable("CircuitBreaker", fn)
        if is_async(fn):

            @wraps(fn)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                return await self.guard_async(fn, *args, **kwargs)

            return cast(F, guarded_async)

        @wraps(fn)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self.guard(fn, *args, **kwargs)

        return cast(F, guarded)

    async def _await(self, circuit: _Circuit, waiting: Awaitable[Any]) -> Any:
        try:
            value = await waiting
        except BaseException as error:
            self._ended(circuit, error)
            raise
        self._ended(circuit, None)
        return value

    def _enter(self) -> _Circuit:
        """Let a call in, or refuse it."""
        change = None
        with self._lock:
            circuit = self._circuit
            if circuit.state is CircuitState.CLOSED:
                return circuit
            left = circuit.since + self._timeout - self._clock()
            if circuit.state is CircuitState.OPEN and left > 0:
                raise self._refusal(f"opened after {_words(circuit)}", left)
            if circuit.state is CircuitState.OPEN or (circuit.passed >= self._probes and left <= 0):
                # Or probes that never end: others take their place after the same time.
                reason = f"{self._timeout:g} s have passed"
                change = self._turn(CircuitState.HALF_OPEN, reason, circuit.last)
                circuit, left = self._circuit, self._timeout
            if circuit.passed >= self._probes:
                raise self._refusal(f"is being tried by {self._probes} of its calls", left)
            circuit.passed += 1
        self._tell(change)
        return circuit

    def _ended(self, circuit: _Circuit, error: BaseException | None) -> None:
        """Count how a call ended; its own circuit may be over."""
        cancelled = isinstance(error, CANCELLED) or not isinstance(error, Exception)
        neither = error is not None and cancelled
        failed = isinstance(error, Exception) and not neither and self._is_failure(error)
        change = None
        with self._lock:
            if circuit is not self._circuit:
                return
            if neither:  # cancelled, or the program ends: that says nothing of what was called
                circuit.passed -= circuit.state is CircuitState.HALF_OPEN
            elif failed:
                circuit.failures += 1
                circuit.last = error
                if circuit.state is CircuitState.HALF_OPEN or circuit.failures >= self._threshold:
                    change = self._turn(CircuitState.OPEN, _words(circuit), error)
                    self._circuit.failures = circuit.failures
            else:
                circuit.failures = 0
                circuit.succeeded += 1
                half_open = circuit.state is CircuitState.HALF_OPEN
                if half_open and circuit.succeeded >= self._probes:
                    change = self._turn(CircuitState.CLOSED, f"{self._probes} of its calls passed")
        self._tell(change)

    def _turn(
        self, state: CircuitState, reason: str, last: BaseException | None = None
    ) -> CircuitChanged:
        old, now = self._circuit.state, self._clock()
        self._circuit = _Circuit(state, now, last=last)
        return CircuitChanged(now, self.name, old, state, reason)

    def _tell(self, change: CircuitChanged | None) -> None:
        if change is None or change.old is change.new:
            return
        for listener in list(self._listeners):
            try:
                listener(change)
            except Exception:  # it hurts nobody's call
                log.exception("a listener of %s raised", self.name)

    def _is_failure(self, error: Exception) -> bool:
        try:
            return self._fails(error)
        except Exception:  # the user's on=: what it was asked about is raised all the same
            log.exception("on= of %s raised", self.name)
            return True

    def _refusal(self, why: str, seconds: float) -> CircuitOpenError:
        return CircuitOpenError(
            f"{self.name} {why}, and lets no call through; try again in {seconds:.3g} s", seconds
        )


async def _in_thread(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a plain function in a thread, and await what it may return to be awaited."""
    returned = []
    context = copy_context()
    context.run(current_async_library_cvar.set, None)  # no loop runs in a thread

    def call() -> None:
        returned.append(context.run(fn, *args, **kwargs))

    await _runtime.current().to_thread.run_sync(_runtime.for_thread(call))
    value = returned[0]
    return await value if inspect.isawaitable(value) else value


def _words(circuit: _Circuit) -> str:
    count = circuit.failures
    last = "" if circuit.last is None else f", at last {type(circuit.last).__name__}"
    return f"{count} failure{'' if count == 1 else 's in a row'}{last}"


def _check_recovery(seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise ConfigurationError(
            f"CircuitBreaker: recovery_timeout={seconds!r:.80} ({type(seconds).__name__}) is no "
            f"time after which it recovers; give seconds, more than 0"
        )
    check_seconds("CircuitBreaker", "recovery_timeout", seconds)


def _failing(on: Any) -> Callable[[Exception], bool]:
    """Make a question of what ``on`` names."""
    if isinstance(on, type):
        on = (on,)
    if isinstance(on, tuple):
        if not on or not all(isinstance(each, type) and issubclass(each, Exception) for each in on):
            raise ConfigurationError(
                f"CircuitBreaker: on={on!r:.80} names no exception types; "
                f"give on=(ConnectionError, TimeoutError), or a function of the error"
            )
        return lambda error: isinstance(error, on)
    check_callable("CircuitBreaker: on", on)
    if is_async(on):
        raise ConfigurationError("CircuitBreaker: on= is an async function; give a plain one")
    return lambda error: bool(on(error))


def check_breaker(where: str, breaker: object) -> None:
    """Raise ConfigurationError unless ``breaker`` is None or a CircuitBreaker."""
    if breaker is not None and not isinstance(breaker, CircuitBreaker):
        raise ConfigurationError(
            f"{where}: breaker={breaker!r:.80} ({type(breaker).__name__}) is no CircuitBreaker; "
            f"give CircuitBreaker(failure_threshold=5, recovery_timeout=60), or leave it out"
        )
