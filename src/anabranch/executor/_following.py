"""Let the number of scripts that run follow the load, where they may wait.

The resource manager says whether one more may start at all; the regulator, with the usual law,
says how many are best at once, within the executor's limit.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from anabranch._counting import Counts, picked
from anabranch._host import current_host
from anabranch._load import Bounds
from anabranch._regulate import regulated
from anabranch.abc import Limiter, Sampler
from anabranch.controllers import named
from anabranch.errors import ScriptFailedError
from anabranch.samplers._cores import cores

T = TypeVar("T")

LAW = "weir"


class Scripts:
    """Count the scripts of one batch, for the law; in the loop's thread.

    Args:
        total: how many there are.
        ceiling: the most that may run at once; ``bounds`` begins with two for each core, as a step
            with a config does.
    """

    def __init__(self, total: int, ceiling: int) -> None:
        initial = max(1, min(ceiling, math.floor(2 * cores())))
        self.bounds = Bounds(ceiling=ceiling, initial=initial)
        self.limiter: Limiter = current_host().runtime.CapacityLimiter(initial)
        self._clock = current_host().clock
        self._queued = total
        self._running: dict[object, float] = {}
        self._peak = 0
        self.commit()

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run one script, counted; it holds a token of ours already."""
        token, began = object(), self._clock()
        self._queued = max(0, self._queued - 1)
        self._running[token] = began
        self._peak = max(self._peak, len(self._running))
        self._started += 1
        try:
            value = await call()
        except ScriptFailedError:
            self._failed += 1
            raise
        else:
            self._times.append(self._clock() - began)
            return value
        finally:
            del self._running[token]

    async def look(self, now: float, /) -> Counts:
        """Count up to now."""
        return Counts(
            in_use=len(self._running),
            peak=self._peak,
            queued=self._queued,
            started=self._started,
            finished=len(self._times),
            failed=self._failed,
            latencies=picked(self._times),
            ages=picked([now - began for began in self._running.values()]),
        )

    def commit(self) -> None:
        """Count from here on."""
        self._started = self._failed = 0
        self._times: list[float] = []
        self._peak = len(self._running)


@asynccontextmanager
async def following(scripts: Scripts, sampler: Sampler | None) -> AsyncIterator[None]:
    """Move the limit of a batch's own limiter as long as the block runs.

    Args:
        sampler: reads the machine; None for the usual ones.
    """
    samplers = None if sampler is None else (sampler,)
    law, host = named(LAW), current_host()
    limiter, bounds = scripts.limiter, scripts.bounds
    async with regulated(host, limiter, law, bounds, scripts, samplers=samplers):
        yield
