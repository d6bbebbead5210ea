"""Sample by how much this process and its descendants have grown since the first sample.

What was there before the first branch is not the branches' doing, so what each process held then
is taken off it, for as long as it lives. A child that had just begun then is taken to be theirs.
The figure is the sum of resident sizes, which costs little; a page that two processes share is in
it twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import psutil

from anabranch.samplers._descendants import Descendants
from anabranch.samplers._host import sizes_mb, started_at
from anabranch.samplers._memory import MB

YOUNG_S: Final = 2.0  # branches have begun a moment before; Linux tells a start to a second


class OwnMemory:
    """Sample ``own_memory``: bytes, near 0 at first; from any thread.

    Args:
        processes: lists this process and its descendants.
        clock: the wall's, by which processes tell when they were started.
    """

    def __init__(
        self,
        processes: Callable[[], Sequence[psutil.Process]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._processes = processes or Descendants().list
        self._clock = clock
        self._lock = threading.Lock()
        self._before: dict[psutil.Process, float] | None = None

    def forget(self) -> None:
        """Begin anew: what is there at the next sample was there before."""
        with self._lock:
            self._before = None

    def sample(self) -> Mapping[str, float | None]:
        """Return what was added, at least 0; None where this process cannot read itself."""
        sizes = sizes_mb(self._processes)
        if sizes is None:
            return {"own_memory": None}
        with self._lock:
            if self._before is None:
                self._before = self._old(sizes)
            before = self._before
        added = sum(max(0.0, size - before.get(each, 0.0)) for each, size in sizes.items())
        return {"own_memory": added * MB}

    def _old(self, sizes: Mapping[psutil.Process, float]) -> dict[psutil.Process, float]:
        """Return what this process holds, and the children that are not young."""
        itself = next(iter(sizes))
        young = self._clock() - YOUNG_S
        return {
            each: size for each, size in sizes.items() if each is itself or started_at(each) < young
        }
