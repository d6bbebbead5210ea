"""Read the arguments of jobs: lists on the command line, files, stdin, and every combination.

The first source is read as it is needed, so it may be endless; the others, which are gone through
again for each of its arguments, are kept. All of it blocks: a loop calls it in a thread.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from typing import Final

import attrs

from anabranch.cli._load import WrongUsageError

MARKS: Final = (":::", "::::")
LINKED: Final = (":::+", "::::+")
STDIN: Final = "-"
PIECE: Final = 64 * 1024
AT_ONCE: Final = 1_000  # rows

Row = tuple[str, ...]


@attrs.frozen
class Reading:
    """Say how input is read.

    Attributes:
        end: of a record. colsep: a regular expression between the columns of a record.
        size: how many rows are put together as one job's arguments; 0: a job for each, without any.
    """

    end: bytes = b"\n"
    colsep: re.Pattern[str] | None = None
    size: int = 1


class File:
    """Read the records of a file, as far as they have come."""

    _place = -1

    def __init__(self, name: str, end: bytes) -> None:
        self._name = name
        self._end = end
        self._rest = b""
        self._ended = False
        try:
            self._place = 0 if name == STDIN else os.open(name, os.O_RDONLY)
            os.read(self._place, 0)  # a folder says here what it is
        except (OSError, ValueError) as error:
            self.close()
            raise WrongUsageError(f"exec: {_words(name)} cannot be read: {_why(error)}") from None

    def batch(self) -> list[str]:
        """Wait for records and return them; none at the end.

        Raises:
            WrongUsageError: it cannot be read on.
        """
        while not self._ended:
            try:
                piece = os.read(self._place, PIECE)
            except OSError as error:
                raise WrongUsageError(
                    f"exec: {_words(self._name)} cannot be read: {_why(error)}"
                ) from None
            if not piece:
                return self._last()
            records = (self._rest + piece).split(self._end) if self._end in piece else []
            if records:
                self._rest = records.pop()
                return [os.fsdecode(record) for record in records]
            self._rest += piece
        return []

    def close(self) -> None:
        """Read no further."""
        if self._place > 0:
            os.close(self._place)
            self._place = -1

    def _last(self) -> list[str]:
        self._ended = True
        self.close()
        return [os.fsdecode(self._rest)] if self._rest else []


class Given:
    """Give the arguments of a list on the command line."""

    def __init__(self, args: Sequence[str]) -> None:
        self._left = iter(args)

    def batch(self) -> list[str]:
        """Return some; none at the end."""
        return list(islice(self._left, AT_ONCE))


class Rows:
    """Iterate over the arguments of jobs, in GNU parallel's order: the last source varies fastest.

    Attributes:
        total: how many jobs there are; None while it cannot be known.
        read: how many jobs were read so far.

    Raises:
        WrongUsageError: a source that cannot be read.
    """

    def __init__(self, sources: Sequence[Sequence[str]], reading: Reading) -> None:
        files = [source[1] for source in sources if source[0] == MARKS[1]]
        if files.count(STDIN) > 1:
            raise WrongUsageError("exec: stdin is read once, and is named twice as a source")
        self._reading = reading
        first, *others = _opened(sources, reading.end)
        self._first = first
        self._others = [[arg for args in iter(other.batch, []) for arg in args] for other in others]
        self._ready: Iterator[Row] = iter(())
        self._put_back: deque[Row] = deque()
        self._ended = False
        self.read = 0
        self.total: int | None = None
        if isinstance(first, Given) or not all(self._others):
            pairs = len(sources[0]) - 1 if isinstance(first, Given) else 0
            for other in self._others:
                pairs *= len(other)
            self.total = -(-pairs // max(1, reading.size))

    def batch(self) -> list[Row]:
        """Wait for the arguments of further jobs and return them; none at the end."""
        rows: list[Row] = list(self._put_back)
        self._put_back.clear()
        self.read -= len(rows)  # they were counted when they were read
        while not rows and not self._ended:
            rows = list(islice(self._ready, AT_ONCE))
            if not rows:
                self._more()
        if self._ended and not rows:
            self.total = self.read
        self.read += len(rows)
        return rows

    def next(self) -> Row | None:
        """Wait for the arguments of one job; None at the end."""
        if not self._put_back:
            self._put_back.extend(self.batch())
        if not self._put_back:
            return None
        return self._put_back.popleft()

    def _more(self) -> None:
        self._reads = True
        args = self._first.batch()
        self._reads = False
        if args:
            combined = (row for arg in args for row in product([arg], *self._others))
            columns = map(self._columns, combined)
            self._ready = self._grouped(columns)
        elif self._held:
            self._ready = iter([self._flush()])
        else:
            self._ended = True

    def close(self) -> None:
        """Read no further; a file that a thread waits for is left to it."""
        if isinstance(self._first, File) and not self._reads:
            self._first.close()

    def read_all(self) -> None:
        """Read everything there is, so that ``total`` is known."""
        rows = [row for rows in iter(self.batch, []) for row in rows]
        self._put_back.extend(rows)  # only now: `batch` empties it

    _reads = False  # waits for the first source
    _held: tuple[Row, ...] = ()  # of a job that is not full yet

    def _grouped(self, rows: Iterable[Row]) -> Iterator[Row]:
        if self._reading.size <= 1:
            yield from rows if self._reading.size else (() for _ in rows)
            return
        for row in rows:
            self._held = (*self._held, row)
            if len(self._held) == self._reading.size:
                yield self._flush()

    def _flush(self) -> Row:
        held, self._held = self._held, ()
        return tuple(arg for row in held for arg in row)

    def _columns(self, row: Row) -> Row:
        colsep = self._reading.colsep
        if colsep is None:
            return row
        return tuple(column.strip(" \t\r\n") for arg in row for column in colsep.split(arg))


def sources_in(words: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Part the words after our flags into the command's and its sources, each with its mark.

    Raises:
        WrongUsageError: a mark that is not offered, a mark of files without any.
    """
    begins = [place for place, word in enumerate(words) if word in MARKS + LINKED]
    linked = next((words[place] for place in begins if words[place] in LINKED), None)
    if linked is not None:
        raise WrongUsageError(f"exec: {linked} is not offered; use --colsep for linked columns")
    command = list(words[: begins[0]]) if begins else list(words)
    sources: list[list[str]] = []
    for begin, end in zip(begins, [*begins[1:], len(words)], strict=False):
        mark, args = words[begin], list(words[begin + 1 : end])
        if mark == MARKS[0]:
            sources.append([mark, *args])
        elif args:
            sources += [[mark, file] for file in args]  # each file is a source of its own
        else:
            raise WrongUsageError("exec: :::: names no file; give one, or - for stdin")
    return command, sources


def _opened(sources: Sequence[Sequence[str]], end: bytes) -> list[File | Given]:
    """Open all sources, or none."""
    opened: list[File | Given] = []
    try:
        for mark, *args in sources:
            opened.append(File(args[0], end) if mark == MARKS[1] else Given(args))
    except WrongUsageError:
        for source in opened:
            if isinstance(source, File):
                source.close()
        raise
    return opened


def _words(name: str) -> str:
    return "stdin" if name == STDIN else f"{name:.200}"


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
