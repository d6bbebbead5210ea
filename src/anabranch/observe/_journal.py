"""Keep how branches ended in a file, so that a later run takes up what is left.

An outcome is in the file before anybody hears of it: the journal is a recorder. It is an SQLite
database in WAL mode; what ended while one group was written is written in the next.
One run at a time holds the file, by SQLite's own exclusive lock, which ends with its process.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import attrs

from anabranch._options import exact
from anabranch._redact import Redaction
from anabranch._work import Job, Outcome, Status
from anabranch.errors import ConfigurationError, JournalError
from anabranch.observe import _database as database
from anabranch.observe._writer import Writer

Describe = Callable[[Outcome], Mapping[str, Any]]

DONE = (Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT)
LONGEST = 2_000  # characters of an error


@attrs.frozen(kw_only=True)
class Entry:
    """Tell what a journal holds of one branch.

    Attributes:
        error: what the branch raised, as ``repr`` writes it; empty if nothing.
        ended_at: when it ended, in seconds since 1970, UTC.
        detail: what ``describe`` said of its outcome.
    """

    key: str
    status: Status
    reason: str = ""
    error: str = ""
    attempts: int = 0
    queued_s: float = 0.0
    ran_s: float = 0.0
    ended_at: float = 0.0
    detail: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def done(self) -> bool:
        """Whether it ran to an end of its own: nothing stopped it from outside."""
        return self.status in DONE

    @property
    def failed(self) -> bool:
        """Whether it ran to an end, and did not succeed."""
        return self.done and self.status is not Status.SUCCEEDED


class Journal:
    """Record outcomes in the file ``path``; a context manager, and a recorder while it is open.

    The file is safe from the death of this process at any moment (SIGKILL); ``fsync`` makes it
    safe from a loss of power too, at the price of a disk's delay for each group.
    Secrets of the environment are written as ``$NAME``, by the names of their variables; in keys
    too, and ``find`` and ``left`` take them for the same.

    Args:
        path: made if it does not exist; else what is in it is kept, and added to.
        fsync: whether each group is forced to the disk.
        describe: what else is kept of an outcome, a mapping that JSON can hold.

    Raises:
        ConfigurationError: when it is opened: no journal, one of another version, one that
            another run is writing, a folder that does not exist; when it is read: a damaged one.
    """

    @exact("Journal")
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = False,
        describe: Describe | None = None,
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise ConfigurationError(
                f"Journal: path={path!r:.80} ({type(path).__name__}) is no path; give a file's name"
            )
        if describe is not None and not callable(describe):
            raise ConfigurationError(f"Journal: describe={describe!r:.80} is not callable")
        self.path = Path(path)
        self._fsync = fsync
        self._describe = describe
        self._redaction = Redaction()
        self._writer: Writer | None = None
        self._connection: Any = None

    def __enter__(self) -> Self:
        if self._connection is not None:
            raise ConfigurationError(f"the journal {self.path} is open already")
        self._redaction = Redaction()
        self._connection = database.connect(self.path, fsync=self._fsync)
        self._writer = Writer(f"the journal {self.path}", self._write)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._connection is not None:
            database.close(self._connection)
            self._connection = None

    async def record(self, outcome: Outcome) -> None:
        """Wait until ``outcome`` is in the file; a later one of the same key takes its place.

        Raises:
            JournalError: it could not be written; nothing of it is in the file.
        """
        await self.record_all((outcome,))

    async def record_all(self, outcomes: Sequence[Outcome]) -> None:
        """Likewise wait for several, which are written all or none."""
        await self.record_described(outcomes, [{}] * len(outcomes))

    async def record_described(
        self, outcomes: Sequence[Outcome], details: Sequence[Mapping[str, Any]]
    ) -> None:
        """Likewise, and keep of each what ``details`` says, beside what ``describe`` does."""
        if self._writer is None:
            raise JournalError(f"the journal {self.path} is not open; use it with `with`")
        pairs = zip(outcomes, details, strict=True)
        await self._writer.put([self._row(outcome, detail) for outcome, detail in pairs])

    def find(self, key: str) -> Entry | None:
        """Return what is recorded of a branch, None if nothing is."""
        connection = self._open()
        with self._read():
            row = database.find(connection, self._key(key))
            return None if row is None else _entry(row)

    def entries(self) -> Iterator[Entry]:
        """Iterate over all entries, in the order of their first recording.

        Raises:
            ConfigurationError: the file is damaged.
        """
        return self._entries(self._open())

    def done(self, *, failed: bool = True) -> Iterator[str]:
        """Iterate over the keys of what is recorded as done, in no order.

        Args:
            failed: also of what failed or timed out.
        """
        return map(_unplain, self._done(failed=failed))

    def left(self, jobs: Iterable[Job], *, failed: bool = False) -> Iterator[Job]:
        """Iterate over the jobs that are not recorded as done.

        Done is what succeeded, failed or timed out; what was cancelled, rejected or abandoned is
        left to do. What is recorded is read now, and kept while jobs are looked at: the file is
        not asked again, for it may be busy with a slow disk.

        Args:
            failed: jobs that failed or timed out are left to do as well.
        """
        done = set(self._done(failed=not failed))
        return (job for job in jobs if self._key(job.key) not in done)

    def _done(self, *, failed: bool) -> Iterator[str | bytes]:
        statuses = [str(status) for status in DONE if failed or status is Status.SUCCEEDED]
        connection = self._open()
        with self._read():
            yield from database.keys(connection, statuses)

    def _entries(self, connection: Any) -> Iterator[Entry]:
        with self._read():
            for row in database.rows(connection):
                yield _entry(row)

    @contextmanager
    def _read(self) -> Iterator[None]:
        """Tell of a file that cannot be read for what is wrong with it."""
        try:
            yield
        except database.DamagedError as error:
            raise ConfigurationError(
                f"the journal {self.path} is damaged: {error}; give another file, or a whole copy "
                f"of this one"
            ) from None

    def _key(self, key: str) -> str | bytes:
        """Return a key as it stands in the file; a number is a place in the input, no secret."""
        return _plain(key if key.isdecimal() else self._redaction.text(key))

    def _open(self) -> Any:
        if self._connection is None:
            raise JournalError(f"the journal {self.path} is not open; use it with `with`")
        return self._connection

    def _row(self, outcome: Outcome, more: Mapping[str, Any]) -> Sequence[Any]:
        redact = self._redaction.text
        detail = {**({} if self._describe is None else self._describe(outcome)), **more}
        error = "" if outcome.error is None else _words(outcome.error)
        return (
            self._key(outcome.key),
            str(outcome.status),
            _plain(redact(outcome.reason)),
            _plain(redact(error)),
            outcome.attempts,
            outcome.queued_s,
            outcome.ran_s,
            time.time(),
            json.dumps(self._redaction.value(detail)) if detail else "{}",
        )

    def _write(self, rows: Sequence[Sequence[Any]]) -> JournalError | None:
        why = database.write(self._connection, rows)
        if why is None:
            return None
        count = "1 outcome is" if len(rows) == 1 else f"{len(rows)} outcomes are"
        return JournalError(
            f"the journal {self.path} cannot be written: {why}; {count} not recorded, and would "
            f"run again in a resumed run; make room, or give a journal on another disk"
        )


def _entry(row: Sequence[Any]) -> Entry:
    key, status, reason, error, attempts, queued_s, ran_s, ended_at, detail = row
    try:
        return Entry(
            key=_unplain(key),
            status=Status(status),
            reason=_unplain(reason),
            error=_unplain(error),
            attempts=int(attempts),
            queued_s=float(queued_s),
            ran_s=float(ran_s),
            ended_at=float(ended_at),
            detail=dict(json.loads(detail)),
        )
    except (TypeError, ValueError):
        raise database.DamagedError(f"what it holds of {key!r:.80} makes no sense") from None


def _plain(text: str) -> str | bytes:
    """Return ``text`` as SQLite can hold it: as bytes where it is no Unicode, as odd names are."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _unplain(kept: str | bytes) -> str:
    return kept if isinstance(kept, str) else bytes.decode(kept, "utf-8", "surrogatepass")


def _words(error: BaseException) -> str:
    try:
        words = repr(error)
    except Exception as wrong:
        words = f"<{type(error).__name__}, whose repr raises {type(wrong).__name__}>"
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
