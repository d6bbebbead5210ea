"""Keep what was run in a journal and a joblog, and leave out of a resumed run what is done.

A job is known by its number in the input, so input and command must be what they were: each
command that was recorded is compared before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from anabranch._redact import Redaction
from anabranch._work import Outcome, Status
from anabranch.cli._exec_input import Row, Rows
from anabranch.cli._exec_job import JobFailedError, Piece
from anabranch.cli._exec_template import Template
from anabranch.cli._exec_terms import Terms
from anabranch.cli._load import WrongUsageError
from anabranch.cli._report import say
from anabranch.errors import JournalError
from anabranch.observe import JobLog, Journal
from anabranch.observe._joblog import Logged, kept


@attrs.frozen
class Done:
    """A job that an earlier run has recorded as done."""

    command: str
    failed: bool


class Records:
    """Record outcomes in all that was asked for, one after the other.

    Args:
        tells: the first failure, as the run goes on in spite of it.

    Attributes:
        missed: how many outcomes could not be recorded.
    """

    def __init__(self, recorders: list[Journal | JobLog], *, tells: bool) -> None:
        self._recorders = recorders
        self._tells = tells
        self.missed = 0

    async def record(self, outcome: Outcome) -> None:
        """Wait until it is recorded everywhere."""
        await self.record_all((outcome,))

    async def record_all(self, outcomes: Sequence[Outcome]) -> None:
        """Likewise wait for several."""
        try:
            for recorder in self._recorders:
                await recorder.record_all(outcomes)
        except JournalError as error:
            if self._tells and not self.missed:
                say(str(error))
            self.missed += len(outcomes)
            raise


@attrs.define(eq=False)
class Past:
    """What is known of earlier runs, and who records this one; None where nobody does.

    What a joblog holds is kept here, a journal is asked for each job: it may hold millions.

    Attributes:
        last: the largest number of a job that is recorded as done; 0 if none is.
    """

    records: Records | None = None
    last: int = 0
    logged: dict[int, Done] = attrs.field(factory=dict)
    journal: Journal | None = None

    def find(self, seq: int) -> Done | None:
        """Return what is recorded of a job as done, None if nothing is."""
        entry = None if self.journal is None else self.journal.find(str(seq))
        if entry is None or not entry.done:
            return self.logged.get(seq)
        command = entry.detail.get("command")
        if not isinstance(command, str):
            raise _foreign(entry.key)
        return Done(command, entry.failed)


@contextmanager
def opened(terms: Terms) -> Iterator[Past]:
    """Open the journal and the joblog, and read what is done.

    Raises:
        ConfigurationError: one cannot be opened, is none, is held by another run.
        WrongUsageError: the journal has jobs, and the run is not to take them up.
    """
    past, recorders = Past(), list[Journal | JobLog]()
    with ExitStack() as stack:
        if terms.joblog is not None:
            resume = terms.resume
            log = JobLog(Path(terms.joblog), _logged, resume=resume, fsync=terms.fsync)
            recorders.append(stack.enter_context(log))
            if resume:
                past.logged = {line.seq: Done(line.command, line.failed) for line in log.entries()}
                past.last = max(past.logged, default=0)
        if terms.journal is not None:
            journal = Journal(terms.journal, fsync=terms.fsync, describe=_described)
            recorders.insert(0, stack.enter_context(journal))
            if not terms.resume and next(journal.entries(), None) is not None:
                raise WrongUsageError(
                    f"exec: the journal {journal.path} has the jobs of an earlier run; take it up "
                    f"with --resume, or give another file"
                )
            past.journal = journal
            past.last = max(past.last, max(map(_number, journal.done()), default=0))
        if recorders:
            past.records = Records(recorders, tells=terms.journal_failure == "report")
        yield past
        if past.records is not None and past.records.missed > 1:
            say(f"{past.records.missed:,} jobs could not be recorded")


def left(rows: Rows, template: Template, past: Past, *, failed: bool) -> list[tuple[int, Row]]:
    """Read the input as far as it is recorded, and return what of that is left to run.

    Args:
        failed: what has failed is left, too.

    Raises:
        WrongUsageError: a job is not what was recorded.
    """
    redaction = Redaction()
    pieces: list[tuple[int, Row]] = []
    for seq in range(1, past.last + 1):
        row = rows.next()
        if row is None:
            raise WrongUsageError(
                f"exec: --resume: job {past.last} was recorded, and the input has only {seq - 1}; "
                f"give the input of the run that is taken up, or another journal"
            )
        known = past.find(seq)
        if known is None or (failed and known.failed):
            pieces.append((seq, row))
        if known is not None:
            _compare(seq, known, redaction.text(_shown(template, row, seq)))
    return pieces


def _compare(seq: int, known: Done, now: str) -> None:
    if kept(known.command) != kept(now):
        raise WrongUsageError(
            f"exec: --resume: job {seq} was recorded as {known.command!r:.200}, and is now "
            f"{now!r:.200}; give command and input of the run that is taken up, or another journal"
        )


def _shown(template: Template, row: Row, seq: int) -> str:
    try:
        return template.command(row, seq).shown
    except ValueError:  # a line that is no command: it failed for it
        return " ".join(row)


def _number(key: str) -> int:
    if not key.isdecimal():
        raise _foreign(key)
    return int(key)


def _foreign(key: str) -> WrongUsageError:
    return WrongUsageError(
        f"exec: the journal holds {key!r:.80}, which is no job of anabranch exec; give another file"
    )


def piece_of(outcome: Outcome) -> Piece | None:
    """Return the job of an outcome, None for one that was stopped."""
    if isinstance(outcome.error, JobFailedError):
        return outcome.error.piece
    return outcome.value if isinstance(outcome.value, Piece) else None


def _described(outcome: Outcome) -> Mapping[str, Any]:
    piece = piece_of(outcome)
    if piece is None or piece.finished is None:
        return {}
    return {
        "command": piece.command.shown,
        "started_at": piece.started_at,
        "exit_code": piece.finished.exit_code,
        "signal": piece.finished.signal,
        "kind": piece.finished.kind,
    }


def _logged(outcome: Outcome) -> Logged | None:
    piece = piece_of(outcome)
    if piece is None or piece.finished is None or outcome.status is Status.CANCELLED:
        return None
    finished = piece.finished
    return Logged(
        seq=piece.seq,
        started_at=piece.started_at,
        ran_s=finished.duration_s,
        received=piece.output.received,
        exit_value=-1 if finished.kind == "timeout" else max(finished.exit_code, -1),
        signal=15 if finished.kind == "timeout" else finished.signal or 0,
        command=piece.command.shown,
    )
