"""Define the values that go into the scheduler and come out of it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import Any

import attrs

from anabranch._options import exact_fields
from anabranch._retry import Retry
from anabranch.errors import ConfigurationError

LANES = ("auto", "inline", "io", "cpu")


OWN_CANCELS = (  # why a branch was cancelled that nobody of ours has cancelled
    "its own task was cancelled",
    "it raised CancelledError, and nobody had cancelled it",
)


class Status(StrEnum):
    """Say how a branch ended; a status is a string and compares as one."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    ABANDONED = "abandoned"


def check_seconds(where: str, option: str, value: object) -> None:
    """Raise ConfigurationError unless ``value`` is None or a positive number of seconds."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{where}: {option}={value!r} ({type(value).__name__}) is no number of seconds; "
            f"give a positive number, or None for none"
        )
    if not value > 0:  # NaN is not, either
        raise ConfigurationError(
            f"{where}: {option}={value!r} is not above 0 seconds; give a positive number, "
            f"or None for none"
        )
    if isinstance(value, int) and value > sys.float_info.max:
        raise ConfigurationError(
            f"{where}: {option}= is a number of {value.bit_length()} bits, more seconds than a "
            f"clock can count; give a smaller one, or None for none"
        )


def check_reason(where: str, reason: object) -> None:
    """Raise ConfigurationError unless ``reason`` says something: people read it in results."""
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError(
            f"{where}: reason={reason!r:.80} ({type(reason).__name__}) says nothing; "
            f"give a few words, or leave it out"
        )


def check_limit(where: str, option: str, value: object) -> None:
    """Raise ConfigurationError unless ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(
            f"{where}: {option}={value!r} ({type(value).__name__}) is no limit; "
            f"give a whole number of at least 1"
        )
    if value < 1:
        raise ConfigurationError(
            f"{where}: {option}={value!r} lets nothing run; give a whole number of at least 1"
        )


def check_callable(where: str, fn: object) -> None:
    """Raise ConfigurationError for what cannot be a branch."""
    if not callable(fn):
        raise ConfigurationError(
            f"{where}: {fn!r} ({type(fn).__name__}) is not callable; "
            f"give a function, or an async function"
        )
    if makes_generator(fn):
        raise ConfigurationError(
            f"{where}: {name_of(fn)} is a generator function, so a call of it would run nothing; "
            f"return a value instead of yielding, or iterate over it inside a function"
        )


def makes_generator(fn: object) -> bool:
    """Tell whether a call of ``fn`` makes a generator, of either kind, and runs nothing."""
    bare = _bare(fn)
    return inspect.isgeneratorfunction(bare) or inspect.isasyncgenfunction(bare)


def is_async(fn: object) -> bool:
    """Tell whether a call of ``fn`` gives a coroutine, by what can be seen before the call."""
    return inspect.iscoroutinefunction(_bare(fn))


def name_of(fn: object) -> str:
    """Return the name that people know ``fn`` by."""
    bare = fn.func if isinstance(fn, partial) else fn
    name = getattr(bare, "__qualname__", None) or getattr(bare, "__name__", None)
    return str(name) if name else repr(fn)


def _bare(fn: object) -> object:
    """Look through partials and at ``__call__``, as far as the function that will run."""
    bare = fn
    while isinstance(bare, partial):
        bare = bare.func
    if not (inspect.isroutine(bare) or inspect.isclass(bare)) and callable(bare):
        return type(bare).__call__
    return bare


def _check_key(_: object, __: object, key: Any) -> None:
    if not isinstance(key, str) or not key:
        raise ConfigurationError(
            f"Job: key={key!r} ({type(key).__name__}) is no name; give a string that is not empty"
        )


def _check_fn(job: Job, _: object, fn: Any) -> None:
    check_callable(f"Job {job.key!r}", fn)


def _to_args(args: Any) -> Any:
    """Make a tuple of what can be meant as one; ``_check_args`` refuses the rest."""
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        return args
    return tuple(args)


def _check_args(job: Job, _: object, args: Any) -> None:
    if not isinstance(args, tuple):
        raise ConfigurationError(
            f"Job {job.key!r}: args={args!r:.80} ({type(args).__name__}) is no sequence of "
            f"arguments; give a tuple: (x,) for one"
        )


def _check_kwargs(job: Job, _: object, kwargs: Any) -> None:
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise ConfigurationError(
            f"Job {job.key!r}: kwargs={kwargs!r:.80} ({type(kwargs).__name__}) is no mapping of "
            f"names; give a dict"
        )


