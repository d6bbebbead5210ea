"""Read how much memory this process and its descendants take.

A sum of resident sizes (RSS) counts a page once for each process that shares it, so ten children
forked from a parent of a gigabyte look like eleven. The proportional size (PSS) counts each page
once in all, but the kernel walks every page for it: 17 ms for a gigabyte, where RSS takes 0.03.
So PSS is read only where the sum of RSS, which is never less, is above what the caller asks about.
Only Linux has it; elsewhere it is RSS. (USS leaves out what is shared, and so can hide any amount.)
"""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from anabranch.samplers._tree import tree

MB = 1024 * 1024


def memory_mb(
    exact_above: float = 0.0, processes: Sequence[psutil.Process] | None = None
) -> float | None:
    """Return the memory of this process tree in MB (1,048,576 bytes); None when it is unknown.

    A process that has ended meanwhile counts nothing, and so does one that may not be read.

    Args:
        exact_above: MB; up to there the sum of RSS will do.
        processes: the tree, this process first, if the caller has it already.

    Raises:
        psutil.Error, OSError: the table of processes cannot be read.
    """
    processes = tree() if processes is None else processes
    sizes = [_rss(process) for process in processes]
    if not sizes or sizes[0] is None:
        return None
    total = sum(size or 0 for size in sizes) / MB
    if total <= exact_above or not psutil.LINUX:
        return total
    pairs = zip(processes, sizes, strict=True)
    return sum(_pss(process, size) for process, size in pairs if size is not None) / MB


def _rss(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended, is a zombie, or is somebody else's
        return None


def _pss(process: psutil.Process, rss: int) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:  # or a zombie
        return 0
    except psutil.Error:  # it runs as somebody else, whose pages are not shown
        return rss
