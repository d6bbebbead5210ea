"""Join several samplers: for each signal the scarcest of what they tell.

The least cores, the largest use and pressure. Of memory, in use and in all belong together: the
pair with the least left is taken whole, so that nobody's use is held against another's total.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from anabranch._load import SIGNALS
from anabranch.abc import Sampler
from anabranch.errors import ConfigurationError
from anabranch.samplers._checked import Checked, check_samplers
from anabranch.samplers._gpus import Nvml
from anabranch.samplers._loop_lag import LoopLag
from anabranch.samplers._machine_cpu import Cpu
from anabranch.samplers._machine_memory import Memory
from anabranch.samplers._once import Once
from anabranch.samplers._own_memory import OwnMemory
from anabranch.samplers._patience import LIMIT_S
from anabranch.samplers._pressure import Pressure

PAIRS: Final = (("memory_used", "memory_total"), ("gpu_memory_used", "gpu_memory_total"))
EXPECTED: Final = ("cpu", "cpu_pressure", "memory_total", "memory_pressure", "own_memory")
ENOUGH: Final = 3  # samples: what is told as a difference is unknown at first

Sample = Mapping[str, float | None]


class Scarcest:
    """Sample several samplers as one; from any thread.

    Each is checked: one that raises, hangs or tells nonsense tells nothing, and that is said once.

    Args:
        samplers: those, in any order. limit: seconds that a user's may take; all are asked at
            once, so several that hang cost no more than one.

    Raises:
        ConfigurationError: something that is no sampler, a limit that is no time.
    """

    def __init__(self, samplers: Iterable[Sampler], *, limit: float = LIMIT_S) -> None:
        several = isinstance(samplers, Iterable)
        given = check_samplers("Scarcest", tuple(samplers) if several else samplers)
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < inf:
            raise ConfigurationError(
                f"Scarcest: limit={limit!r:.80} ({type(limit).__name__}) is no time that a "
                f"sampler may take; give seconds above 0"
            )
        self._samplers = [Checked(each, _limit_of(each, limit)) for each in given]
        self._missing = Missing()

    def sample(self) -> Sample:
        """Return every signal by its name, None for what nobody knows."""
        asked = [each.begin() for each in self._samplers]
        found = scarcest([answer() for answer in asked])
        self._missing.look(found)
        return found

    def forget(self) -> None:
        """Begin anew: what own memory there is at the next sample was there before."""
        for each in self._samplers:
            if isinstance(each.sampler, (OwnMemory, Scarcest)):
                each.sampler.forget()


class Missing:
    """Say once which signals nobody knows here."""

    def __init__(self) -> None:
        self._once = Once(logging.INFO)
        self._lock = threading.Lock()
        self._samples = 0
        self._unknown = set(EXPECTED)

    def look(self, sample: Sample) -> None:
        """Look at one sample more."""
        with self._lock:
            if self._samples >= ENOUGH:
                return
            self._samples += 1
            self._unknown -= {name for name, value in sample.items() if value is not None}
            words = ", ".join(name for name in EXPECTED if name in self._unknown)
            done = self._samples == ENOUGH and words
        if done:
            self._once.say("missing", f"unknown here: {words}; anabranch doctor says what it costs")


def scarcest(samples: Iterable[Sample]) -> dict[str, float | None]:
    """Join samples whose values can be meant; every signal is in what is returned."""
    found: dict[str, float | None] = dict.fromkeys(SIGNALS)
    samples = list(samples)
    for name in SIGNALS:
        values = [value for each in samples if (value := each.get(name)) is not None]
        if values:
            found[name] = min(values) if name == "cores" or name.endswith("_total") else max(values)
    for used, total in PAIRS:
        pairs = [
            (whole - part, part, whole)
            for each in samples
            if (part := each.get(used)) is not None and (whole := each.get(total)) is not None
        ]
        if pairs:
            _, found[used], found[total] = min(pairs)
    return found


def _limit_of(sampler: Sampler, limit: float) -> float | None:
    """Return None for ours: they read small files, or have a limit themselves."""
    ours = (Cpu, LoopLag, Memory, Nvml, OwnMemory, Pressure, Scarcest)
    return None if type(sampler) in ours else limit
