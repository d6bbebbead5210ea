"""Find this process's control groups, and those above them: where its limits are.

A process is in one group of version 2, or in one for each controller of version 1, or in both.
``/proc/self/cgroup`` says in which, ``/proc/self/mountinfo`` where such a tree is to be seen.
In a container the two need not fit: the tree's root may be the container's own group, or the path
that of the host. What does not exist there is unknown, and the root of what is seen always counts.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import attrs

from anabranch.samplers._files import read

ROOT = Path("/")
USUAL = {  # places by custom, for where mountinfo cannot be read
    "cpu": ("cpu", "cpu,cpuacct"),
    "cpuacct": ("cpuacct", "cpu,cpuacct"),
    "cpuset": ("cpuset",),
    "memory": ("memory",),
}


@attrs.frozen
class Group:
    """Name one group: its folder and those of its ancestors, itself first.

    Attributes:
        version: 1 or 2.
    """

    version: int
    folders: tuple[Path, ...]


@attrs.frozen
class Mount:
    """Say where a tree of groups is to be seen: from which group on, for which controllers.

    No controllers stand for version 2.
    """

    place: str
    top: str
    controllers: frozenset[str]


class Groups:
    """Know the control groups that this process was in when this was made; none elsewhere.

    Args:
        root: where ``/proc`` and ``/sys`` are.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self._own = _own_paths(read(root / "proc/self/cgroup"))
        self._mounts = _mounts(read(root / "proc/self/mountinfo"))
        self._found = {controller: self._find(controller) for controller in USUAL}

    def of(self, controller: str) -> list[Group]:
        """Return the groups whose files may tell about a controller, version 2 first.

        Args:
            controller: cpu, cpuacct, cpuset or memory.
        """
        return self._found[controller]

    def _find(self, controller: str) -> list[Group]:
        found: dict[Path, Group] = {}
        for mount in self._mounts or _usual(controller):
            if not mount.controllers or controller in mount.controllers:
                key = controller if mount.controllers else ""
                group = self._group(mount, self._own.get(key, "/"))
                found.setdefault(group.folders[0], group)
        return sorted(found.values(), key=lambda group: -group.version)

    def _group(self, mount: Mount, own: str) -> Group:
        top = self.root.joinpath(*_parts(mount.place))
        parts = _parts(_below(mount.top, own))
        folders = tuple(top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))
        return Group(1 if mount.controllers else 2, folders)


def _own_paths(text: str) -> dict[str, str]:
    """Read ``/proc/self/cgroup``: the path by controller, that of version 2 under ``""``."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number.isdecimal() and path.startswith("/"):
            for controller in controllers.split(","):
                found.setdefault(controller, path)
    return found


def _mounts(text: str) -> list[Mount]:
    """Read the trees of groups out of ``/proc/self/mountinfo``."""
    found: list[Mount] = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if len(left) < 5 or len(right) < 3 or right[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(right[2].split(",")) & USUAL.keys()
        if right[0] == "cgroup2" or options:
            of = frozenset[str]() if right[0] == "cgroup2" else options
            found.append(Mount(_unescaped(left[4]), _unescaped(left[3]), of))
    return found


def _usual(controller: str) -> list[Mount]:
    folder = "/sys/fs/cgroup"
    second = [Mount(folder, "/", frozenset()), Mount(f"{folder}/unified", "/", frozenset())]
    return second + [
        Mount(f"{folder}/{name}", "/", frozenset([controller])) for name in USUAL[controller]
    ]


def _below(top: str, path: str) -> str:
    """Return ``path`` as seen from the group ``top``, which is mounted; its root if it is not."""
    if top == "/" or ".." in _all_parts(top):  # of another namespace: unknown where that is
        return path
    try:
        return str(PurePosixPath(path).relative_to(top))
    except ValueError:
        return "/"


def _parts(path: str) -> list[str]:
    return [part for part in _all_parts(path) if part not in ("", ".", "..")]


def _all_parts(path: str) -> list[str]:
    return path.split("/")


def _unescaped(path: str) -> str:
    """Undo the kernel's octal escapes of blanks."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
