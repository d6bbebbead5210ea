"""Count descriptors: those in use, and how many there may be.

No branch is held back for them; but a step that fails with "too many open files" should say how
many, and ``anabranch doctor`` how many children there can be.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from pathlib import Path

import attrs
import psutil

from anabranch.samplers._files import read, whole
from anabranch.samplers._groups import ROOT

if sys.platform != "win32":
    import resource


@attrs.frozen
class Descriptors:
    """Say how many descriptors are in use and how many there may be; None for what is unknown.

    Attributes:
        source: whose limit it is, and how it is raised.
    """

    used: int | None
    limit: int | None
    source: str

    @property
    def words(self) -> str:
        """Say it as a part of a reason: ``60 of 64 descriptors (ulimit -n)``."""
        used, limit = ("?" if each is None else f"{each:,}" for each in (self.used, self.limit))
        return f"{used} of {limit} descriptors ({self.source})"


def descriptors(root: Path = ROOT) -> Descriptors:
    """Return what is scarcer: this process's descriptors, or those of the whole system."""
    own, system = _own(root), _system(root)
    if system is None:
        return own
    return min(own, system, key=_left)


def _left(found: Descriptors) -> float:
    return math.inf if found.limit is None else found.limit - (found.used or 0)


def _own(root: Path) -> Descriptors:
    limit = _soft_limit()
    try:
        with os.scandir(root / "proc/self/fd") as entries:
            used: int | None = sum(1 for _ in entries) - 1  # it opens one to look
    except OSError as error:
        used = limit if error.errno == errno.EMFILE else _counted()
    return Descriptors(used, limit, "ulimit -n")


def _soft_limit() -> int | None:
    if sys.platform == "win32":
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _counted() -> int | None:
    try:
        return psutil.Process().num_fds()
    except (psutil.Error, OSError, AttributeError):  # AttributeError: Windows has no such thing
        return None


def _system(root: Path) -> Descriptors | None:
    words = read(root / "proc/sys/fs/file-nr").split()
    if len(words) != 3:
        return None
    used, free, limit = map(whole, words)
    if used is None or free is None or not limit:
        return None
    return Descriptors(used - free, limit, "sysctl fs.file-max")
