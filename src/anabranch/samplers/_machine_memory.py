"""Sample the memory of the machine, or of the container, whichever has less of it left.

Each group of this process may have a limit, and so may each above it, whose other children use it
up too. The one that counts is the one with the least left, and the host is one of them.
What the page cache holds and can drop at once (``inactive_file``) is not in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from anabranch.samplers import _host
from anabranch.samplers._files import number, table
from anabranch.samplers._groups import Groups

NO_LIMIT = 2**60  # version 1 writes "none" as the last page below 2^63


@attrs.frozen
class Room:
    """Say how much memory something has, how much of it is in use, in bytes, and what it is."""

    used: float
    total: float
    source: str

    @property
    def left(self) -> float:
        """What can still be had; negative above a limit that is not hard."""
        return self.total - self.used


class Memory:
    """Sample ``memory_used`` and ``memory_total``; from any thread.

    Args:
        groups: where the control groups are.
        host: reads the bytes in use on the host, and in all.
    """

    def __init__(
        self,
        groups: Groups | None = None,
        *,
        host: Callable[[], tuple[float, float] | None] = _host.memory,
    ) -> None:
        self._groups = groups or Groups()
        self._host = host

    def sample(self) -> Mapping[str, float | None]:
        """Return the bytes in use and in all, where the least is left."""
        room = min(rooms(self._groups, self._host), key=lambda room: room.left, default=None)
        if room is None:
            return {"memory_used": None, "memory_total": None}
        return {"memory_used": room.used, "memory_total": room.total}


def rooms(
    groups: Groups, host: Callable[[], tuple[float, float] | None] = _host.memory
) -> list[Room]:
    """List the limits that hold here, with their use; the host's memory is the first."""
    pair = host()
    found = [] if pair is None else [Room(*pair, "the host")]
    for group in groups.of("memory"):
        for folder in group.folders:
            room = _room_v2(folder) if group.version == 2 else _room_v1(folder)
            if room is not None:
                found.append(room)
    return found


def _room_v2(folder: Path) -> Room | None:
    """Read a group of version 2: above ``high`` it is slowed down, above ``max`` it is killed."""
    limits = [(number(folder / name), name) for name in ("memory.max", "memory.high")]
    cache = table(folder / "memory.stat").get("inactive_file", 0)
    return _room(folder, limits, number(folder / "memory.current"), cache)


def _room_v1(folder: Path) -> Room | None:
    figures = table(folder / "memory.stat")
    cache = figures.get("total_inactive_file", figures.get("inactive_file", 0))
    limits = [
        (number(folder / "memory.limit_in_bytes"), "memory.limit_in_bytes"),
        # of the groups above, which cannot be seen where the mount begins with the own one
        (figures.get("hierarchical_memory_limit"), "memory.stat"),
    ]
    return _room(folder, limits, number(folder / "memory.usage_in_bytes"), cache)


def _room(
    folder: Path, limits: list[tuple[int | None, str]], used: int | None, cache: int
) -> Room | None:
    known = [(limit, name) for limit, name in limits if limit and limit < NO_LIMIT]
    if used is None or not known:  # a limit of 0 holds for nobody who lives
        return None
    limit, name = min(known)
    return Room(float(max(0, used - cache)), float(limit), str(folder / name))
