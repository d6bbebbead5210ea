"""Read the machine for the runs of one loop: in a thread, once for all who ask at the same time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from anabranch._host import Host
from anabranch._runtime import Runtime
from anabranch.samplers._cpu import CpuPercent
from anabranch.samplers._memory import memory_mb
from anabranch.samplers._tree import tree

FRESH_S = 0.05


@attrs.frozen
class Reading:
    """Tell what this process and its descendants took at one moment; None for what is unknown.

    Attributes:
        cpu_percent: 0 to 100 of the CPUs that affinity and cgroup allow.
        why: the reason for what is unknown, if there is one to tell.
    """

    memory_mb: float | None = None
    cpu_percent: float | None = None
    why: str = ""


class Gauge(Protocol):
    """Be read from time to time, by whoever has limits."""

    async def read(self, exact_above: float) -> Reading:
        """Read; memory may be told roughly (as too much) up to ``exact_above`` MB."""
        ...


class Meter:
    """Read this process tree."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._clock: Callable[[], float] = runtime.lowlevel.current_clock().current_time
        self._unbounded = runtime.CapacityLimiter(math.inf)  # the loop's threads are the user's
        self._cpu = CpuPercent()
        self._busy = threading.Lock()
        self._last: tuple[float, float, Reading] = (-math.inf, 0.0, Reading())
        self._under_way: Any = None  # an Event while somebody reads

    async def read(self, exact_above: float) -> Reading:
        """Return what is known, at most 50 ms old."""
        while True:
            at, exact, last = self._last
            does = exact <= exact_above or last.memory_mb is None or last.memory_mb <= exact_above
            if does and self._clock() - at < FRESH_S:
                return last
            if self._under_way is None:
                break
            await self._under_way.wait()
        done = self._under_way = self._runtime.Event()
        try:
            # Abandoned with the run: nobody waits for a machine that does not answer.
            reading: Reading = await self._runtime.to_thread.run_sync(
                self._read, exact_above, abandon_on_cancel=True, limiter=self._unbounded
            )
            self._last = self._clock(), exact_above, reading
        finally:
            self._under_way = None
            done.set()
        return reading

    def _read(self, exact_above: float) -> Reading:
        if not self._busy.acquire(blocking=False):
            return Reading(why="an earlier reading has not ended")
        try:
            processes = tree()
            memory = memory_mb(exact_above, processes)
            return Reading(memory, self._cpu.percent(processes))
        except Exception as error:  # no table, or a word of the kernel's that is new
            return Reading(why=repr(error))
        finally:
            self._busy.release()


def meter_of(host: Host) -> Gauge:
    """Return what reads the machine for the runs of a loop."""
    return host.part(Meter)
