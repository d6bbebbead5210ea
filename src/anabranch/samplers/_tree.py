"""List this process and its descendants: whatever a run can have started."""

from __future__ import annotations

import psutil


def tree() -> list[psutil.Process]:
    """Return this process first, then its descendants; some may have ended by now.

    Raises:
        psutil.Error, OSError: the table of processes cannot be read.
    """
    process = psutil.Process()
    return [process, *process.children(recursive=True)]
