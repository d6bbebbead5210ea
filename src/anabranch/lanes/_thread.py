"""Keep the io lane: one limiter of threads for each loop, and how a call gets into a thread.

The threads are daemons of trio's cache under any loop, so a stuck function keeps no process
from ending.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from anabranch._host import Host
from anabranch._runtime import Runtime
from anabranch.abc import Limiter

log = logging.getLogger("anabranch")

IO_LIMIT = 64
SHOWN = 10  # abandoned branches that a warning names


class IoLane:
    """Bound the threads of one loop."""

    def __init__(self, runtime: Runtime) -> None:
        self.limiter: Limiter = runtime.CapacityLimiter(IO_LIMIT)
        # The runtime's own limiter for threads must not get in the way: tokens are held here.
        self.unbounded: Limiter = runtime.CapacityLimiter(math.inf)
        self._abandoned: dict[object, str] = {}  # threads that could not be stopped, their keys
        self._steps: Counter[int] = Counter()
        self._usual = 0  # how many pipelines run that want the usual limit, as most do
        self._pipelines: Counter[int] = Counter()  # the others, by what they want

    @property
    def abandoned(self) -> list[str]:
        """List the keys of the branches whose threads could not be stopped and still run."""
        return sorted(self._abandoned.values())

    def abandon(self, thread: object, key: str) -> None:
        """Count a thread that could not be stopped; it holds its place until it ends."""
        self._abandoned[thread] = key
        stuck, total = len(self._abandoned), self.limiter.total_tokens
        if 2 * stuck >= total:
            log.warning(
                "%d of %g threads of the io lane could not be stopped and still run: %s",
                stuck,
                total,
                ", ".join(self.abandoned[:SHOWN]),
            )

    def ended(self, thread: object) -> None:
        """Forget an abandoned thread: it has ended after all."""
        self._abandoned.pop(thread, None)

    @contextmanager
    def at_least(self, limit: int) -> Iterator[None]:
        """Raise the limit to ``limit`` for as long as the block runs: for a step."""
        self._steps[limit] += 1
        self._resize()
        try:
            yield
        finally:
            self._steps[limit] -= 1
            self._resize()

    def enter(self, limit: int) -> None:
        """Count a pipeline that wants ``limit`` threads, until ``leave``; the largest counts."""
        if limit == IO_LIMIT:
            self._usual += 1
            if self._pipelines:
                self._resize()
        else:
            self._pipelines[limit] += 1
            self._resize()

    def leave(self, limit: int) -> None:
        """Count a pipeline's end."""
        if limit == IO_LIMIT:
            self._usual -= 1
            if self._pipelines:
                self._resize()
        else:
            self._pipelines[limit] -= 1
            self._resize()

    def _resize(self) -> None:
        pipelines = [IO_LIMIT] if self._usual else []
        pipelines += [limit for limit, count in self._pipelines.items() if count]
        steps = [limit for limit, count in self._steps.items() if count]
        total = max([*steps, max(pipelines, default=IO_LIMIT)])
        if total != self.limiter.total_tokens:
            self.limiter.total_tokens = total


def io_lane(host: Host) -> IoLane:
    """Return the io lane of a loop."""
    return host.part(IoLane)
