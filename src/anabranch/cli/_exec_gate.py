"""Hold the next job back: while the machine is too busy, memory is short, or it is too early.

Only starts are held back, nothing that runs is touched. The load is how many threads want a CPU
at this moment; what was started within half a second counts as one more, since it is not seen yet,
so that not a whole herd passes at once.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Final

import psutil

from anabranch._host import Host
from anabranch.cli._exec_terms import Terms
from anabranch.samplers._cores import cores

LOOK_S: Final = 0.25
UNSEEN_S: Final = 0.5


class Gate:
    """Let one job after another through; ``why`` says what holds the next one back, if anything."""

    def __init__(self, terms: Terms, host: Host) -> None:
        self.why = ""
        self._host = host
        self._load = None if terms.load is None else terms.load.of(cores())
        self._memfree = terms.memfree
        self._delay = terms.delay
        self._started: deque[float] = deque()

    @property
    def always_open(self) -> bool:
        """Whether it never holds anything back."""
        return self._load is None and self._memfree is None and not self._delay

    async def passed(self) -> None:
        """Wait until the next job may start."""
        if self.always_open:
            return
        clock, sleep = self._host.clock, self._host.runtime.sleep
        if self._delay and self._started:
            await sleep(max(0.0, self._started[-1] + self._delay - clock()))
        while why := self._held_back(clock()):
            self.why = why
            await sleep(LOOK_S)
        self.why = ""
        self._started.append(clock())

    def _held_back(self, now: float) -> str:
        while len(self._started) > 1 and self._started[0] <= now - UNSEEN_S:
            self._started.popleft()
        if self._load is not None:
            unseen = sum(started > now - UNSEEN_S for started in self._started)
            load = wanting() + unseen
            if load > self._load:
                return f"load {load:g} of {self._load:g}"
        if self._memfree is not None:
            free = free_memory()
            if free < self._memfree:
                return f"{free / 1024**2:,.0f} of {self._memfree / 1024**2:,.0f} MB free"
        return ""


def free_memory() -> float:
    """Return how many bytes the system could give."""
    return float(psutil.virtual_memory().available)


def wanting(file: Path = Path("/proc/loadavg")) -> float:
    """Return how many threads run or wait for a CPU, without this one; elsewhere the load average.

    Raises:
        OSError: the system does not tell.
    """
    try:
        running = file.read_text().split()[3].partition("/")[0]
        return max(0.0, float(running) - 1)
    except (OSError, ValueError, IndexError):  # no Linux
        return psutil.getloadavg()[0]
