"""Sample how late the host's own loop is: the mean lateness of short sleeps on it.

A branch that computes between two checkpoints holds everybody up; no table of the kernel tells.
A sleep that has not ended yet counts with what it is late already: while the loop is held, whoever
asks in a thread must not hear that all is well.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping

from anabranch._runtime import Runtime

PERIOD_S = 0.1
LONGEST_S = 10.0  # a laptop that was shut for the night was no busy loop


class LoopLag:
    """Sample ``loop_lag``, in seconds, while ``run`` runs on the loop; from any thread.

    Args:
        runtime: of the loop. period: seconds of each sleep.
    """

    def __init__(self, runtime: Runtime, period: float = PERIOD_S) -> None:
        self._sleep = runtime.sleep
        self._clock: Callable[[], float] = runtime.lowlevel.current_clock().current_time
        self._period = period
        self._late: deque[float] = deque(maxlen=1000)
        self._due = math.inf

    async def run(self) -> None:
        """Sleep, again and again, until it is cancelled."""
        try:
            while True:
                self._due = self._clock() + self._period
                await self._sleep(self._period)
                self._late.append(self._clock() - self._due)
        finally:
            self._due = math.inf

    def sample(self) -> Mapping[str, float | None]:
        """Return the mean since the last sample; None if no sleep was due since then."""
        late = [self._late.popleft() for _ in range(len(self._late))]
        overdue = self._clock() - self._due
        if overdue > 0:
            late.append(overdue)
        if not late:
            return {"loop_lag": None}
        return {"loop_lag": sum(min(LONGEST_S, max(0.0, each)) for each in late) / len(late)}
