"""Let what a worker process prints and logs arrive here, labelled by the branch that it works for.

Lines go to ``sys.stdout`` and ``sys.stderr`` of this process, records to the loggers of their
names; whatever fails in that costs no result.
"""

from __future__ import annotations

import logging
import pickle
import sys
from typing import Any, TextIO

LONGEST = 65_536  # bytes of a line that does not end


class Echo:
    """Write the lines of one of a process's two streams as they come."""

    def __init__(self, stream: str) -> None:
        self._stream = stream  # its name in sys, where it may be replaced at any time
        self._rest = b""

    def feed(self, data: bytes, label: str) -> None:
        """Write the lines that have become whole."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        self._write(lines, label)

    def end(self, label: str) -> None:
        """Write what is left of a line that nobody has ended."""
        if self._rest:
            self._write([self._rest], label)
            self._rest = b""

    def _write(self, lines: list[bytes], label: str) -> None:
        stream: TextIO | None = getattr(sys, self._stream)
        if not lines or stream is None:
            return
        text = "".join(f"[{label}] {line.decode('utf-8', 'replace')}\n" for line in lines)
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            stream.flush()
        except (OSError, ValueError):  # closed, or nobody reads it
            pass


def log_record(payload: bytes, label: str) -> None:
    """Hand a record of a process to the logger of its name in this one."""
    try:
        said: dict[str, Any] = pickle.loads(payload)
        record = logging.makeLogRecord(said)
        record.msg = f"[{label}] {record.msg}"
        record.branch = label
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:  # a handler of the user's, or what extra= held
        logging.getLogger("anabranch").exception("a log record of %s was lost", label)


def levels_here() -> dict[str, int]:
    """Return the levels that are set in this process, by the name of the logger; "" is the root."""
    root = logging.getLogger()
    found = {"": max(root.level, root.manager.disable + 1)}
    for name, logger in list(root.manager.loggerDict.items()):
        level = getattr(logger, "level", logging.NOTSET)
        if level:
            found[name] = level
    return found
