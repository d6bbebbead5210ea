"""Say of an exception how grave it is, what kind it is of, and what can be done about it.

A classifier is a value: a list of rules, the most special class first. ``with_rule`` makes another
one that knows more; ``Retry(on=classify.retries)`` tries again what that may help.
"""

from __future__ import annotations

import builtins
import errno
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias

import attrs

from anabranch._options import exact_fields
from anabranch.errors import (
    BranchCancelledError,
    BranchTimedOutError,
    CircuitOpenError,
    ConfigurationError,
    LaneError,
    MergeError,
    OutsideRunError,
    SchedulerClosedError,
    UsageLimitExceededError,
)


class Severity(StrEnum):
    """Say how much of a program an error concerns."""

    LOW = "low"  # one call, and another one may succeed
    MEDIUM = "medium"  # one call, and it will not
    HIGH = "high"  # a service or a resource, so other calls as well
    CRITICAL = "critical"  # the program


class Category(StrEnum):
    """Say what kind an error is of."""

    NETWORK = "network"
    TIMEOUT = "timeout"
    IO = "io"
    PERMISSION = "permission"
    RESOURCE = "resource"
    OVERLOAD = "overload"
    DATA = "data"
    CONFIGURATION = "configuration"
    CANCELLED = "cancelled"
    PROGRAM = "program"
    UNKNOWN = "unknown"


class Recovery(StrEnum):
    """Say what may help."""

    RETRY = "retry"  # the same call again, soon
    WAIT = "wait"  # the same call again, when what is overloaded has recovered
    FALLBACK = "fallback"  # something else in its place
    SKIP = "skip"  # going on without it
    ABORT = "abort"  # ending, and mending the program or its surroundings


def _word(kind: type[StrEnum], word: Any) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise ConfigurationError(
            f"ErrorClass: {word!r:.80} is no {kind.__name__.lower()}; give one of {', '.join(kind)}"
        ) from None


def _to_severity(word: Any) -> Any:
    return _word(Severity, word)


def _to_category(word: Any) -> Any:
    return _word(Category, word)


def _to_recovery(word: Any) -> Any:
    return _word(Recovery, word)


@exact_fields
@attrs.frozen
class ErrorClass:
    """Tell how grave an error is, of what kind, and what may help.

    Raises:
        ConfigurationError: a word that is none of theirs.
    """

    severity: Severity = attrs.field(converter=_to_severity)
    category: Category = attrs.field(converter=_to_category)
    recovery: Recovery = attrs.field(converter=_to_recovery)


def _class(severity: str, category: str, recovery: str) -> ErrorClass:
    return ErrorClass(Severity(severity), Category(category), Recovery(recovery))


UNKNOWN = _class("medium", "unknown", "fallback")
_CANCELLED = _class("low", "cancelled", "skip")
_FULL = _class("high", "resource", "wait")
_PROGRAM = _class("medium", "program", "abort")
_DATA = _class("medium", "data", "skip")
_NETWORK = _class("low", "network", "retry")
_OVERLOAD = _class("high", "overload", "wait")
_CONFIGURATION = _class("medium", "configuration", "abort")

Kind: TypeAlias = "type[BaseException]"
Told: TypeAlias = "ErrorClass | Callable[[Any], ErrorClass | None]"

_BY_NUMBER: Mapping[int, ErrorClass] = {
    **dict.fromkeys((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC), _FULL),
    **dict.fromkeys((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN), _NETWORK),
}


def _of_os(error: OSError) -> ErrorClass:
    return _BY_NUMBER.get(error.errno or 0, _class("medium", "io", "fallback"))


def _of_exit(error: BaseException) -> ErrorClass:
    """Class what is no Exception: an exit concerns the program, a cancellation nobody else."""
    exits = isinstance(error, (KeyboardInterrupt, SystemExit))
    return _class("critical", "cancelled", "abort") if exits else _CANCELLED


RULES: Mapping[Kind, Told] = {
    BaseException: _of_exit,
    Exception: UNKNOWN,
    OSError: _of_os,
    ConnectionError: _NETWORK,
    TimeoutError: _class("low", "timeout", "retry"),
    PermissionError: _class("medium", "permission", "abort"),
    FileNotFoundError: _class("medium", "io", "skip"),
    EOFError: _class("medium", "io", "retry"),
    MemoryError: _class("critical", "resource", "wait"),
    RecursionError: _PROGRAM,
    ArithmeticError: _DATA,
    LookupError: _DATA,
    ValueError: _DATA,
    **dict.fromkeys((AssertionError, AttributeError, ImportError, NameError), _PROGRAM),
    **dict.fromkeys((NotImplementedError, SyntaxError, TypeError), _PROGRAM),
    BranchCancelledError: _CANCELLED,
    BranchTimedOutError: _class("low", "timeout", "retry"),
    CircuitOpenError: _OVERLOAD,
    ConfigurationError: _CONFIGURATION,
    LaneError: _class("medium", "program", "fallback"),
    MergeError: _CONFIGURATION,
    **dict.fromkeys((OutsideRunError, SchedulerClosedError), _PROGRAM),
    UsageLimitExceededError: _class("high", "resource", "abort"),
}
GRAVE = (Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)


@attrs.frozen
class Classifier:
    """Class exceptions by rules; call it with one.

    Args:
        rules: an exception type to its class, or to a function of the error that returns it,
            or None where it knows no better than the rule of the next type up.
    """

    rules: Mapping[Kind, Told] = attrs.field(factory=lambda: RULES, repr=False)

    def __call__(self, error: BaseException) -> ErrorClass:
        """Class an error; of a group, the gravest in it.

        Raises:
            ConfigurationError: it is no exception, or a rule answers with something else.
        """
        if not isinstance(error, BaseException):
            raise ConfigurationError(
                f"classify: {error!r:.80} ({type(error).__name__}) is no exception; give one"
            )
        if isinstance(error, BaseExceptionGroup):
            told = [self(each) for each in error.exceptions]
            return max(told, key=lambda each: GRAVE.index(each.severity))
        for kind in type(error).__mro__:
            found = self.rules.get(kind)
            if callable(found):
                found = found(error)
            if found is not None:
                if not isinstance(found, ErrorClass):
                    raise ConfigurationError(
                        f"classify: the rule of {kind.__name__} answered {found!r:.80}; "
                        f"answer with an ErrorClass, or None"
                    )
                return found
        return UNKNOWN

    def with_rule(self, kind: Kind, told: Told) -> Classifier:
        """Return a classifier that knows one rule more.

        Raises:
            ConfigurationError: ``kind`` is no exception type, or ``told`` no class of errors.
        """
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(
                f"with_rule: {kind!r:.80} is no exception type; give one, such as ConnectionError"
            )
        if not (isinstance(told, ErrorClass) or builtins.callable(told)):
            raise ConfigurationError(
                f"with_rule: {told!r:.80} ({type(told).__name__}) is no ErrorClass; give "
                f"ErrorClass('low', 'network', 'retry'), or a function of the error"
            )
        return attrs.evolve(self, rules={**self.rules, kind: told})

    def retries(self, error: Exception) -> bool | float:
        """Tell whether another attempt may help, or after how many seconds: for ``Retry(on=)``."""
        if self(error).recovery not in (Recovery.RETRY, Recovery.WAIT):
            return False
        seconds = error.retry_after if isinstance(error, CircuitOpenError) else None
        return True if seconds is None else seconds


classify = Classifier()
