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
from collections import deque
from collections.abc import Callable, Sequence

import psutil

from anabranch.samplers._cores import cores
from anabranch.samplers._tree import tree

WINDOW_S = 0.5  # a kernel counts in hundredths of a second, so less would be mostly noise
SHORTEST_S = 0.05
STALE_S = 5.0  # nobody has asked for so long: what was seen then says nothing of now


class CpuPercent:
    """Tell the share of this process tree in the CPUs that it may use; from any thread.

    Args:
        clock: real seconds. available: how many CPUs affinity and cgroup allow.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        available: Callable[[], float] = cores,
    ) -> None:
        self._clock = clock
        self._available = available
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, float]] = deque()  # when, and CPU seconds by then

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
            return self._since(self._clock(), math.fsum(each or 0.0 for each in seconds))

    def _since(self, now: float, used: float) -> float | None:
        seen = self._seen
        if seen and (used < seen[-1][1] or now - seen[-1][0] > STALE_S):
            seen.clear()  # a process took its seconds with it, or it is too long ago
        while len(seen) > 1 and seen[1][0] <= now - WINDOW_S:
            seen.popleft()
        if not seen or now > seen[-1][0]:
            seen.append((now, used))
        began, before = seen[0]
        if now - began < SHORTEST_S:
            return None
        return min(100.0, 100.0 * (used - before) / (now - began) / self._available())


def _seconds(process: psutil.Process) -> float | None:
    """Return the CPU seconds of a process and of the children that it has waited for."""
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended, is a zombie, or is somebody else's
        return None
    return float(times.user + times.system + times.children_user + times.children_system)
