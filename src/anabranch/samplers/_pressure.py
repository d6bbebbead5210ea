"""Sample pressure: the share of the time in which something that could run had to wait.

Linux tells it (PSI): the difference of ``some total=``, in microseconds, over the interval. The
averages beside it, ``avg10``, are late. The own group's file comes first, because the whole
machine's says nothing of a container with half a core. Where there is neither, the time that a
quota held the group back is the next best for CPU; where there is no quota either, it is unknown.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from anabranch.samplers._cores import quotas
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
            known = {(signal, name): seconds for signal, (name, seconds) in _known(found).items()}
            grown = self._differences.since(self._clock(), known)
        return {signal: _share(grown, signal, reading) for signal, reading in found.items()}


SOURCES = {"cpu_pressure": "cpu", "memory_pressure": "memory"}


def read_waiting(groups: Groups, signal: str) -> Reading | None:
    """Return the file that tells a signal, with what it tells; None where nothing does."""
    kind = SOURCES[signal]
    own = [group.folders[0] for group in groups.of(kind) if group.version == 2]
    files = [folder / f"{kind}.pressure" for folder in own]
    for file in [*files, groups.root / "proc/pressure" / kind]:
        seconds = _some(read(file))
        if seconds is not None:
            return str(file), seconds
    return _throttled(groups) if kind == "cpu" else None


def _some(text: str) -> float | None:
    found = re.search(r"^some .*\btotal=(\d+)", text, re.MULTILINE)
    total = whole(found[1]) if found else None
    return None if total is None else total / 1e6


def _throttled(groups: Groups) -> Reading | None:
    """Add up how long quotas held back; a file without a quota beside it always says 0."""
    files = [limit.folder / "cpu.stat" for limit in quotas(groups) if limit.folder is not None]
    held = [seconds for file in files if (seconds := _held(file)) is not None]
    return (str(files[0]), sum(held)) if held else None


def _held(file: Path) -> float | None:
    figures = table(file)
    if "throttled_usec" in figures:
        return figures["throttled_usec"] / 1e6
    return figures["throttled_time"] / 1e9 if "throttled_time" in figures else None


def _known(found: Mapping[str, Reading | None]) -> dict[str, Reading]:
    return {signal: reading for signal, reading in found.items() if reading is not None}


def _share(
    grown: Growth[tuple[str, str]] | None, signal: str, reading: Reading | None
) -> float | None:
    if grown is None or reading is None:
        return None
    waited = grown.by.get((signal, reading[0]))
    return None if waited is None else min(1.0, waited / grown.seconds)
