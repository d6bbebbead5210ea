"""Move bytes between a process and us until it ends, in the thread that this is called in.

What the process had written when it ended is always read, however slow its reader is;
what others write after that only as long as they are waited for.
"""

from __future__ import annotations

import os
import select
import struct
import sys
import time
from collections.abc import Callable

from anabranch.lanes._start import Process
from anabranch.lanes._stream import Stream

if sys.platform != "win32":  # there are no scripts there, but everything else imports this
    import fcntl
    import termios

LOOK_S = 1.0  # between two looks whether the process was stopped
STOPPED_S = 5.0  # that it may be, until nobody is thought to let it go on
BLIND_S = 0.02  # between two looks at a process of which the system gives no descriptor


class Pump:
    """Hold our ends of a process's pipes, and what tells of its end.

    Attributes:
        streams: by descriptor, those that have not ended.
        status: what the process ended with, where looking took that away.
    """

    def __init__(self, process: Process, streams: list[Stream], feed: bytes | None) -> None:
        self.process = process
        self.status: int | None = None
        self.streams: dict[int, Stream] = {}
        self._owed: dict[int, int] = {}  # what had been written at the end, and is not read yet
        self._feed = memoryview(feed or b"")
        self._poll = select.poll()
        self._exited = False
        self._exit = _exit_of(process.pid)
        for pipe, stream in zip((process.stdout, process.stderr), streams, strict=True):
            if pipe is not None:
                self.streams[pipe] = stream
                self._poll.register(pipe, select.POLLIN)
        if self._exit is not None:
            self._poll.register(self._exit, select.POLLIN)
        if process.stdin is not None:
            self._poll.register(process.stdin, select.POLLOUT)

    def until_exit(self, stopped: Callable[[int], object]) -> None:
        """Return when the process has ended; it is not waited for yet.

        Args:
            stopped: called with the signal that has stopped it, if nobody lets it go on.
        """
        looks = 0
        while not self._exited:
            moved = self._turn(LOOK_S if self._exit is not None else BLIND_S)
            if self._exit is None and not self._exited:
                self._exited = self._look()
            elif not moved:
                number = self._stopped_by()
                looks = looks + 1 if number else 0
                if looks * LOOK_S == STOPPED_S:
                    stopped(number)
        for pipe in self.streams:
            size = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
            self._owed[pipe] = struct.unpack("i", size)[0]

    def drain(self, until: float) -> None:
        """Read on, until the pipes have ended or real time is ``until``."""
        while self.streams:
            left = until - time.monotonic()
            if left <= 0 and not any(self._owed.get(pipe, 0) > 0 for pipe in self.streams):
                return
            self._turn(max(left, 0.0))

    def inodes(self) -> list[int]:
        """Return what tells the open pipes from all others."""
        return [os.fstat(pipe).st_ino for pipe in self.streams]

    def close(self) -> None:
        """Close whatever is open."""
        self._close_stdin()
        for pipe in (self.process.stdout, self.process.stderr, self._exit):
            if pipe is not None:
                os.close(pipe)

    def _turn(self, seconds: float) -> bool:
        """Wait until something can be moved, or the process ends, and move it; tell whether so."""
        ready = self._poll.poll(seconds * 1000)
        for descriptor, _ in ready:
            stream = self.streams.get(descriptor)
            if stream is not None:
                self._read(descriptor, stream)
            elif descriptor == self._exit:
                self._exited = True
                self._poll.unregister(descriptor)
            else:
                self._write(descriptor)
        return bool(ready)

    def _read(self, pipe: int, stream: Stream) -> None:
        count = stream.read(pipe)
        if count:
            if pipe in self._owed:
                self._owed[pipe] -= count
        else:
            del self.streams[pipe]
            self._poll.unregister(pipe)

    def _write(self, pipe: int) -> None:
        try:
            if self._feed:
                self._feed = self._feed[os.write(pipe, self._feed) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more, as it may
            self._feed = memoryview(b"")
        if not self._feed:
            self._close_stdin()

    def _close_stdin(self) -> None:
        pipe, self.process.stdin = self.process.stdin, None
        if pipe is not None:
            self._poll.unregister(pipe)
            os.close(pipe)

    def _look(self) -> bool:
        """Tell whether the process has ended."""
        try:
            if hasattr(os, "waitid"):
                how = os.WEXITED | os.WNOHANG | os.WNOWAIT
                return os.waitid(os.P_PID, self.process.pid, how) is not None
            pid, status = os.waitpid(self.process.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else has waited for it
            return True
        if pid:
            self.status = status
        return bool(pid)

    def _stopped_by(self) -> int:
        """Return the signal that has stopped the process, 0 if it goes on."""
        how = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        try:
            found = os.waitid(os.P_PID, self.process.pid, how)
        except ChildProcessError:
            return 0
        return 0 if found is None else found.si_status


def _exit_of(pid: int) -> int | None:
    """Return a descriptor that can be read when a process has ended, where the system has it."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # no descriptor is left, or the process is somebody else's by now
        return None
