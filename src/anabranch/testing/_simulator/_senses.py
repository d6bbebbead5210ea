"""Read the simulated machine as samplers would: late, noisy, with gaps, and never the future."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from anabranch._load import SIGNALS
from anabranch.testing._simulator._words import Senses

if TYPE_CHECKING:
    from anabranch.testing._simulator._world import World

MOST: Final = 64
SHARES: Final = ("cpu", "cpu_pressure", "memory_pressure")
EXACT: Final = ("cores", "memory_total", "gpu_memory_total")
CALM: Final = 0.002  # seconds a loop is late when it has a core for itself
SLICE: Final = 0.003  # and for each thread before it in the line for a core

Reading = dict[str, float | None]


def evenly(values: Sequence[float]) -> tuple[float, ...]:
    """Pick at most 64 of the values, evenly."""
    count = len(values)
    if count <= MOST:
        return tuple(values)
    return tuple(values[i * count // MOST] for i in range(MOST))


class Sight:
    """Read a world; the first reading after a rest knows no CPU, for that is a difference."""

    def __init__(self, senses: Senses, rng: random.Random) -> None:
        self._senses = senses
        self._rng = rng
        self._before: tuple[float, float, float, float] | None = None
        self._readings: deque[tuple[float, Reading]] = deque()

    def rest(self, world: World) -> None:
        """Begin anew: the machine is looked at once before the first branch."""
        self._readings.clear()
        self._before = self._sums(world)

    def read(self, world: World) -> Reading:
        """Return what the samplers tell now."""
        readings = self._readings
        readings.append((world.now, self._true(world)))
        due = world.now - self._senses.late
        while len(readings) > 1 and readings[1][0] <= due + 1e-9:
            readings.popleft()
        if readings[0][0] > due + 1e-9:
            return dict.fromkeys(SIGNALS)
        return {name: self._seen(name, value) for name, value in readings[0][1].items()}

    def _seen(self, name: str, value: float | None) -> float | None:
        senses, rng = self._senses, self._rng
        lost = rng.random() < senses.missing
        noise = rng.gauss(1.0, senses.noise)
        if value is None or lost or name in senses.lacking:
            return None
        if name in EXACT:
            return value
        value = max(0.0, value * noise)
        return min(1.0, value) if name in SHARES else value

    def _true(self, world: World) -> Reading:
        sums, before = self._sums(world), self._before
        self._before = sums
        gone = sums[0] - before[0] if before else 0.0
        cores, pool, gpu = world.scenario.machine.cores, world.memory, world.gpu
        cpu = pressure = squeeze = None
        if before and gone > 0:
            cpu = (sums[1] - before[1]) / gone / cores
            pressure, squeeze = ((sums[i] - before[i]) / gone for i in (2, 3))
        return {
            "cores": cores,
            "cpu": cpu,
            "cpu_pressure": pressure,
            "memory_used": pool.used(world.now),
            "memory_total": pool.total,
            "memory_pressure": squeeze,
            "own_memory": pool.own(world.now),
            "gpu_memory_used": None if gpu is None else gpu.used(world.now),
            "gpu_memory_total": None if gpu is None else gpu.total,
            "loop_lag": (CALM + SLICE * max(0.0, world.cores.crowd - 1)) / world.cores.slow,
        }

    @staticmethod
    def _sums(world: World) -> tuple[float, float, float, float]:
        world.cores.repace(world.now)
        return world.now, world.cores.busy, world.cores.pressed, world.memory.pressed
