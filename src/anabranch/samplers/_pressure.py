"""Sample pressure: the share of the time in which something that could run had to wait.

Linux tells it (PSI): the difference of ``some total=``, in microseconds, over the interval. The
averages beside it, ``avg10``, are late. The own group's file comes first, because the whole
machine's says nothing of a container with half a core. Where only that is to be had, or the quota
is one of version 1, which has no such file, the time that a quota held the group back counts too:
the larger of the two. Where there is nothing of all this, pressure is unknown.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from anabranch.samplers._cores import CoreLimit, quotas
from anabranch.samplers._differences import Differences, Growth
from anabranch.samplers._files import read, table, whole
from anabranch.samplers._groups import Groups

Reading = tuple[str, float]  # a file, and the seconds of waiting that it tells so far


class Pressure:
    """Sample ``cpu_pressure`` and ``memory_pressure``; from any thread.

    Args:
        groups: where the control groups are.
        clock: real seconds.
    """

    def __init__(
        self, groups: Groups | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._groups = groups or Groups()
        self._clock = clock
        self._lock = threading.Lock()
        self._differences = Differences[tuple[str, str]]()

    def sample(self) -> Mapping[str, float | None]:
        """Return both shares over the last half second or more."""
        with self._lock:
            found = {signal: read_waiting(self._groups, signal) for signal in SOURCES}
            known = {
                (signal, name): seconds
                for signal, readings in found.items()
                for name, seconds in readings
            }
            grown = self._differences.since(self._clock(), known)
        return {signal: _share(grown, signal, readings) for signal, readings in found.items()}


SOURCES = {"cpu_pressure": "cpu", "memory_pressure": "memory"}


def read_waiting(groups: Groups, signal: str) -> list[Reading]:
    """Return what tells a signal: a file or two, with their figures; empty where nothing does."""
    kind = SOURCES[signal]
    own = [group.folders[0] for group in groups.of(kind) if group.version == 2]
    machine = groups.root / "proc/pressure" / kind
    found: list[Reading] = []
    for file in [*(folder / f"{kind}.pressure" for folder in own), machine]:
        seconds = _some(read(file))
        if seconds is not None:
            found.append((str(file), seconds))
            break
    if kind == "cpu":
        apart = quotas(groups, 2) if not found or file == machine else []
        found += _held_back([*apart, *quotas(groups, 1)])
    return found


def _some(text: str) -> float | None:
    found = re.search(r"^some .*\btotal=(\d+)", text, re.MULTILINE)
    total = whole(found[1]) if found else None
    return None if total is None else total / 1e6


def _held_back(limits: list[CoreLimit]) -> list[Reading]:
    """Add up how long quotas held back; a file without a quota beside it always says 0."""
    files = [limit.folder / "cpu.stat" for limit in limits if limit.folder is not None]
    held = [seconds for file in files if (seconds := _held(file)) is not None]
    return [(str(files[0]), sum(held))] if held else []


def _held(file: Path) -> float | None:
    figures = table(file)
    if "throttled_usec" in figures:
        return figures["throttled_usec"] / 1e6
    return figures["throttled_time"] / 1e9 if "throttled_time" in figures else None


def _share(
    grown: Growth[tuple[str, str]] | None, signal: str, readings: list[Reading]
) -> float | None:
    if grown is None:
        return None
    keys = [(signal, name) for name, _ in readings]
    waited = max((grown.by[key] for key in keys if key in grown.by), default=None)
    return None if waited is None else min(1.0, waited / grown.seconds)
