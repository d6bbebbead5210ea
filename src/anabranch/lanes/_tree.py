"""Find the processes that belong to a script, and end them all.

Most are in its process group, which one signal reaches. Others are found in its session, among
its descendants, and, where the system tells, as those who hold its pipes open.
A process is known by its number and the moment of its start, so a number that was given to another
process meanwhile is left alone.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Collection, Mapping
from typing import TypeAlias

import psutil

from anabranch.lanes._reaper import Process, family, holders, processes

Found: TypeAlias = Mapping[int, float]  # the number of a process, to when it began
PARENT, GROUP, SESSION, BEGAN = range(4)


def outside(leader: int, known: Found) -> dict[int, float]:
    """Return the processes of a script that a signal to its group does not reach.

    Args:
        leader: the number of its process, session and group.
        known: those found before; they stay, with what descends from them.
    """
    table = _table()
    family_of = {leader} | set(_still(known, table))
    return {
        pid: table[pid][BEGAN] for pid in family(family_of, table) if table[pid][GROUP] != leader
    }


def group(leader: int) -> dict[int, float]:
    """Return who is in the group of a script."""
    return {pid: each[BEGAN] for pid, each in _table().items() if each[GROUP] == leader}


def holding(inodes: Collection[int], since: float) -> dict[int, float]:
    """Return who has one of these pipes open, of those that began at ``since`` or later.

    Who began before is not the script's: a descriptor can be handed to others. Nor is another
    script's process that is about to start, on a machine that stalls just then.
    """
    table = _table()
    return {
        pid: table[pid][BEGAN]
        for pid in holders(set(inodes), table, kept=True)
        if table[pid][BEGAN] >= since and pid in table
    }


def began(pid: int) -> float:
    """Return when a process began, on the system's own scale; 0 if nobody knows."""
    each = _table((pid,)).get(pid)
    return each[BEGAN] if each is not None else 0.0


def living(known: Found) -> dict[int, float]:
    """Return those that have not ended."""
    return _still(known, _table(known)) if known else {}


def send(number: signal.Signals, known: Found) -> None:
    """Send a signal to each that is still there; who was stopped is woken for it."""
    for pid in living(known):
        try:
            os.kill(pid, number)
            if number != signal.SIGKILL:
                os.kill(pid, signal.SIGCONT)
        except OSError:  # it has ended, or is somebody else's by now
            continue


def _still(known: Found, table: Mapping[int, Process]) -> dict[int, float]:
    return {pid: at for pid, at in known.items() if pid in table and table[pid][BEGAN] == at}


class _Shared:
    """Read the whole table once for all who ask at once, as when hundreds of scripts end."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a process that was forked: a lock may be held there by nobody."""
        self._lock = threading.Lock()
        self._began = -math.inf
        self._table: dict[int, Process] = {}

    def get(self) -> Mapping[int, Process]:
        """Return a table whose reading began after this was called."""
        asked = time.monotonic()
        with self._lock:
            if self._began <= asked:
                self._began = time.monotonic()
                self._table = _read(None)
            return self._table


_shared = _Shared()


def _table(pids: Collection[int] | None = None) -> Mapping[int, Process]:
    """Read the table of processes, or the part of some."""
    return _shared.get() if pids is None else _read(pids)


def _read(pids: Collection[int] | None) -> dict[int, Process]:
    """Read the table of processes; what cannot be read now is not in it."""
    try:
        table = processes(pids)
        return table or {pid: each for pid in _pids(pids) if (each := _asked(pid))}
    except (psutil.Error, OSError):  # no descriptor is left to read it with
        return {}


def _pids(pids: Collection[int] | None) -> Collection[int]:
    return psutil.pids() if pids is None else pids


def _asked(pid: int) -> Process | None:
    """Ask psutil, on systems without /proc."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        parent, at = process.ppid(), process.create_time()
        return parent, os.getpgid(pid), os.getsid(pid), at
    except (psutil.Error, OSError):
        return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)