def _check_priority(job: Job, _: object, priority: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise ConfigurationError(
            f"Job {job.key!r}: priority={priority!r} ({type(priority).__name__}) is no integer; "
            f"give one, larger is more urgent"
        )


def _check_timeout(job: Job, attribute: attrs.Attribute[Any], seconds: object) -> None:
    check_seconds(f"Job {job.key!r}", attribute.name, seconds)


def _check_lane(job: Job, _: object, lane: object) -> None:
    check_lane(f"Job {job.key!r}", lane)


def check_retry(where: str, retry: object) -> None:
    """Raise ConfigurationError unless ``retry`` is None or a Retry."""
    if retry is not None and not isinstance(retry, Retry):
        number = isinstance(retry, int) and not isinstance(retry, bool) and retry > 0
        raise ConfigurationError(
            f"{where}: retry={retry!r:.80} ({type(retry).__name__}) is no Retry; "
            f"give Retry(attempts={retry if number else 3}), or leave it out"
        )


def _check_retry(job: Job, _: attrs.Attribute[Any], retry: object) -> None:
    check_retry(f"Job {job.key!r}", retry)


def check_lane(where: str, lane: object) -> None:
    """Raise ConfigurationError unless ``lane`` names a lane or is one."""
    if isinstance(lane, str):
        if lane not in LANES:
            raise ConfigurationError(
                f"{where}: lane={lane!r} is none of {', '.join(LANES)}; give one of them, or a Lane"
            )
    elif isinstance(lane, type) or not inspect.iscoroutinefunction(getattr(lane, "run", None)):
        raise ConfigurationError(
            f"{where}: lane={lane!r} is no lane; give one of {', '.join(LANES)}, or an object "
            f"with an async method run(fn, args, kwargs)"
        )


def check_on_cancel(where: str, on_cancel: object) -> None:
    """Raise ConfigurationError unless ``on_cancel`` is one of its two words."""
    if on_cancel not in ("abandon", "wait"):
        raise ConfigurationError(
            f"{where}: on_cancel={on_cancel!r} is neither 'abandon' nor 'wait'; give one of them"
        )


def _check_on_cancel(job: Job, _: object, on_cancel: object) -> None:
    check_on_cancel(f"Job {job.key!r}", on_cancel)


@exact_fields
@attrs.frozen(eq=False)
class Job:
    """Describe a call that a scheduler has not accepted yet.

    Args:
        key: the name of the branch that the job becomes; unique among those that have not ended.
        fn: a function or async function; called as ``fn(*args, **kwargs)``.
        priority: larger is more urgent; first submitted first among equals.
        timeout: seconds from the start of the first call, not from queueing; attempts and the
            waits between them together.
        queue_timeout: seconds from acceptance to the start; a branch that has not begun by then
            is rejected.
        retry: a Retry: when it is called again after it failed.
        lane: ``auto`` (async functions inline, plain ones in threads), ``inline``,
            ``io`` (threads), ``cpu`` (processes), or a Lane.
        on_cancel: what a cancellation does to a thread, which cannot be stopped:
            ``abandon`` it (reported, its tokens held until it ends), or ``wait`` for it.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    key: str = attrs.field(validator=_check_key)
    fn: Callable[..., Any] = attrs.field(validator=_check_fn)
    args: tuple[Any, ...] = attrs.field(default=(), converter=_to_args, validator=_check_args)
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, validator=_check_kwargs)
    priority: int = attrs.field(default=0, kw_only=True, validator=_check_priority)
    timeout: float | None = attrs.field(default=None, kw_only=True, validator=_check_timeout)
    queue_timeout: float | None = attrs.field(default=None, kw_only=True, validator=_check_timeout)
    lane: Any = attrs.field(default="auto", kw_only=True, validator=_check_lane)
    retry: Retry | None = attrs.field(default=None, kw_only=True, validator=_check_retry)
    on_cancel: str = attrs.field(default="abandon", kw_only=True, validator=_check_on_cancel)


@attrs.frozen
class Usage:
    """Tell what was charged in a run.

    Attributes:
        cost_usd: US dollars, the nearest float to the exact sum. tokens: their number.
        custom: by the name of each unit of your own.
    """

    cost_usd: float = 0.0
    tokens: int = 0
    custom: Mapping[str, float] = attrs.field(factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"cost_usd": self.cost_usd, "tokens": self.tokens, "custom": dict(self.custom)}


@attrs.frozen
class Outcome:
    """Tell how one branch ended.

    Attributes:
        value: what the call returned; None unless it succeeded.
        error: what the call raised; None unless it failed or timed out.
        reason: the cause in words, for a branch that was stopped; else empty.
        attempts: how often the call was begun; 0 when it never was.
        attempt_errors: what earlier attempts raised, in order; ``error`` is what the last one did.
        queued_s: seconds from acceptance to the start, or to the end of one never started.
        ran_s: seconds from the start to the end; 0.0 when it never started.
        order: the place in the order of completion, from 0.
    """

    key: str
    status: Status
    value: Any = None
    error: BaseException | None = None
    reason: str = ""
    attempts: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    order: int = 0
    attempt_errors: tuple[BaseException, ...] = ()
