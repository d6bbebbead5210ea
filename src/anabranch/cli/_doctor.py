"""Examine this machine, as a run would see it: ``anabranch doctor``.

Everything is read by the samplers that runs are regulated by, so what the doctor does not see no
run will. It needs neither a container nor a GPU nor a /proc: what is not there is a finding.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import anyio
import attrs

from anabranch._host import current_host
from anabranch.pipeline import ConcurrencyConfig
from anabranch.pipeline._adaptive import DEFAULT_LAW
from anabranch.pipeline._config import limit_for
from anabranch.samplers import Cpu, Descriptors, Groups, LoopLag, Nvml, Pressure, descriptors
from anabranch.samplers._cores import CoreLimit, core_limits
from anabranch.samplers._groups import ROOT
from anabranch.samplers._host import memory, size_mb
from anabranch.samplers._machine_memory import Room, rooms
from anabranch.samplers._nvml import Gpus
from anabranch.samplers._pressure import SOURCES, read_waiting

PARTS: Final = ("anabranch", "trio", "anyio", "uvloop", "psutil", "nvidia-ml-py", "attrs", "rich")
LOOPS: Final = ("trio", "asyncio")
LISTEN_S: Final = 0.3  # on each loop; CPU and pressure are differences over both


@attrs.frozen
class Findings:
    """Keep what was found; None is unknown. Shares are 0 to 1, sizes bytes, times seconds.

    Attributes:
        versions: by name; None for what is not installed.
        core_limits: whatever limits the cores. host_cpus: as other libraries count.
        memory: whatever limits memory, with its use. own_memory_mb: of this process.
        pressure_from: by signal, the files that tell it.
        loops: how late a short sleep ends, or why there is no such loop.
        initial, floor, ceiling, controller: of the limit of a step with ``ConcurrencyConfig()``.
    """

    versions: Mapping[str, str | None]
    core_limits: tuple[CoreLimit, ...]
    host_cpus: int
    cpu: float | None
    pressure: Mapping[str, float | None]
    pressure_from: Mapping[str, list[str]]
    memory: tuple[Room, ...]
    own_memory_mb: float | None
    gpus: Gpus
    descriptors: Descriptors
    loops: Mapping[str, float | str]
    initial: int
    floor: int
    ceiling: int
    controller: str

    @property
    def cores(self) -> CoreLimit:
        """What leaves the fewest cores."""
        return min(self.core_limits, key=lambda limit: limit.cores)

    @property
    def room(self) -> Room | None:
        """The memory with the least left."""
        return min(self.memory, key=lambda room: room.left, default=None)


def examine(
    root: Path = ROOT,
    *,
    listen: Callable[[str], float | str] | None = None,
    nvml: Nvml | None = None,
    host: Callable[[], tuple[float, float] | None] = memory,
    clock: Callable[[], float] = time.monotonic,
) -> Findings:
    """Read everything, within a second or two.

    Args:
        root: where ``/proc`` and ``/sys`` are. listen: measures the lag of the loop of that name.
        nvml: reads the GPUs. host: reads the host's memory. clock: real seconds.
    """
    groups = Groups(root)
    cpu, pressure = Cpu(groups, clock=clock), Pressure(groups, clock=clock)
    cpu.sample()
    pressure.sample()
    loops = {name: (listen or _listen)(name) for name in LOOPS}
    limits = tuple(core_limits(groups))
    found = {signal: read_waiting(groups, signal) for signal in SOURCES}
    adaptive = ConcurrencyConfig().adaptive()
    assert adaptive is not None, "the default config is adaptive"
    return Findings(
        versions=_versions(),
        core_limits=limits,
        host_cpus=os.cpu_count() or 1,
        cpu=cpu.sample()["cpu"],
        pressure=pressure.sample(),
        pressure_from={signal: [name for name, _ in each] for signal, each in found.items()},
        memory=tuple(rooms(groups, host)),
        own_memory_mb=size_mb(),
        gpus=(nvml or Nvml()).read(),
        descriptors=descriptors(root),
        loops=loops,
        initial=limit_for(min(limit.cores for limit in limits)),
        floor=adaptive.bounds.floor,
        ceiling=adaptive.bounds.ceiling,
        controller=DEFAULT_LAW,
    )


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
    }
    for name in PARTS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _listen(name: str) -> float | str:
    """Return how late short sleeps end on a loop of its own; why, if it cannot be opened."""
    try:
        lag = anyio.run(_lag, backend=name)
    except OSError as error:  # a loop needs descriptors
        return f"cannot be opened: {error.strerror or error}"
    return "no sleep of a tenth of a second has ended" if lag is None else lag


async def _lag() -> float | None:
    runtime = current_host().runtime
    lag = LoopLag(runtime, LISTEN_S / 10)
    async with runtime.open_nursery() as nursery:
        nursery.start_soon(lag.run)
        await runtime.sleep(LISTEN_S)
        found = lag.sample()["loop_lag"]
        nursery.cancel_scope.cancel(reason="measured")
    return found
