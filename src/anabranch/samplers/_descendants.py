"""List this process's descendants, seldom enough that it costs next to nothing.

What was found is kept for five hundred times the CPU time that it took to find, at most ten
seconds: a fifth of a percent of a core, whatever the machine runs. So long a new child may go
unseen, and is taken for somebody else: a tenth of a second on Linux, where each process tells whom
it has started, and a second or more where psutil must look at every process there is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psutil

from anabranch.samplers._tree import tree

PAUSES = 500
LONGEST_PAUSE_S = 10.0


class Descendants:
    """Remember this process and its descendants; some may have ended. From any thread.

    Args:
        walk: reads the table of processes.
        clock: real seconds. spent: seconds of CPU of this thread: others may make it wait.
    """

    def __init__(
        self,
        walk: Callable[[], list[psutil.Process]] = tree,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._walk = walk
        self._clock = clock
        self._spent = spent
        self._lock = threading.Lock()
        self._processes: list[psutil.Process] = []
        self._again = float("-inf")

    def list(self) -> Sequence[psutil.Process]:
        """Return this process first, then its descendants.

        Raises:
            psutil.Error, OSError: the table of processes cannot be read.
        """
        with self._lock:
            if self._clock() >= self._again:
                began = self._spent()
                self._processes = self._walk()
                took = self._spent() - began
                self._again = self._clock() + min(LONGEST_PAUSE_S, PAUSES * took)
            return self._processes
