"""Sample how many cores there are, and which share of them is in use: by whomever.

Two views, and the larger counts. The host's CPUs may be full of other people's work while this
container has used nothing of its quota; and a quota may be used up on a host that is idle.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

from anabranch.samplers._cores import core_limits
from anabranch.samplers._differences import Differences, Growth
from anabranch.samplers._files import number, table
from anabranch.samplers._groups import Groups
from anabranch.samplers._host import CpuTimes, allowed_cpus, cpu_times


class Cpu:
    """Sample ``cores`` and ``cpu``, the share of them in use; from any thread.

    Args:
        groups: where the control groups are.
        clock: real seconds.
        times: reads the CPU seconds of the host, of the CPUs that this process may run on.
    """

    def __init__(
        self,
        groups: Groups | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        times: Callable[[Groups], CpuTimes | None] | None = None,
    ) -> None:
        self._groups = groups or Groups()
        self._clock = clock
        self._times = times or _times
        self._lock = threading.Lock()
        self._differences = Differences[Hashable]()

    def sample(self) -> Mapping[str, float | None]:
        """Return the cores, and the share in use over the last half second or more."""
        limits = core_limits(self._groups)
        cores = min(limit.cores for limit in limits)
        allowed = {limit.folder: limit.cores for limit in limits if limit.folder is not None}
        with self._lock:
            times = self._times(self._groups)
            used, allowances = _groups_use(self._groups, allowed, cores)
            if times is not None:
                used |= {("busy", times.cpus): times.busy, ("total", times.cpus): times.total}
            grown = self._differences.since(self._clock(), used)
        if grown is None:
            return {"cores": cores, "cpu": None}
        shares = [*_host_share(grown, times), *_group_shares(grown, allowances)]
        return {"cores": cores, "cpu": min(1.0, max(shares)) if shares else None}


def _times(groups: Groups) -> CpuTimes | None:
    return cpu_times(groups, allowed_cpus())


def _groups_use(
    groups: Groups, allowed: Mapping[Path, float], cores: float
) -> tuple[dict[Hashable, float], dict[Path, float]]:
    """Return the CPU seconds of each group that has a quota and of the own one, and its cores."""
    used: dict[Hashable, float] = {}
    allowances: dict[Path, float] = {}
    accounts = [group.folders for group in groups.of("cpuacct") if group.version == 1]
    for group in groups.of("cpu"):
        for place, folder in enumerate(group.folders):
            if folder in allowed or not place:
                beside = [each[place] for each in accounts if len(each) == len(group.folders)]
                seconds = _v2(folder) if group.version == 2 else _v1([folder, *beside])
                if seconds is not None:
                    used[folder] = seconds
                    allowances[folder] = allowed.get(folder, cores)
    return used, allowances


def _v2(folder: Path) -> float | None:
    used = table(folder / "cpu.stat").get("usage_usec")
    return None if used is None else used / 1e6


def _v1(folders: list[Path]) -> float | None:
    """Read the file beside the quota, or that of the other tree, where the two are apart."""
    figures = (number(folder / "cpuacct.usage") for folder in folders)
    return next((used / 1e9 for used in figures if used is not None), None)


def _host_share(grown: Growth[Hashable], times: CpuTimes | None) -> list[float]:
    if times is None:
        return []
    busy, total = (grown.by.get((name, times.cpus)) for name in ("busy", "total"))
    return [busy / total] if busy is not None and total else []


def _group_shares(grown: Growth[Hashable], allowances: Mapping[Path, float]) -> list[float]:
    return [
        grown.by[folder] / grown.seconds / cores
        for folder, cores in allowances.items()
        if folder in grown.by
    ]
