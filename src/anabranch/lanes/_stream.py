"""Take in one stream of a script: keep its end, write all of it to a file, cut it into lines.

Memory is constant whatever comes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from anabranch.lanes._script import Word

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
        self.tail = Tail(cap)
        self.broken: OSError | None = None
        self._lines = Lines(on_line) if on_line is not None else None
        self._file: int | None = None
        if to is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._path = Path(os.fsdecode(to))
            self._file = os.open(to, flags, 0o666)

    def add(self, chunk: bytes) -> None:
        """Take in what came."""
        self.tail.add(chunk)
        if self._file is not None:
            self._write(chunk)
        if self._lines is not None:
            self._lines.add(chunk)

    def end(self) -> None:
        """Say that nothing more comes."""
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.end()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def stop_calling(self) -> None:
        """Cut no more lines: who takes them has failed."""
        self._lines = None

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            while view and self._file is not None:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            error.filename = str(self._path)
            self.broken = error
            self.close()
