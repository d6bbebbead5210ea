"""Say how a pool works: how many at once, how long, how often, in which loop, and what it keeps."""

from __future__ import annotations

import math
import sys
from typing import Any

import attrs

from anabranch._options import exact_fields
from anabranch._retry import Retry
from anabranch.errors import ConfigurationError

LOOPS = ("asyncio", "trio")


def check_count(where: str, option: str, value: object, least: int) -> None:
    """Raise ConfigurationError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(
            f"{where}: {option}={value!r} ({type(value).__name__}) is no number of anything; "
            f"give a whole number of at least {least}"
        )
    if value < least:
        word = f"{option} must be greater than {least - 1}" if least else f"{option} is negative"
        raise ConfigurationError(
            f"{where}: {word}: {value!r} was given; give a whole number of at least {least}"
        )


def check_seconds(where: str, option: str, value: object, *, zero: bool = False) -> None:
    """Raise ConfigurationError unless ``value`` is a finite number of seconds above 0, or 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{where}: {option}={value!r} ({type(value).__name__}) is no number of seconds"
        )
    if value > sys.float_info.max and isinstance(value, int):
        raise ConfigurationError(
            f"{where}: {option}= is a number of {value.bit_length()} bits, more seconds than a "
            f"clock can count; give a smaller one"
        )
    if not 0 <= value < math.inf or not (zero or value):
        least = "0 or more" if zero else "more than 0"
        raise ConfigurationError(
            f"{where}: {option}={value!r} is no time to wait; give seconds, {least}, and finite"
        )


def _workers(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_count("WorkerPoolConfig", attribute.name, value, 1)


def _count(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_count("WorkerPoolConfig", attribute.name, value, 0)


def _timeout(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        check_seconds("WorkerPoolConfig", attribute.name, value)


def _pause(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_seconds("WorkerPoolConfig", attribute.name, value, zero=True)


def _flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"WorkerPoolConfig: {attribute.name}={value!r} ({type(value).__name__}) is neither "
            f"True nor False; give one of them"
        )


def _kept(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        check_count("WorkerPoolConfig", attribute.name, value, 0)


def _loop(_: object, __: object, value: object) -> None:
    if value not in LOOPS:
        raise ConfigurationError(
            f"WorkerPoolConfig: loop={value!r} is no loop; give 'asyncio' or 'trio'"
        )


@exact_fields
@attrs.frozen
class WorkerPoolConfig:
    """Set the terms of every task of a pool.

    Args:
        max_workers: how many tasks run at once, at most.
        task_timeout_seconds: seconds from the start of a task's first attempt, all its attempts
            and the waits between them together; None for none.
        max_retries: how often a task that failed is called again: n + 1 attempts.
        backoff_base_seconds: the wait before the first retry; it doubles with each.
        backoff_max_seconds: the longest wait.
        enable_instrumentation: keep metrics for each task.
        keep_results: how many ended tasks can still be asked for; the oldest are forgotten first.
            None for all of them.
        loop: where async functions run: ``asyncio`` or ``trio``.
        backoff_jitter_seconds: the most that is added to a wait, evenly drawn.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    max_workers: int = attrs.field(default=50, validator=_workers)
    task_timeout_seconds: float | None = attrs.field(default=180.0, validator=_timeout)
    max_retries: int = attrs.field(default=3, validator=_count)
    backoff_base_seconds: float = attrs.field(default=1.0, validator=_pause)
    backoff_max_seconds: float = attrs.field(default=60.0, validator=_pause)
    enable_instrumentation: bool = attrs.field(default=True, validator=_flag)
    keep_results: int | None = attrs.field(default=None, validator=_kept)
    loop: str = attrs.field(default="asyncio", validator=_loop)
    backoff_jitter_seconds: float = attrs.field(default=0.0, validator=_pause, kw_only=True)

    def retry(self) -> Retry | None:
        """Return when a task is called again; None for never."""
        if not self.max_retries:
            return None
        longest = self.backoff_max_seconds
        return Retry(
            attempts=self.max_retries + 1,
            wait=min(self.backoff_base_seconds, longest),
            wait_max=longest,
            jitter=self.backoff_jitter_seconds,
            budget=None,
        )


def config_of(where: str, config: object, max_workers: object) -> WorkerPoolConfig:
    """Return the config of a pool that is given one, or how many workers it has, or neither.

    A whole number in the config's place is how many workers it has, as in ThreadPoolExecutor(5).

    Raises:
        ConfigurationError: neither of them can be meant, or both are given.
    """
    if max_workers is None and isinstance(config, int) and not isinstance(config, bool):
        config, max_workers = None, config
    if config is not None and not isinstance(config, WorkerPoolConfig):
        raise ConfigurationError(
            f"{where}: config={config!r:.80} ({type(config).__name__}) is no WorkerPoolConfig; "
            f"give one, or a number of workers"
        )
    if max_workers is None:
        return config or WorkerPoolConfig()
    check_count(where, "max_workers", max_workers, 1)
    if config is not None:
        raise ConfigurationError(
            f"{where}: max_workers={max_workers!r} is given beside {config!r:.80}, "
            f"which says it too; give one of them"
        )
    assert isinstance(max_workers, int), "it was checked"
    return WorkerPoolConfig(max_workers=max_workers)
