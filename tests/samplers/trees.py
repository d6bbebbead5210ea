"""Build the files in which a kernel tells its figures, as containers of every kind show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anabranch.samplers import Groups

LOTS = 64  # CPUs
CGROUP = "sys/fs/cgroup"


def plant(root: Path, files: Mapping[str, str], own: str | None, mounts: str | None) -> Groups:
    """Write files under ``sys/fs/cgroup``, or at ``/...``; return the groups that are seen.

    Args:
        own: the text of ``/proc/self/cgroup``. mounts: that of ``/proc/self/mountinfo``.
    """
    whole = {"/proc/self/cgroup": own, "/proc/self/mountinfo": mounts}
    for name, text in {**whole, **files}.items():
        if text is not None:
            file = root / (name[1:] if name.startswith("/") else f"{CGROUP}/{name}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return Groups(root)


def mount_v2(place: str = "/sys/fs/cgroup", top: str = "/") -> str:
    """Return the line of mountinfo for the tree of version 2."""
    return f"31 23 0:28 {top} {place} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def mount_v1(controllers: str, place: str | None = None, top: str = "/") -> str:
    """Return the line of mountinfo for a tree of version 1."""
    place = place or f"/sys/fs/cgroup/{controllers}"
    return f"32 31 0:29 {top} {place} rw,relatime master:3 - cgroup cgroup rw,{controllers}\n"


class Clock:
    """Be a clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
