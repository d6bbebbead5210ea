"""Check a sampler of one's own: known signals in their units, soon, from any thread."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

from anabranch._load import SIGNALS
from anabranch.abc import Sampler
from anabranch.errors import ConfigurationError
from anabranch.samplers._checked import wrong_with
from anabranch.samplers._patience import LIMIT_S
from anabranch.testing._promises import Promises, claim

TIMES = 5  # samples, and threads at once


def check_sampler(sampler: Sampler) -> None:
    """Check that a sampler tells only what can be meant, in time, whoever asks.

    Args:
        sampler: an object with ``sample()``; it is asked some ten times.

    Raises:
        ConformanceError: it breaks a promise; all of them are named.
        ConfigurationError: what has no plain ``sample()``.
    """
    sample = getattr(sampler, "sample", None)
    if isinstance(sampler, type) or not callable(sample) or inspect.iscoroutinefunction(sample):
        raise ConfigurationError(
            f"check_sampler: {sampler!r:.80} ({type(sampler).__name__}) has no plain sample(); "
            f"give an object with one"
        )
    promises = Promises(sampler, "sampler")
    told: list[Any] = []
    promises.keep(f"it answers within {LIMIT_S:g} s", lambda: told.extend(_asked(sampler, 1)))
    if told:
        promises.keep(
            f"{TIMES} threads may ask it at once", lambda: told.extend(_asked(sampler, TIMES))
        )
        promises.keep("it tells a mapping", lambda: _see_mappings(told))
        promises.keep("it tells signals that there are", lambda: _see_names(told))
        promises.keep("it tells values that can be meant", lambda: _see_values(told))
    promises.done()


def _asked(sampler: Sampler, count: int) -> list[Any]:
    """Ask from so many threads at once."""
    told: list[Any] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            told.append(sampler.sample())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    if errors:
        raise errors[0]
    claim(len(told) == count, f"{count - len(told)} of {count} had no answer by then")
    return told


def _see_mappings(told: list[Any]) -> None:
    for each in told:
        claim(isinstance(each, Mapping), f"{each!r:.80} ({type(each).__name__})")


def _see_names(told: list[Any]) -> None:
    for name in _signals(told):
        claim(name in SIGNALS, f"{name!r:.80}; there are {', '.join(SIGNALS)}")


def _see_values(told: list[Any]) -> None:
    for name, values in _signals(told).items():
        for value in values:
            wrong = wrong_with(str(name), value)
            claim(not wrong, f"{name}={value!r:.80} {wrong}")


def _signals(told: list[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for each in told:
        for name, value in each.items() if isinstance(each, Mapping) else ():
            found.setdefault(name, []).append(value)
    return found
