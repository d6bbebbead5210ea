"""Write a log of jobs as GNU parallel does: a line of tab-separated fields for each job.

Each line is one write, so the death of this process leaves whole lines; what a loss of power or a
full disk has cut off is taken away when the log is taken up again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, Self

import attrs

from anabranch._options import exact_fields
from anabranch._redact import Redaction
from anabranch._work import Outcome
from anabranch.errors import ConfigurationError, JournalError
from anabranch.observe._writer import Writer

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: there two runs are not kept apart
    fcntl = None

HEADER: Final = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand"


@exact_fields
@attrs.frozen(kw_only=True)
class Logged:
    """Say what a line of the log says of one job.

    Attributes:
        started_at: seconds since 1970, UTC. ran_s: seconds.
        sent, received: bytes; received is what it printed.
        exit_value: what it returned, -1 where it has none. signal: that ended it, 0 for none.
        command: on one line; a line end in it is written as NUL, as GNU parallel does.
    """

    seq: int
    started_at: float = 0.0
    ran_s: float = 0.0
    sent: int = 0
    received: int = 0
    exit_value: int = 0
    signal: int = 0
    command: str = ""

    @property
    def failed(self) -> bool:
        """Whether it did not return 0."""
        return bool(self.exit_value or self.signal)

    def line(self) -> bytes:
        """Return the line, with its end."""
        fields = (
            f"{self.seq}\t:\t{self.started_at:.3f}\t{self.ran_s:10.3f}\t{self.sent}\t"
            f"{self.received}\t{self.exit_value}\t{self.signal}\t{kept(self.command)}\n"
        )
        return os.fsencode(fields)


def kept(command: str) -> str:
    """Return a command as it stands in a log: on one line."""
    return command.replace("\n", "\0")


class JobLog:
    """Write a log of jobs to ``path``; a context manager, and a recorder while it is open.

    Args:
        path: made new, or taken up with ``resume``.
        logged: what the log says of an outcome; None for one that it does not tell of.
        resume: keep the lines that are there.
        fsync: force each group of lines to the disk.

    Raises:
        ConfigurationError: when it is opened: it cannot be, it is no such log, another run
            writes it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        logged: Callable[[Outcome], Logged | None],
        *,
        resume: bool = False,
        fsync: bool = False,
    ) -> None:
        self.path = Path(path)
        self._logged = logged
        self._resume = resume
        self._fsync = fsync
        self._redaction = Redaction()
        self._file = -1
        self._writer = Writer(f"the joblog {self.path}", self._write)

    def __enter__(self) -> Self:
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(f"the joblog {self.path} cannot be written: {why}") from None
        try:
            self._hold()
            self._begin()
        except (ConfigurationError, OSError):
            os.close(self._file)
            self._file = -1
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._writer.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    async def record(self, outcome: Outcome) -> None:
        """Wait until the line of ``outcome`` is written.

        Raises:
            JournalError: it could not be.
        """
        await self.record_all((outcome,))

    async def record_all(self, outcomes: Sequence[Outcome]) -> None:
        """Likewise wait for several."""
        lines = [self._line(logged) for each in outcomes if (logged := self._logged(each))]
        if lines:
            await self._writer.put(lines)

    def entries(self) -> Iterator[Logged]:
        """Iterate over the lines that are there.

        Raises:
            ConfigurationError: a line that is none of such a log.
        """
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if number and line.endswith(b"\n"):
                    yield self._parsed(number + 1, line)

    def _line(self, logged: Logged) -> bytes:
        return attrs.evolve(logged, command=self._redaction.text(logged.command)).line()

    def _hold(self) -> None:
        """Keep a second run out."""
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"the joblog {self.path} is held by another run; wait for its end, "
                f"or give another file"
            ) from None

    def _begin(self) -> None:
        """Write the header, or cut off what a full disk or a loss of power has left half."""
        whole = 0
        if self._resume:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    whole += len(line)
                file.seek(0)
                if whole and not file.readline().startswith(b"Seq\tHost\t"):
                    raise ConfigurationError(
                        f"{self.path} is no joblog: its first line is not {HEADER.split()[0]}, "
                        f"{HEADER.split()[1]}, ...; give another file"
                    )
        try:
            os.ftruncate(self._file, whole)
        except OSError as error:  # a pipe, a terminal
            if whole or self._resume:
                raise ConfigurationError(
                    f"{self.path} cannot be resumed: {error.strerror}"
                ) from None
        failure = None if whole else self._write([os.fsencode(f"{HEADER}\n")])
        if failure is not None:
            raise ConfigurationError(str(failure))

    def _write(self, lines: Sequence[bytes]) -> JournalError | None:
        text = b"".join(lines)
        written = 0
        try:
            while written < len(text):
                written += os.write(self._file, text[written:])
            if self._fsync:
                os.fsync(self._file)
        except OSError as error:
            self._take_back(written)
            return JournalError(
                f"the joblog {self.path} cannot be written: {error.strerror}; what ended is not "
                f"recorded, and would run again with --resume; make room, or give a joblog on "
                f"another disk"
            )
        return None

    def _take_back(self, written: int) -> None:
        try:
            if written:
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
        except OSError:  # the next run takes it away
            pass

    def _parsed(self, number: int, line: bytes) -> Logged:
        fields = os.fsdecode(line).removesuffix("\n").split("\t", 8)
        try:
            seq, _, started, ran, sent, received, value, signal, command = fields
            return Logged(
                seq=int(seq),
                started_at=float(started),
                ran_s=float(ran),
                sent=int(sent),
                received=int(received),
                exit_value=int(value),
                signal=int(signal),
                command=command,
            )
        except ValueError:
            raise ConfigurationError(
                f"{self.path}:{number} is no line of a joblog; give another file, or run without "
                f"--resume"
            ) from None
