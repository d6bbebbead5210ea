"""Have scripts end with this process, also when it is killed with -9.

A small process, ``_reaper.py``, waits for the end of this one and then ends whatever a table in
shared memory names. To enter a script there costs no system call and no descriptor.
PR_SET_PDEATHSIG would be simpler: it is sent when the thread ends that has started the child,
and threads come and go.

A script is entered by the inode of its pipe before it exists, and by its number as soon as it has
one: killed between the two, we leave one that is found by its pipe.
It leaves the table before it is reaped, so a number in the table is never another process's.
"""

from __future__ import annotations

import logging
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch.lanes._reaper import SLOT
from anabranch.lanes._room import is_scarce

log = logging.getLogger("anabranch")

PROGRAM = Path(__file__).with_name("_reaper.py")
SLOTS = 65_536  # memory that is never touched is never taken


class Lifeline:
    """Keep the table of one process, and start the reaper that reads it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a process that was forked: the table is its parent's."""
        self._lock = threading.Lock()
        self._table: mmap.mmap | None = None
        self._free: list[int] = []
        self._next = 0
        self._broken = False
        self._first: subprocess.Popen[bytes] | None = None

    def enter(self, inode: int) -> int | None:
        """Take a slot for a script that is about to start; None where nothing can watch it."""
        with self._lock:
            if self._table is None and not self._broken:
                self._start()
            if self._table is None or (not self._free and self._next == SLOTS):
                return None
            if self._free:
                slot = self._free.pop()
            else:
                slot, self._next = self._next, self._next + 1
            SLOT.pack_into(self._table, slot * SLOT.size, 0, inode)
            return slot

    def started(self, slot: int | None, pid: int, inode: int) -> None:
        """Say which process it has become."""
        if slot is not None and self._table is not None:
            SLOT.pack_into(self._table, slot * SLOT.size, pid, inode)

    def leave(self, slot: int | None) -> None:
        """Give a slot back: its script has ended, or never began."""
        if slot is not None and self._table is not None:
            SLOT.pack_into(self._table, slot * SLOT.size, 0, 0)
            with self._lock:
                self._free.append(slot)

    def settle(self) -> None:
        """Wait for the first of the reaper's two processes, which has ended by now."""
        first = self._first
        if first is not None:
            with self._lock:
                self._first = None
            first.wait()

    def _start(self) -> None:
        """Start the reaper; without one, scripts run all the same, and it is said once."""
        try:
            if not (sys.executable and PROGRAM.is_file()):
                raise FileNotFoundError(f"no interpreter, or no file {PROGRAM}")
            with _shared(SLOTS * SLOT.size) as table_file:
                table = mmap.mmap(table_file, SLOTS * SLOT.size)
                self._first = subprocess.Popen(
                    [sys.executable, "-I", "-S", PROGRAM, str(os.getpid()), str(table_file)],
                    pass_fds=(table_file,),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,  # a Ctrl-C is not meant for it
                )
        except OSError as error:
            if is_scarce(error):  # later there may be room
                raise
            self._broken = True
            log.warning(
                "scripts will outlive this process if it is killed: no reaper could be started: %s",
                error,
            )
        else:
            self._table = table


@contextmanager
def _shared(size: int) -> Iterator[int]:
    """Open memory that another process can be handed, as a file without a name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("anabranch_lifeline")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.truncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)


LIFELINE = Lifeline()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LIFELINE.forget)
