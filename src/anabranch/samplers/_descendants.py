"""List this process's descendants without looking at every process of the machine each time.

psutil reads the parent of each process there is: a thousandth of a second for a hundred of them.
So what was found is kept for five hundred times as long as it took to find, at most ten seconds:
a fifth of a percent of a core, whatever the machine runs. So long a new child may go unseen.
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
        clock: real seconds.
    """

    def __init__(
        self,
        walk: Callable[[], list[psutil.Process]] = tree,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._walk = walk
        self._clock = clock
        self._lock = threading.Lock()
        self._processes: list[psutil.Process] = []
        self._again = float("-inf")

    def list(self) -> Sequence[psutil.Process]:
        """Return this process first, then its descendants.

        Raises:
            psutil.Error, OSError: the table of processes cannot be read.
        """
        with self._lock:
            began = self._clock()
            if began >= self._again:
                self._processes = self._walk()
                ended = self._clock()
                self._again = ended + min(LONGEST_PAUSE_S, PAUSES * (ended - began))
            return self._processes
