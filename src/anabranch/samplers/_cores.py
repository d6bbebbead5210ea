"""Count the cores that this process may use: the smallest of affinity and cgroup quota."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")


def cores(root: Path = CGROUP, own: Path = OWN_GROUP) -> float:
    """Return the cores of this process; a quota of half a core is 0.5."""
    quotas = [quota for quota in (_quota_v2(root, own), _quota_v1(root, own)) if quota]
    return min([float(_affinity()), *quotas])


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have none
        return os.cpu_count() or 1


def _quota_v2(root: Path, own: Path) -> float | None:
    """Return the smallest quota of the process's group and its ancestors, in cores."""
    quotas: list[float] = []
    for folder in _folders(root, _own_path(own, "0", "")):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2:
            quotas += _ratio(*words)
    return min(quotas, default=None)


def _quota_v1(root: Path, own: Path) -> float | None:
    quotas: list[float] = []
    for mount in ("cpu", "cpu,cpuacct"):
        for folder in _folders(root / mount, _own_path(own, None, "cpu")):
            quotas += _ratio(
                _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            )
    return min(quotas, default=None)


def _ratio(quota: str, period: str) -> list[float]:
    """Return the cores of a quota; none for ``max``, ``-1``, and for what is no number."""
    if not (quota.isdecimal() and period.isdecimal() and int(quota) and int(period)):
        return []
    return [int(quota) / int(period)]


def _own_path(own: Path, hierarchy: str | None, controller: str) -> str:
    """Return the path of the process's group, from ``/proc/self/cgroup``; ``/`` if unknown."""
    for line in _read(own).splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == hierarchy or (hierarchy is None and controller in controllers.split(",")):
            return path
    return "/"


def _folders(root: Path, path: str) -> list[Path]:
    """List the group's folder and its ancestors' up to the root, whichever exist."""
    parts = [part for part in path.split("/") if part and part != ".."]
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
