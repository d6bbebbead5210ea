"""List this process and its descendants: whatever a run can have started.

Linux tells whom each thread has started, which takes as long as there are descendants. Elsewhere,
and where the kernel was built without that, psutil reads the parent of each process there is.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil

PROC = Path("/proc")


def tree() -> list[psutil.Process]:
    """Return this process first, then its descendants; some may have ended by now.

    Raises:
        psutil.Error, OSError: the table of processes cannot be read.
    """
    process = psutil.Process()
    pids = descendants_of(process.pid)
    if pids is None:
        return [process, *process.children(recursive=True)]
    found = [process]
    for pid in pids:
        with suppress(psutil.Error):  # it has ended
            found.append(psutil.Process(pid))
    return found


def descendants_of(pid: int, proc: Path = PROC) -> list[int] | None:
    """Return the processes that a process has started, and theirs; None where nobody tells."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = _started_by(pid, proc)
    except OSError:
        return None
    for each in found:  # it grows meanwhile
        with suppress(OSError):  # that one has ended
            found.extend(_started_by(each, proc))
    return found


def _started_by(pid: int, proc: Path) -> list[int]:
    """Return whom the threads of a process have started.

    Raises:
        OSError: it has ended, or the kernel does not tell.
    """
    found: list[int] = []
    missing: OSError | None = None
    told = False
    for thread in (proc / str(pid) / "task").iterdir():
        try:
            found.extend(map(int, (thread / "children").read_bytes().split()))
            told = True
        except OSError as error:  # the thread has ended
            missing = error
    if missing is not None and not told:
        raise missing
    return found
