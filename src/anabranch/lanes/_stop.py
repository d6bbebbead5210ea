"""End a script and all that belongs to it: terminate, wait for the grace, kill."""

from __future__ import annotations

import signal
import time

from anabranch.lanes import _tree
from anabranch.lanes._running import Running

LOOK_S = 0.02
KILLED_S = 2.0  # a killed process is gone at once, unless the kernel itself waits for a device


def stop(running: Running, grace: float) -> None:
    """End a script with its whole tree, in this thread; returns when all of it has ended.

    What has made a session of its own is looked for before anything is ended, while it can still
    be seen who began it, and again before the kill.
    """
    others = _others(running, {})
    if grace > 0:
        until = time.monotonic() + grace
        running.kill_at = until
        running.send(signal.SIGTERM)
        _tree.send(signal.SIGTERM, others)
        running.ended.wait(grace)
        while (others := _tree.living(others)) and time.monotonic() < until:
            time.sleep(LOOK_S)
        if running.ended.is_set() and not others:
            return
        others = _others(running, others)
    running.kill_at = 0.0
    running.send(signal.SIGKILL)
    _tree.send(signal.SIGKILL, others)
    running.ended.wait(KILLED_S)


def _others(running: Running, known: dict[int, float]) -> dict[int, float]:
    leader = running.leader
    return dict(known) if leader is None else _tree.outside(leader, known)
