"""Sample by how much this process and its descendants have grown since the first sample.

What was there before the first branch is not the branches' doing. The figure is the sum of
resident sizes, which costs little; a page that two processes share is in it twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import psutil

from anabranch.samplers._descendants import Descendants
from anabranch.samplers._host import size_mb
from anabranch.samplers._memory import MB


class OwnMemory:
    """Sample ``own_memory``: 0 at first, in bytes; from any thread.

    Args:
        processes: lists this process and its descendants.
    """

    def __init__(self, processes: Callable[[], Sequence[psutil.Process]] | None = None) -> None:
        self._processes = processes or Descendants().list
        self._lock = threading.Lock()
        self._before: float | None = None

    def sample(self) -> Mapping[str, float | None]:
        """Return what was added, at least 0; None where this process cannot read itself."""
        size = size_mb(self._processes)
        if size is None:
            return {"own_memory": None}
        with self._lock:
            if self._before is None:
                self._before = size
            return {"own_memory": max(0.0, size - self._before) * MB}
