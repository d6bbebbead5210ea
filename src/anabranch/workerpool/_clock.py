"""Tell the time to threads in which no loop runs, and what people call that moment.

Only differences of ``monotonic`` are ever computed; the wall time is shown and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable

monotonic = time.monotonic


def wall_offset(clock: Callable[[], float] = monotonic) -> float:
    """Return what is added to a time of ``clock`` to show it as seconds since 1970."""
    return time.time() - clock()
