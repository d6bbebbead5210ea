"""Refuse what cannot be meant, in words that say what was seen."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION

from anabranch._work import check_callable
from anabranch.errors import ConfigurationError

WORDS = (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)


def check_task(
    where: str, name: object, fn: object, args: object, kwargs: object, priority: object
) -> None:
    """Raise ConfigurationError unless they describe a task."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"{where}: task_name={name!r} ({type(name).__name__}) is no name; "
            f"give a string that is not empty"
        )
    check_callable(where, fn)
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        raise ConfigurationError(
            f"{where}: args={args!r:.80} ({type(args).__name__}) is no sequence of arguments; "
            f"give a tuple: (x,) for one"
        )
    if kwargs is not None and not (
        isinstance(kwargs, Mapping) and all(isinstance(each, str) for each in kwargs)
    ):
        raise ConfigurationError(
            f"{where}: kwargs={kwargs!r:.80} ({type(kwargs).__name__}) is no mapping of names; "
            f"give a dict"
        )
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise ConfigurationError(
            f"{where}: priority={priority!r} ({type(priority).__name__}) is no integer; "
            f"give one, larger is more urgent"
        )


def check_wait(where: str, timeout: object) -> None:
    """Refuse what is no time to wait: ConfigurationError; 0 looks once."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ConfigurationError(
            f"{where}: timeout={timeout!r} ({type(timeout).__name__}) is no time to "
            f"wait; give seconds, or None to wait for ever"
        )
    if timeout > sys.float_info.max and isinstance(timeout, int):
        raise ConfigurationError(
            f"{where}: timeout= is a number of {timeout.bit_length()} bits, more seconds than a "
            f"clock can count; give a smaller one, or None to wait for ever"
        )


def check_word(where: str, return_when: object) -> None:
    """Raise ConfigurationError unless it is one of the three words of concurrent.futures."""
    if return_when not in WORDS:
        raise ConfigurationError(
            f"{where}: return_when={return_when!r} is none of {', '.join(WORDS)}; give one of them"
        )


def unknown(task_id: object) -> KeyError:
    """Make the error for an id that no task has, or none that is kept."""
    return KeyError(
        f"no task {task_id!r} is known: submit_task returns ids, and a pool whose config "
        f"says keep_results=n forgets all but the last n that ended"
    )
