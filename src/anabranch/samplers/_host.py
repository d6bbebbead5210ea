"""Ask psutil about the machine and this process; whatever goes wrong there is unknown.

psutil raises what it makes of the tables that it reads: in a container with half a /proc that may
be OSError, KeyError, IndexError, ValueError or RuntimeError. Each costs a signal, and no run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import attrs
import psutil

from anabranch.samplers._files import ranges, read
from anabranch.samplers._groups import Groups
from anabranch.samplers._memory import memory_mb
from anabranch.samplers._tree import tree


@attrs.frozen
class CpuTimes:
    """Add up the seconds of some CPUs: in use, and in all.

    Attributes:
        cpus: which ones, so that a difference is only made between equals.
    """

    cpus: tuple[int, ...]
    busy: float
    total: float


def cpu_times(groups: Groups, allowed: frozenset[int]) -> CpuTimes | None:
    """Return the seconds of the CPUs that are allowed, or of all where they cannot be told apart.

    Waiting for a disk is idle; what a hypervisor gave to others (steal) is not.
    """
    try:
        each = [(_busy(times), _total(times)) for times in psutil.cpu_times(percpu=True)]
    except Exception:
        return None
    online = [cpu for cpus in ranges(read(groups.root / _ONLINE)) for cpu in cpus]
    numbers = online if len(online) == len(each) else range(len(each))
    by_number = dict(zip(numbers, each, strict=True))
    if not allowed or not allowed <= by_number.keys():  # nobody says, or in other numbers
        allowed = frozenset(by_number)
    if not allowed:
        return None
    busy, total = map(sum, zip(*(by_number[cpu] for cpu in allowed), strict=True))
    return CpuTimes(tuple(sorted(allowed)), busy, total)


def allowed_cpus() -> frozenset[int]:
    """Return the numbers of the CPUs that this process may run on; empty where nobody says."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS and Windows have none
        return frozenset()


def memory() -> tuple[float, float] | None:
    """Return the bytes in use and in all; what a cache holds and gives back is not in use."""
    try:
        found = psutil.virtual_memory()
    except Exception:
        return None
    total, available = float(found.total), float(found.available)
    return (max(0.0, total - available), total) if total > 0 else None


def size_mb(processes: Callable[[], Sequence[psutil.Process]] = tree) -> float | None:
    """Return the resident sizes of this process and its descendants, added up, in MB.

    Args:
        processes: lists them.
    """
    try:
        return memory_mb(math.inf, processes())
    except Exception:
        return None


def sizes_mb(
    processes: Callable[[], Sequence[psutil.Process]] = tree,
) -> dict[psutil.Process, float] | None:
    """Return the resident size in MB of each process that can be read, the first one first.

    Args:
        processes: lists them; None is returned if the first cannot be read.
    """
    found: dict[psutil.Process, float] = {}
    try:
        listed = processes()
        for process in listed:
            size = memory_mb(math.inf, [process])
            if size is not None:
                found[process] = size
    except Exception:
        return None
    return found if found and next(iter(found)) is listed[0] else None


def started_at(process: psutil.Process) -> float:
    """Return when a process was started, by the wall's clock; long ago where it does not say."""
    try:
        return float(process.create_time())
    except Exception:
        return -math.inf


_ONLINE = "sys/devices/system/cpu/online"


def _total(times: object) -> float:
    fields = _fields(times)
    twice = fields.get("guest", 0.0) + fields.get("guest_nice", 0.0)  # Linux: in user and nice too
    return sum(fields.values()) - twice


def _busy(times: object) -> float:
    fields = _fields(times)
    return _total(times) - fields.get("idle", 0.0) - fields.get("iowait", 0.0)


def _fields(times: object) -> dict[str, float]:
    return dict(times._asdict())  # type: ignore[attr-defined]  # psutil's tuples differ by system
