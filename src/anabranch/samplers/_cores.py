"""Count the cores that this process may use: the least of affinity, cpusets and quotas."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from anabranch.samplers._files import number, ranges, read, whole
from anabranch.samplers._groups import Groups


@attrs.frozen
class CoreLimit:
    """Say how many cores something leaves, and what.

    Attributes:
        cores: a quota of half a core is 0.5.
        source: a file, or "affinity".
        folder: of a quota: the group that has it.
    """

    cores: float
    source: str
    folder: Path | None = None


def cores(groups: Groups | None = None) -> float:
    """Return the cores of this process; a quota of half a core is 0.5."""
    return min(limit.cores for limit in core_limits(groups))


def core_limits(groups: Groups | None = None) -> list[CoreLimit]:
    """List whatever limits the cores of this process; affinity comes first, and is always there."""
    groups = groups or Groups()
    return [CoreLimit(float(_affinity()), "affinity"), *quotas(groups), *_cpusets(groups)]


def quotas(groups: Groups, *versions: int) -> list[CoreLimit]:
    """List the quotas of the process's groups and of their ancestors.

    Args:
        versions: of groups; all if none is given.
    """
    found: dict[Path, CoreLimit] = {}
    for group in groups.of("cpu"):
        if versions and group.version not in versions:
            continue
        for folder in group.folders:
            limit = _quota_v2(folder) if group.version == 2 else _quota_v1(folder)
            if limit is not None:
                found.setdefault(folder, limit)
    return list(found.values())


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have none
        return os.cpu_count() or 1


def _quota_v2(folder: Path) -> CoreLimit | None:
    file = folder / "cpu.max"
    quota, period = map(whole, [*read(file).split(), "", ""][:2])
    return CoreLimit(quota / period, str(file), folder) if quota and period else None


def _quota_v1(folder: Path) -> CoreLimit | None:
    file = folder / "cpu.cfs_quota_us"
    quota, period = number(file), number(folder / "cpu.cfs_period_us")
    return CoreLimit(quota / period, str(file), folder) if quota and period else None


def _cpusets(groups: Groups) -> list[CoreLimit]:
    """Read the CPUs that a group has in effect: the file of the nearest group that has one."""
    names = {1: ("cpuset.effective_cpus", "cpuset.cpus"), 2: ("cpuset.cpus.effective",)}
    found: list[CoreLimit] = []
    for group in groups.of("cpuset"):
        files = [folder / name for folder in group.folders for name in names[group.version]]
        for file in files:
            count = sum(map(len, ranges(read(file))))
            if count:
                found.append(CoreLimit(float(count), str(file)))
                break
    return found
