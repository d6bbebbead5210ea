"""Print what jobs have printed: each job's as a whole, so that no two mix within a line.

With ``keep_order`` a job's output waits for that of those before it in the input.
It blocks where the reader of stdout does: a loop calls it in a thread.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, TextIO

from anabranch.cli._exec_job import Piece, Stream
from anabranch.cli._exec_terms import Terms
from anabranch.cli._stdout import UnwritableError

SHOWN: Final = 64 * 1024  # bytes of a stream in a line of JSON
COPIED: Final = 64 * 1024
STREAMS: Final[tuple[Stream, Stream]] = ("stdout", "stderr")


class Printer:
    """Print pieces."""

    def __init__(self, terms: Terms, out: TextIO) -> None:
        self._terms = terms
        self._json = out
        self._next = 0
        self._waiting: dict[int, Piece | None] = {}
        self._open = {"stdout": False, "stderr": False}  # whether a line is without its end

    def ready(self, place: int, piece: Piece | None) -> list[Piece]:
        """Return what may be printed now that a job has ended; None for one that was stopped."""
        if not self._terms.keep_order:
            return [] if piece is None else [piece]
        self._waiting[place] = piece
        pieces = []
        while self._next in self._waiting:
            waiting = self._waiting.pop(self._next)
            self._next += 1
            if waiting is not None:
                pieces.append(waiting)
        return pieces

    def rest(self) -> list[Piece]:
        """Return what waits behind jobs that have never ended, in the order of input."""
        pieces = [piece for _, piece in sorted(self._waiting.items()) if piece is not None]
        self._waiting.clear()
        return pieces

    def has_work(self, piece: Piece) -> bool:
        """Tell whether there is anything to print of a job."""
        return self._terms.json or piece.folder is not None or bool(piece.output)

    def print(self, pieces: list[Piece]) -> None:
        """Print jobs, one after the other.

        Raises:
            BrokenPipeError: nobody reads it. UnwritableError: it cannot be written.
        """
        for piece in pieces:
            try:
                if self._terms.json:
                    self._write_json(piece)
                else:
                    self._copy(piece, "stdout")
                    self._copy(piece, "stderr")
            finally:
                piece.output.close()

    def _copy(self, piece: Piece, stream: Stream) -> None:
        source = _source(piece, stream)
        if source is None:
            return
        tag = os.fsencode(" ".join(piece.args)) + b"\t" if self._terms.tag else b""
        target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
        with source:
            parts = _tagged(source, tag) if tag else iter(lambda: source.read(COPIED), b"")
            part = next(parts, b"")
            if part and self._open[stream]:  # the job before left its last line open
                self._put(target, b"\n", stream)
            while part:
                self._put(target, part, stream)
                self._open[stream] = not part.endswith(b"\n")
                part = next(parts, b"")

    def _put(self, target: BinaryIO, part: bytes, stream: str) -> None:
        try:
            target.write(part)
            target.flush()
        except BrokenPipeError:
            if stream == "stdout":
                raise
        except (OSError, ValueError) as error:
            if stream == "stdout":
                raise UnwritableError(str(getattr(error, "strerror", None) or error)) from error

    def _write_json(self, piece: Piece) -> None:
        finished = piece.finished
        fields: dict[str, Any] = {"event": "job", "seq": piece.seq, "args": list(piece.args)}
        fields["command"] = piece.command.shown
        if finished is not None:
            fields |= {
                "exit_code": finished.exit_code,
                "signal": finished.signal,
                "kind": finished.kind,
                "error": finished.error,
                "started_at": piece.started_at,
                "duration_s": finished.duration_s,
            }
        cut = finished is not None and bool(finished.notes)
        fields["notes"] = [] if finished is None else list(finished.notes)
        for stream in STREAMS:
            text, more = _text(_source(piece, stream))
            fields[stream] = text
            cut = cut or more
        fields["truncated"] = cut
        self._put(self._json.buffer, json.dumps(fields).encode() + b"\n", "stdout")


def _source(piece: Piece, stream: Stream) -> Any:
    """Return what a job has printed on a stream, as an open file; None if it printed nothing."""
    if piece.folder is None:
        return piece.output.take(stream)
    try:
        return (piece.folder.path / stream).open("rb")
    except OSError:  # it never ran
        return None


def _tagged(source: Any, tag: bytes) -> Iterator[bytes]:
    for line in source:
        yield tag + line


def _text(source: Any) -> tuple[str, bool]:
    """Return the end of a stream as text, and whether that is not all."""
    if source is None:
        return "", False
    with source:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(0, size - SHOWN))
        return source.read().decode(errors="backslashreplace"), size > SHOWN
