"""Say when a call that failed is tried again, and after how long: a value and its law.

The law is ours. stamina's is private and its public ``Attempt.next_wait`` leaves the jitter out;
tenacity's asks for a state that reads its own clock. Both draw from the global generator,
and at ``wait_max`` both lose the jitter, so that whoever failed together comes back together.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

import attrs

from anabranch._options import exact_fields
from anabranch.errors import (
    ConfigurationError,
    DeadlockError,
    HostLoopError,
    UsageLimitExceededError,
)

# Retries that a step always has: so few bring nobody down, and most steps never need more.
ALWAYS = 100

Answer: TypeAlias = "bool | float | timedelta | None"
On: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], Answer]"


def _check_attempts(_: object, __: object, attempts: object) -> None:
    if isinstance(attempts, bool) or not isinstance(attempts, int):
        raise ConfigurationError(
            f"Retry: attempts={attempts!r} ({type(attempts).__name__}) is no number of attempts; "
            f"give a whole number, the first attempt counted"
        )
    if attempts < 1:
        raise ConfigurationError(
            f"Retry: attempts={attempts!r} calls nothing; give at least 1: the first one counts"
        )


def _check_wait(_: object, attribute: attrs.Attribute[Any], seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ConfigurationError(
            f"Retry: {attribute.name}={seconds!r} ({type(seconds).__name__}) is no number of "
            f"seconds; give one, 0 for none"
        )
    if not 0 <= seconds < math.inf:  # NaN is not, either
        raise ConfigurationError(
            f"Retry: {attribute.name}={seconds!r} is no time to wait; "
            f"give a finite number of seconds, 0 for none"
        )


def _to_kinds(on: Any) -> Any:
    """Make a tuple of exception types; leave a callable, and what ``_check_on`` refuses."""
    if isinstance(on, (list, set, frozenset)):
        return tuple(on)
    return (on,) if isinstance(on, type) else on


def _check_on(_: object, __: object, on: object) -> None:
    if isinstance(on, tuple):
        if not on:
            raise ConfigurationError("Retry: on=() never tries again; name what is tried again")
        for kind in on:
            _check_kind(kind)
        return
    if not callable(on):
        raise ConfigurationError(
            f"Retry: on={on!r:.80} ({type(on).__name__}) is neither exception types nor callable; "
            f"give on=(ConnectionError, TimeoutError), or a function of the error"
        )
    if inspect.iscoroutinefunction(on):
        raise ConfigurationError(
            f"Retry: on={on!r:.80} is an async function; give a plain one, which answers at once"
        )
    try:
        inspect.signature(on).bind(Exception())
    except ValueError:  # some builtins have no signature
        pass
    except TypeError as error:
        raise ConfigurationError(
            f"Retry: on={on!r:.80} cannot be called with the error alone ({error})"
        ) from None


def _check_kind(kind: object) -> None:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ConfigurationError(
            f"Retry: on= holds {kind!r:.80} ({type(kind).__name__}), which is no exception type; "
            f"give on=(ConnectionError, TimeoutError), or a function of the error"
        )
    if not issubclass(kind, Exception):
        raise ConfigurationError(
            f"Retry: on= holds {kind.__name__}, which is no Exception: a cancellation or an exit "
            f"is never tried again; name the errors that are"
        )


def _check_budget(retry: Retry, _: object, budget: object) -> None:
    if budget is None:
        return
    if isinstance(budget, bool) or not isinstance(budget, (int, float)):
        raise ConfigurationError(
            f"Retry: budget={budget!r} ({type(budget).__name__}) is no share of the branches; "
            f"give a fraction such as 0.2, or None for no bound"
        )
    if not 0 <= budget < math.inf:
        raise ConfigurationError(
            f"Retry: budget={budget!r} is no share of the branches; "
            f"give a fraction such as 0.2, or None for no bound"
        )
    if budget > max(1, retry.attempts - 1):
        hint = f": {budget / 100:g} for {budget:g} %" if budget <= 100 else ""
        raise ConfigurationError(
            f"Retry: budget={budget!r:.80} is more retries for each branch than attempts="
            f"{retry.attempts} has; it is a fraction{hint}, None for no bound"
        )


def _check_seed(_: object, __: attrs.Attribute[Any], seed: object) -> None:
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, str))):
        raise ConfigurationError(
            f"Retry: seed={seed!r} ({type(seed).__name__}) is no seed; "
            f"give a whole number or a string, or None for a jitter that differs each time"
        )


@exact_fields
@attrs.frozen
class Retry:
    """Try a call again that failed, and wait longer each time.

    Before attempt ``n + 1`` a branch waits ``wait * 2 ** (n - 1)`` seconds and up to ``jitter``
    more, evenly drawn; never more than ``wait_max``, where the draw is below it instead.
    It holds no token meanwhile.

    Args:
        attempts: how often the call is made at most, the first time counted.
        wait: seconds before the second attempt; 0 for none.
        wait_max: the most seconds before any.
        jitter: seconds that are drawn at random and added.
        on: the exception types that are tried again, a group of them if all in it are;
            or a function of the error, called on the loop: it answers whether,
            or with a number (or timedelta) after how many seconds instead.
        budget: the retries of a step or scheduler, as a share of the branches that it has begun
            and that may be tried again; past it a failure is final. 100 are always allowed,
            and as many as a single branch may need. None for no bound.
        seed: makes the jitter depend on nothing but it, the branch's key and the attempt.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    attempts: int = attrs.field(default=3, validator=_check_attempts)
    wait: float = attrs.field(default=0.1, validator=_check_wait)
    wait_max: float = attrs.field(default=5.0, validator=_check_wait)
    jitter: float = attrs.field(default=1.0, validator=_check_wait)
    on: On = attrs.field(
        default=(Exception,), converter=_to_kinds, validator=_check_on, kw_only=True
    )
    budget: float | None = attrs.field(default=0.2, validator=_check_budget, kw_only=True)
    seed: int | str | None = attrs.field(default=None, validator=_check_seed, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.wait > self.wait_max:
            raise ConfigurationError(
                f"Retry: wait={self.wait!r} is longer than wait_max={self.wait_max!r}; "
                f"raise wait_max, or wait less"
            )


def wait_after(retry: Retry, attempt: int, drawn: float) -> float:
    """Return the seconds to wait after ``attempt`` failed; ``drawn`` is a number from 0 to 1."""
    grown = retry.wait * 2.0 ** min(attempt - 1, 1000)  # a larger exponent overflows
    least = max(retry.wait, min(grown, retry.wait_max - retry.jitter))
    most = min(least + retry.jitter, retry.wait_max)
    return least + drawn * (most - least)


HOPELESS = (ConfigurationError, DeadlockError, HostLoopError, UsageLimitExceededError)


def draw(retry: Retry, key: str, attempt: int) -> float:
    """Draw a number from 0 to 1 for the wait after an attempt of a branch."""
    if retry.seed is None:
        return random.random()
    return random.Random(f"{retry.seed} {attempt} {key}").random()


def asked(retry: Retry, error: Exception) -> bool | float:
    """Ask ``on`` whether to try again after ``error``; a number is the seconds to wait.

    What the user's function raises goes through.
    """
    if isinstance(retry.on, tuple):
        # These come out the same each time, so they must be named to be tried again.
        hopeless = not any(issubclass(kind, HOPELESS) for kind in retry.on)
        if hopeless and isinstance(error, HOPELESS):
            return False
        return _is_one_of(error, retry.on)
    assert not isinstance(retry.on, type), "a type is made a tuple when it is given"
    answer = retry.on(error)
    if isinstance(answer, timedelta):
        answer = answer.total_seconds()
    if isinstance(answer, bool) or not isinstance(answer, (int, float)):
        return bool(answer)
    if not 0 <= answer < math.inf:
        raise ConfigurationError(
            f"Retry: on= answered {answer!r}, which is no time to wait; "
            f"answer True or False, or a finite number of seconds"
        )
    return float(answer)


def allowance(retry: Retry, begun: int) -> int:
    """Return how many retries there may be where ``begun`` branches have been begun."""
    return max(ALWAYS, retry.attempts - 1, math.floor((retry.budget or 0) * begun))


def _is_one_of(error: BaseException, kinds: tuple[type[Exception], ...]) -> bool:
    if isinstance(error, kinds):
        return True
    if not isinstance(error, BaseExceptionGroup):
        return False
    return all(_is_one_of(each, kinds) for each in error.exceptions)
