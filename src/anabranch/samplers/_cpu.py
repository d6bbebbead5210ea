"""Read how much of its CPUs this process tree uses, by differences of CPU seconds.

Not ``cpu_percent()``: that answers 0.0 the first time, and whenever another thread has just asked.
Here whoever asks sees the last half second, and what cannot be told yet is unknown, not 0.

The CPU seconds of a child that has ended are its parent's (``children_user``), so they stay in the
sum. Those of an orphan leave it: then the sum falls, and the reading is unknown once.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import psutil

from anabranch.samplers._cores import cores
from anabranch.samplers._differences import Differences
from anabranch.samplers._groups import Groups
from anabranch.samplers._tree import tree


class CpuPercent:
    """Tell the share of this process tree in the CPUs that it may use; from any thread.

    Args:
        clock: real seconds. available: how many CPUs affinity and cgroup allow.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        available: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._available = available or partial(cores, Groups())
        self._lock = threading.Lock()
        self._differences = Differences[str]()

    def percent(self, processes: Sequence[psutil.Process] | None = None) -> float | None:
        """Return 0 to 100, over the last half second or what there is of it; None when unknown.

        Args:
            processes: the tree, this process first, if the caller has it already.

        Raises:
            psutil.Error, OSError: the table of processes cannot be read.
        """
        with self._lock:
            seconds = [_seconds(each) for each in (tree() if processes is None else processes)]
            if not seconds or seconds[0] is None:
                return None
            used = {"used": math.fsum(each or 0.0 for each in seconds)}
            grown = self._differences.since(self._clock(), used)
        if grown is None or not grown.by:  # or a process took its seconds with it
            return None
        return min(100.0, 100.0 * grown.by["used"] / grown.seconds / self._available())


def _seconds(process: psutil.Process) -> float | None:
    """Return the CPU seconds of a process and of the children that it has waited for."""
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended, is a zombie, or is somebody else's
        return None
    return float(times.user + times.system + times.children_user + times.children_system)
