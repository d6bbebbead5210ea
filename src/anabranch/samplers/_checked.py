"""Check what a sampler tells: what cannot be meant is unknown, and said once.

A sampler may be a user's. It may raise, hang, tell percent where a share is meant, or NaN; none of
that may cost a run anything, or move a limit. Here, and nowhere else, such things become None.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from numbers import Real
from typing import Any

from anabranch._load import SIGNALS
from anabranch.abc import Sampler
from anabranch.errors import ConfigurationError
from anabranch.samplers._once import Once
from anabranch.samplers._patience import LIMIT_S, NoAnswerError, Patience

SHARES = ("cpu", "cpu_pressure", "memory_pressure")
TOTALS = ("memory_total", "gpu_memory_total")
LONGEST_LAG_S = 10.0  # a laptop that was shut
LEAST_TOTAL = 2**20  # bytes; less is some other unit
ROUNDING = 1e-6
MOST = 100  # entries of a sample; there are ten signals


class Checked:
    """Be a sampler that never raises and tells only what can be meant; from any thread.

    Args:
        sampler: whatever has ``sample()``.
        limit: seconds that it may take; None where it is known not to block.
    """

    def __init__(self, sampler: Sampler, limit: float | None = LIMIT_S) -> None:
        self.sampler = sampler
        self._patience = None if limit is None else Patience(sampler.sample, limit)
        self._once = Once()
        self._name = type(sampler).__name__

    def sample(self) -> Mapping[str, float | None]:
        """Return what can be used of a sample: known signals, each in its range, or None."""
        return self.begin()()

    def begin(self) -> Callable[[], Mapping[str, float | None]]:
        """Ask for a sample, and return what waits for it: several can be waited for at once."""
        ask = self.sampler.sample if self._patience is None else self._patience.begin()
        return partial(self._sample, ask)

    def _sample(self, ask: Callable[[], object]) -> Mapping[str, float | None]:
        try:
            return self._checked(ask())
        except NoAnswerError as error:
            self._say("hangs", f"{error}; its signals are unknown until it answers")
        except Exception as error:
            self._say(type(error).__name__, f"raised {_shown(error)}; its signals are unknown")
        return {}

    def _checked(self, sample: object) -> dict[str, float | None]:
        if not isinstance(sample, Mapping):
            if inspect.iscoroutine(sample):
                sample.close()
            self._say("no mapping", f"returned {sample!r:.80}; return {{'cpu': 0.5}} or the like")
            return {}
        return {
            name: self._signal(name, value)
            for name, value in islice(sample.items(), MOST)
            if self._is_known(name)
        }

    def _is_known(self, name: object) -> bool:
        if name in SIGNALS:
            return True
        near = difflib.get_close_matches(str(name)[:80], SIGNALS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SIGNALS)}"
        self._say(f"unknown {name!r:.80}", f"tells {name!r:.80}, which is no signal: {hint}")
        return False

    def _signal(self, name: str, value: object) -> float | None:
        if value is None:
            return None
        figure, wrong = _figure(value), wrong_with(name, value)
        if figure is None or wrong:
            self._say(f"{name} {wrong}", f"tells {name}={value!r:.80}, which {wrong}; unknown")
            return None
        if name in SHARES:
            return min(figure, 1.0)
        return min(figure, LONGEST_LAG_S) if name == "loop_lag" else figure

    def _say(self, topic: str, words: str) -> None:
        self._once.say(topic, f"sampler {self._name} {words}")


def check_samplers(where: str, samplers: object) -> tuple[Sampler, ...]:
    """Return what ``samplers=`` means: one sampler, or several.

    Raises:
        ConfigurationError: something without a ``sample()`` that can be called here.
    """
    given: Iterable[Any] = samplers if isinstance(samplers, (list, tuple)) else (samplers,)
    for each in given:
        hint = "give an object with sample() -> {'cpu': 0.5, ...}"
        if isinstance(each, type):
            hint = f"it is a class; give one of it: {each.__name__}()"
        elif isinstance(each, Sampler) and inspect.iscoroutinefunction(each.sample):
            hint = "its sample() is async, and is called in a thread; make it a plain function"
        elif isinstance(each, Sampler) and callable(each.sample):
            continue
        raise ConfigurationError(
            f"{where}: {each!r:.80} ({type(each).__name__}) is no sampler; {hint}"
        )
    return tuple(given)


def wrong_with(name: str, value: object) -> str:
    """Say what is wrong with what a sampler tells of a signal; nothing for what can be meant."""
    if value is None:
        return ""
    figure = _figure(value)
    return "is no number" if figure is None else _wrong(name, figure)


def _shown(error: Exception) -> str:
    """Return the beginning of an error's repr, which may be as broken as its sampler."""
    try:
        return f"{error!r:.200}"
    except Exception:
        return f"a {type(error).__name__} that cannot be shown"


def _figure(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _wrong(name: str, figure: float) -> str:
    """Say what is wrong with a figure; nothing for one that can be meant."""
    if not math.isfinite(figure):
        return "is not finite"
    if figure < 0:
        return "is negative"
    if name in SHARES and figure > 1 + ROUNDING:
        percent = f": is {figure / 100:g} meant?" if figure <= 100 else ""
        return f"is over 1; a share is 0 to 1, not percent{percent}"
    if name == "cores" and figure == 0:
        return "is nothing to run on; tell None for unknown"
    if name in TOTALS and figure < LEAST_TOTAL:
        return "is less than 1,048,576; sizes are bytes"
    return ""
