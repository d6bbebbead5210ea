"""Take in one stream of a script: keep its end, write all of it to a file, cut it into lines.

Memory is constant whatever comes. A stream that fills its pipe gets a larger one, and is read into
a ring from then on, where its end stays without being moved: that is faster by a quarter.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from anabranch.lanes._script import Word

if sys.platform != "win32":  # there are no scripts there, but everything else imports this
    import fcntl

PIECE = 64 * 1024  # what a pipe holds at first
MUCH = 256 * 1024  # what one holds that fills up, and a ring: more of it leaves the cache
LARGE_PIPES = threading.BoundedSemaphore(64)  # a user has 64 MiB of them on Linux
LONGEST_LINE = 1024 * 1024  # a longer one is handed on in pieces


class Tail:
    """Keep the last bytes of a stream."""

    __slots__ = ("_cap", "_kept", "total")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._kept = bytearray()
        self.total = 0

    def add(self, chunk: bytes) -> None:
        """Take in what came."""
        self.total += len(chunk)
        kept = self._kept
        if len(chunk) >= self._cap:
            kept[:] = chunk[len(chunk) - self._cap :]
        else:
            kept += chunk
            if len(kept) > 2 * self._cap:  # seldom, so a byte is moved once in the mean
                del kept[: -self._cap]

    def get(self) -> bytes:
        """Return what is kept."""
        return bytes(self._kept[-self._cap :] if self._cap else b"")

    @property
    def cut(self) -> bool:
        """Whether there was more than is kept."""
        return self.total > self._cap


class Ring:
    """Keep the last bytes of a stream by reading each piece over the oldest ones.

    Args:
        kept: what came before.
    """

    __slots__ = ("_kept", "_place", "_size", "_wrapped")

    def __init__(self, size: int, kept: bytes) -> None:
        self._kept = memoryview(bytearray(size))
        self._kept[: len(kept)] = kept
        self._place = len(kept)
        self._size = size
        self._wrapped = False

    def read(self, pipe: int) -> Sequence[memoryview]:
        """Read what there is; the parts of it are good until the next reading."""
        kept, place = self._kept, self._place
        ahead = kept[place:]
        count = os.readv(pipe, (ahead, kept[:place]))
        end = place + count
        if end < self._size:
            self._place = end
            return (ahead[:count],)
        self._place, self._wrapped = end - self._size, True
        return (ahead, kept[: self._place])

    def get(self) -> bytes:
        """Return what is kept."""
        first = bytes(self._kept[self._place :]) if self._wrapped else b""
        return first + bytes(self._kept[: self._place])


class Lines:
    """Cut a stream into lines."""

    __slots__ = ("_call", "_rest")

    def __init__(self, call: Callable[[bytes], object]) -> None:
        self._call = call
        self._rest = bytearray()

    def add(self, chunk: bytes) -> None:
        """Hand on each line that is whole now."""
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._rest += chunk
            if len(self._rest) >= LONGEST_LINE:
                self.end()
            return
        self._rest += chunk[:end]
        lines, self._rest = bytes(self._rest), bytearray(chunk[end:])
        for line in lines.split(b"\n")[:-1]:
            self._call(line + b"\n")

    def end(self) -> None:
        """Hand on what is left without a line end."""
        rest, self._rest = bytes(self._rest), bytearray()
        if rest:
            self._call(rest)


class Stream:
    """Take in what a script writes to one of its two streams.

    Attributes:
        broken: why the file could not be written, if it could not; the script is read on.
    """

    def __init__(self, cap: int, to: Word | None, on_line: Callable[[bytes], object] | None):
        self.broken: OSError | None = None
        self._tail = Tail(cap)
        self._cap = cap
        self._ring: Ring | None = None  # once it fills its pipe
        self._enlarged = False
        self._lines = Lines(on_line) if on_line is not None else None
        self._file: int | None = None
        if to is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._path = Path(os.fsdecode(to))
            self._file = os.open(to, flags, 0o666)

    def read(self, pipe: int) -> int:
        """Take in what there is in a pipe; return how many bytes that were, 0 at its end."""
        if self._ring is None:
            piece = os.read(pipe, PIECE)
            self._tail.add(piece)
            self._hand_on(piece)
            if len(piece) == PIECE and self._cap < MUCH:
                self._expect_much(pipe)
            return len(piece)
        count = 0
        for part in self._ring.read(pipe):
            count += len(part)
            if part and (self._file is not None or self._lines is not None):
                self._hand_on(part)
        self._tail.total += count
        return count

    def kept(self) -> bytes:
        """Return the end of it, as many bytes as are to be kept."""
        if self._ring is None:
            return self._tail.get()
        return self._ring.get()[-self._cap :] if self._cap else b""

    @property
    def cut(self) -> bool:
        """Whether there was more than is kept."""
        return self._tail.cut

    def end(self) -> None:
        """Say that nothing more comes."""
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.end()

    def close(self) -> None:
        """Close the file."""
        if self._enlarged:
            self._enlarged = False
            LARGE_PIPES.release()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def stop_calling(self) -> None:
        """Cut no more lines: who takes them has failed."""
        self._lines = None

    def _expect_much(self, pipe: int) -> None:
        self._ring = Ring(MUCH, self._tail.get())
        if not hasattr(fcntl, "F_SETPIPE_SZ") or not LARGE_PIPES.acquire(blocking=False):
            return
        self._enlarged = True
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, MUCH)
        except OSError:  # this user has no more memory for pipes: it stays as it is
            pass

    def _hand_on(self, part: bytes | memoryview) -> None:
        if self._file is not None:
            self._write(part)
        if self._lines is not None:
            self._lines.add(bytes(part))

    def _write(self, chunk: bytes | memoryview) -> None:
        view = memoryview(chunk)
        try:
            while view and self._file is not None:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            error.filename = str(self._path)
            self.broken = error
            self.close()
