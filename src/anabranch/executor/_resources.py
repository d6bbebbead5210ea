"""Say whether the machine has room for one more script.

A load seen late admits a herd: twenty scripts on a machine at 79 % would all pass a threshold of
80 % before the first of them shows. So a script that has started counts as load by its learned
share until a sample was taken after its start.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import attrs

from anabranch._host import current_host
from anabranch._options import exact
from anabranch.abc import Sampler
from anabranch.errors import ConfigurationError
from anabranch.executor._reserve import Reserve
from anabranch.lanes._thread import io_lane
from anabranch.samplers import Cpu, Memory, Nvml, Scarcest

T = TypeVar("T")

GB = 2**30
MOST_GB = 100_000
SHARED_S = 0.05  # how old a sample may be that another one took
AGAIN_S = 0.2
FIRST_S = 0.1  # between the first two readings: a share of time is a difference


@attrs.frozen
class Room:
    """Tell what a sample says of the room for one more script."""

    ok: bool
    reason: str | None
    guessed: bool = False  # refused for what has just started, and may turn out lighter
    never: bool = False  # waiting cannot help


class ResourceManager:
    """Check CPU and memory before a script starts; from any thread.

    Args:
        cpu_threshold_percent: 0 to 100 of the CPUs that this container may use; above it, no room.
        memory_required_gb: what must be available, in units of 2^30 bytes.
        gpu_memory_required_gb: the same of the scarcest visible GPU; None for no such check.
        sampler: reads the machine; None for the CPUs, memory and GPUs of this container or machine.
        What it cannot tell is not checked.

    Raises:
        ConfigurationError: a figure that cannot be meant.
    """

    @exact("ResourceManager")
    def __init__(
        self,
        cpu_threshold_percent: float = 80.0,
        memory_required_gb: float = 4.0,
        *,
        gpu_memory_required_gb: float | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        _check_percent(cpu_threshold_percent)
        _check_gb("memory_required_gb", memory_required_gb)
        if gpu_memory_required_gb is not None:
            _check_gb("gpu_memory_required_gb", gpu_memory_required_gb)
        self.cpu_threshold_percent = float(cpu_threshold_percent)
        self.memory_required_gb = float(memory_required_gb)
        self.gpu_memory_required_gb = gpu_memory_required_gb
        usual: tuple[Sampler, ...] = (Cpu(), Memory())
        if gpu_memory_required_gb is not None:
            usual = (*usual, Nvml())
        self.own_sampler = sampler  # None where the machine is read as usual
        self._sampler = Scarcest(usual if sampler is None else (sampler,))
        self._lock = threading.Lock()
        self._sampling = threading.Lock()
        self._last: tuple[float, dict[str, float | None]] = (-math.inf, {})
        self._reserve = Reserve()

    def check_resources_available(self) -> tuple[bool, str | None]:
        """Tell whether one more may start now, and if not, why; the first call takes 0.1 s."""
        room = self.look()
        return room.ok, room.reason

    async def check_resources(self) -> bool:
        """Tell whether one more may start now; reads the machine beside the loop."""
        room: Room = await in_thread(self.look)
        return room.ok

    def get_system_stats(self) -> dict[str, Any]:
        """Return ``cpu_percent`` and sizes in units of 2^30 bytes; None is unknown.

        The keys: cpu_percent, cpu_count, memory_total_gb, memory_available_gb, memory_percent,
        and gpu_memory_total_gb, gpu_memory_available_gb where GPUs are checked.
        """
        return self._stats(self._sample()[1])

    def look(self) -> Room:
        """Read the machine, and judge whether there is room; blocks for a moment."""
        at, sample = self._sample()
        with self._lock:
            return self._look(at, self._stats(sample))

    def admit(self) -> tuple[Room, Callable[[], None]]:
        """Look, and where there is room count one more script as started, until it is called."""
        at, sample = self._sample()
        with self._lock:  # of those who look at once, each sees who was let in before
            room = self._look(at, self._stats(sample))
            token = self._reserve.start(time.monotonic()) if room.ok else None
        return room, partial(self._ended, token)

    def _ended(self, token: object) -> None:
        with self._lock:
            self._reserve.end(token, time.monotonic())

    def _look(self, at: float, stats: dict[str, Any]) -> Room:
        self._reserve.seen(at, stats)
        cpu, memory_gb = self._reserve.held(at)
        bare = self._judge(stats, 0.0, 0.0)
        if not bare.ok or not (cpu or memory_gb):
            return bare
        full = self._judge(stats, cpu, memory_gb)
        return full if full.ok else attrs.evolve(full, guessed=True)

    def _sample(self) -> tuple[float, dict[str, float | None]]:
        """Return a sample, and when it was taken."""
        with self._sampling:  # those who ask at once share one
            if time.monotonic() - self._last[0] > SHARED_S:
                if self._last[0] == -math.inf:
                    self._sampler.sample()
                    time.sleep(FIRST_S)
                at = time.monotonic()
                self._last = at, dict(self._sampler.sample())
            return self._last

    def _stats(self, seen: dict[str, float | None]) -> dict[str, Any]:
        cpu, total, used = seen.get("cpu"), seen.get("memory_total"), seen.get("memory_used")
        stats: dict[str, Any] = {
            "cpu_percent": None if cpu is None else 100 * cpu,
            "cpu_count": seen.get("cores"),
            "memory_total_gb": None if total is None else total / GB,
            "memory_available_gb": _left(total, used),
            "memory_percent": None if total is None or used is None else 100 * used / total,
        }
        if self.gpu_memory_required_gb is not None:
            total, used = seen.get("gpu_memory_total"), seen.get("gpu_memory_used")
            stats["gpu_memory_total_gb"] = None if total is None else total / GB
            stats["gpu_memory_available_gb"] = _left(total, used)
        return stats

    def _judge(self, stats: dict[str, Any], cpu: float, memory_gb: float) -> Room:
        percent = stats["cpu_percent"]
        if percent is not None and percent + cpu > self.cpu_threshold_percent:
            return Room(False, _too_high(percent, cpu, self.cpu_threshold_percent))
        total = stats["memory_total_gb"]
        if total is not None and total < self.memory_required_gb:
            words = f"Not enough memory: {total:.1f} GB in all (required: "
            return Room(False, f"{words}{self.memory_required_gb:.1f} GB)", never=True)
        needs = [("memory", stats["memory_available_gb"], self.memory_required_gb, memory_gb)]
        if self.gpu_memory_required_gb is not None:
            left = stats["gpu_memory_available_gb"]
            needs.append(("GPU memory", left, self.gpu_memory_required_gb, 0.0))
        for what, left, required, reserved in needs:
            if left is not None and left - reserved < required:
                return Room(
                    False,
                    f"Not enough {what}: {max(0.0, left - reserved):.1f} GB available "
                    f"(required: {required:.1f} GB)",
                )
        return Room(True, None)


async def admitted(
    manager: ResourceManager,
    *,
    waits: bool,
    patience: float | None = None,
    busy: Callable[[], bool] = bool,
) -> tuple[str | None, Callable[[], None]]:
    """Ask whether one more script may start; with ``waits``, until it may.

    What only a guess speaks against is waited for in any case: the next sample tells.

    Args:
        patience: seconds that are waited at most while nothing of the caller's own runs, whose end
            would make room; None for ever.
        busy: tells whether something does.

    Returns:
        why not, None if it may; and what to call when it has ended.
    """
    host = current_host()
    alone_since: float | None = None
    while True:
        room, ended = await in_thread(manager.admit)
        if room.ok:
            return None, ended
        if room.never or not (room.guessed or waits):
            return room.reason, ended
        now = host.clock()
        alone_since = None if busy() else alone_since if alone_since is not None else now
        if patience is not None and alone_since is not None and now - alone_since >= patience:
            return f"{room.reason}, for {patience:g} s (timeout=)", ended
        await host.runtime.sleep(AGAIN_S)


async def in_thread(fn: Callable[[], T]) -> T:
    """Call a function that reads the machine, beside the loop."""
    host = current_host()
    answer: T = await host.runtime.to_thread.run_sync(fn, limiter=io_lane(host).unbounded)
    return answer


def _too_high(percent: float, reserved: float, threshold: float) -> str:
    words = f"CPU usage too high: {min(100.0, percent + reserved):.1f}% "
    if reserved:
        words += f"({reserved:.1f}% of it for scripts that have just started; "
        return words + f"threshold: {threshold:.1f}%)"
    return words + f"(threshold: {threshold:.1f}%)"


def _left(total: float | None, used: float | None) -> float | None:
    return None if total is None or used is None else max(0.0, total - used) / GB


def _check_percent(given: object) -> None:
    percent = _number(given)
    if percent is None or not 0 < percent <= 100:
        raise ConfigurationError(
            f"ResourceManager: cpu_threshold_percent={given!r} is no threshold; "
            f"give a number above 0 and up to 100"
        )
    if percent <= 1:
        raise ConfigurationError(
            f"ResourceManager: cpu_threshold_percent={given!r} is a fraction where percent are "
            f"meant; give {100 * percent:g}"
        )


def _check_gb(name: str, given: object) -> None:
    size = _number(given)
    if size is None or not 0 <= size < math.inf:
        raise ConfigurationError(
            f"ResourceManager: {name}={given!r} is no size; give GB (2^30 bytes), 0 for no check"
        )
    if size > MOST_GB:
        raise ConfigurationError(
            f"ResourceManager: {name}={given!r} GB is more than a machine has; "
            f"give units of 2^30 bytes"
        )


def _number(given: object) -> float | None:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        return None
    return float(given)
