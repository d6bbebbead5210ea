"""Keep rows in an SQLite file that one process at a time holds: what the journal is made of.

The lock is SQLite's exclusive one, so it needs no file beside it and ends with its process.
In WAL mode a row is safe from the end of the process as soon as it is committed; `synchronous`
decides about the loss of power only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from anabranch.errors import ConfigurationError

APPLICATION: Final = 0x616E6162  # "anab", in the file's header
VERSION: Final = 1
TABLE: Final = """
    CREATE TABLE outcomes (
        key PRIMARY KEY, status TEXT, reason, error, attempts INTEGER,
        queued_s REAL, ran_s REAL, ended_at REAL, detail TEXT
    )
"""
PUT: Final = """
    INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET
        status = excluded.status, reason = excluded.reason, error = excluded.error,
        attempts = excluded.attempts, queued_s = excluded.queued_s, ran_s = excluded.ran_s,
        ended_at = excluded.ended_at, detail = excluded.detail
"""


class DamagedError(Exception):
    """Say why the file cannot be read, though it could be opened."""


def connect(path: Path, *, fsync: bool) -> sqlite3.Connection:
    """Open the file, or make it, and hold it.

    Raises:
        ConfigurationError: it cannot be opened, is something else, or is held by another run.
    """
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"would be in {path.parent}, which is no folder"
        raise ConfigurationError(f"the journal {path} {what}; give the name of a file")
    try:
        # `timeout`: another run would hold it for hours. The thread that writes is not this one.
        connection = sqlite3.connect(
            path, timeout=0.0, isolation_level=None, check_same_thread=False
        )
    except (sqlite3.Error, ValueError) as error:
        raise ConfigurationError(f"the journal {path} cannot be opened: {error}") from None
    try:
        _hold(path, connection, fsync)
    except (sqlite3.Error, UnicodeError) as error:
        connection.close()
        raise ConfigurationError(_why_not(path, error)) from None
    except ConfigurationError:
        connection.close()
        raise
    return connection


def close(connection: sqlite3.Connection) -> None:
    """Let go of the file; it is whole even where that fails."""
    try:
        connection.close()
    except sqlite3.Error:  # a full disk: the next run does what was left to do here
        pass


def write(connection: sqlite3.Connection, rows: Sequence[Sequence[Any]]) -> str | None:
    """Put all rows into the file, or none; return what went wrong in the system's words."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(PUT, rows)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:  # the transaction ended with the first error
            pass
        return str(error)
    return None


def find(connection: sqlite3.Connection, key: str | bytes) -> Sequence[Any] | None:
    """Return the row of a key, None if there is none.

    Raises:
        DamagedError: as all that read.
    """
    return next(_selected(connection, "SELECT * FROM outcomes WHERE key = ?", (key,)), None)


def rows(connection: sqlite3.Connection) -> Iterator[Sequence[Any]]:
    """Iterate over all rows, in the order of their first writing."""
    return _selected(connection, "SELECT * FROM outcomes ORDER BY rowid")


def keys(connection: sqlite3.Connection, statuses: Sequence[str]) -> Iterator[str | bytes]:
    """Iterate over the keys of the rows that have one of the statuses."""
    places = ", ".join("?" * len(statuses))
    found = _selected(connection, f"SELECT key FROM outcomes WHERE status IN ({places})", statuses)
    return (row[0] for row in found)


def _selected(
    connection: sqlite3.Connection, query: str, values: Sequence[Any] = ()
) -> Iterator[Sequence[Any]]:
    try:
        yield from connection.execute(query, values)
    except (sqlite3.Error, UnicodeError) as error:
        raise DamagedError(str(error)) from None


def _hold(path: Path, connection: sqlite3.Connection, fsync: bool) -> None:
    execute = connection.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")
    # Before WAL: a file that is not ours is not changed.
    execute("BEGIN EXCLUSIVE")
    (application,) = execute("PRAGMA application_id").fetchone()
    (version,) = execute("PRAGMA user_version").fetchone()
    (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not (application or version or tables):
        execute(TABLE)
        execute(f"PRAGMA application_id = {APPLICATION}")
        execute(f"PRAGMA user_version = {VERSION}")
    elif application != APPLICATION:
        execute("ROLLBACK")
        raise ConfigurationError(
            f"{path} is a database, but no journal of anabranch; give another file"
        )
    elif version != VERSION:
        execute("ROLLBACK")
        raise ConfigurationError(
            f"the journal {path} is of version {version}, and this program writes {VERSION}; "
            f"go on with the program that wrote it, or give another file"
        )
    execute("COMMIT")
    execute("PRAGMA journal_mode = WAL")
    execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
    execute("BEGIN IMMEDIATE")  # in WAL mode the lock is taken anew, and held from here on
    execute("COMMIT")


def _why_not(path: Path, error: sqlite3.Error | UnicodeError) -> str:
    if isinstance(error, UnicodeError):  # in the words by which SQLite says what is wrong
        return f"the journal {path} is damaged; give another file, or a whole copy of this one"
    if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"the journal {path} is held by another run; wait for its end, or give another file"
    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_NOTADB:
        return f"{path} is no journal: it is no SQLite database; give another file"
    return f"the journal {path} cannot be opened: {error}"
