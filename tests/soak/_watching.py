"""Watch what a process has while it is soaked, and tell what never comes back.

Threads, child processes and descriptors are compared before and after each round, when all is
quiet: whatever is new then has leaked. Memory needs a course: of the anabranch objects that live,
the fewest in the last third are compared with the most in the first; of the process's own memory
the medians, for an allocator gives nothing back in a hurry.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections import Counter
from contextlib import suppress
from statistics import median

import attrs
import psutil

from tests.leaks import Snapshot, leaks, snapshot

QUIET_S = 15.0  # an abandoned thread, an idle hand and a killed process need a moment to end
JUDGED_FROM = 12  # samples, below which no course can be told
GROWTH = 1.10
GROWTH_MB = 12.0
OBJECTS = 50


@attrs.frozen
class Sample:
    """Tell what there was at one moment of quiet."""

    at: float
    memory_mb: float
    threads: int
    children: int
    descriptors: int
    objects: Counter[str] = attrs.field(repr=False)


def wait_for_quiet(before: Snapshot, patience: float = QUIET_S) -> Snapshot:
    """Wait until nothing is there that was not before; return what stays all the same."""
    give_up = time.monotonic() + patience
    while left := leaks(before):
        if time.monotonic() > give_up:
            return left
        gc.collect()
        time.sleep(0.02)
    return {}


def sample(began: float) -> Sample:
    """Collect garbage, and look."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)
    there = snapshot()
    return Sample(
        time.monotonic() - began,
        psutil.Process().memory_info().rss / 2**20,
        len(there["thread"]),
        len(there["process"]),
        len(there["descriptor"]),
        _objects(),
    )


def _objects() -> Counter[str]:
    """Count the objects of our classes that live."""
    found: Counter[type] = Counter(map(type, gc.get_objects()))
    ours: Counter[str] = Counter()
    for kind, count in found.items():
        module = getattr(kind, "__module__", None)
        if isinstance(module, str) and module.partition(".")[0] == "anabranch":
            ours[f"{module}.{kind.__qualname__}"] += count
    return ours


def growth(samples: list[Sample]) -> list[str]:
    """Tell what has grown from the first third of the samples to the last."""
    if len(samples) < JUDGED_FROM:
        return []
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    told = []
    before = median(each.memory_mb for each in first)
    after = median(each.memory_mb for each in last)
    if after > before * GROWTH and after > before + GROWTH_MB:
        told.append(f"memory grows: {before:.0f} MB in the first third, {after:.0f} in the last")
    for name in sorted(set().union(*(each.objects for each in last))):
        most = max(each.objects[name] for each in first)
        least = min(each.objects[name] for each in last)
        if least > most + OBJECTS:
            told.append(f"objects pile up: {name}, {most} at most at first, {least} at least now")
    return told
