"""Run the jobs of ``anabranch exec``: fed as they are read, printed as they end, ended in order."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, Final, TextIO

import anyio
import attrs

from anabranch._host import Host, current_host
from anabranch._open import open_scheduler
from anabranch._redact import Redaction
from anabranch._retry import Retry
from anabranch._scheduler import Scheduler
from anabranch._work import Job, Outcome, Status
from anabranch.abc import Observer
from anabranch.cli._exec_gate import Gate
from anabranch.cli._exec_input import Row, Rows
from anabranch.cli._exec_job import JobFailedError, Piece, Runner
from anabranch.cli._exec_output import Printer
from anabranch.cli._exec_progress import ProgressLine, Sums
from anabranch.cli._exec_record import Past, piece_of
from anabranch.cli._exec_results import folder_for
from anabranch.cli._exec_template import Command, Template
from anabranch.cli._exec_terms import HaltRule, Terms
from anabranch.cli._exec_timeout import Patience
from anabranch.cli._report import say
from anabranch.cli._signals import Signals
from anabranch.cli._stdout import UnwritableError
from anabranch.errors import JournalError
from anabranch.lanes._room import ROOM
from anabranch.pipeline import ConcurrencyConfig

FOLLOWING: Final = ConcurrencyConfig()  # how `-j auto` follows the load: as a step does
LAST_S: Final = 1.0  # that stdout may take for what had ended before a signal
MOST: Final = 101  # failures that an exit code tells: as GNU parallel's, 101 is more than 100


@attrs.define(eq=False)
class Work:
    """What there is to run."""

    terms: Terms
    template: Template
    rows: Rows
    first: Sequence[tuple[int, Row]]  # of a resumed run: what is left of what was recorded
    taken: int  # how many were read for that
    past: Past


def run_jobs(work: Work, signals: Signals, out: TextIO) -> Run:
    """Run everything in a loop of its own and return the run.

    Raises:
        BrokenPipeError, UnwritableError: stdout takes no more; what ran has been ended.
        JournalError: what ended could not be recorded; likewise.
    """
    run = Run(work, signals, out)
    with signals.deferred():
        anyio.run(run.main, backend=work.terms.loop)
    if run.broken is not None:
        raise run.broken
    return run


class Run:
    """One run, from the first job that is read to the last that is printed."""

    def __init__(self, work: Work, signals: Signals, out: TextIO) -> None:
        self.sums = Sums(skipped=work.taken - len(work.first))
        self.broken: Exception | None = None  # why it ended early, where that is an error
        self._work = work
        self._signals = signals
        self._printer = Printer(work.terms, out)
        self._patience = Patience(work.terms.timeout)
        folder = partial(_folder, work.terms.results) if work.terms.results is not None else None
        retries = work.terms.retries
        self._runner = Runner(work.template, self._patience, retries, folder, self._job_ended)
        self._redact = Redaction().text  # of what may end up in somebody's log
        self._succeeded = self._failed = 0  # by what the jobs themselves say, before it is recorded
        self._scheduler: Scheduler | None = None
        self.halted: str = ""  # why it ended early
        self._reading: Any = None  # the scope of whoever waits for input

    async def main(self) -> None:
        """Run in the running loop; a signal ends it."""
        host = current_host()
        scope = host.runtime.CancelScope()
        token = host.runtime.lowlevel.current_trio_token()
        self._signals.cancels(
            lambda: token.run_sync_soon(partial(scope.cancel, reason="stopped by a signal"))
        )
        try:
            with scope:
                await self._main(host)
        finally:
            self._signals.cancels(lambda: None)

    async def _main(self, host: Host) -> None:
        terms = self._work.terms
        gate = Gate(terms, host)
        line = ProgressLine(
            self.sums, host, lambda: self._runner.running, lambda: self._work.rows.total
        )
        line.held = lambda: gate.why or ROOM.why
        limit = _limit(terms)
        line.limit = None if limit == math.inf else limit
        async with host.runtime.open_nursery() as beside:
            if terms.bar:
                beside.start_soon(line.run)
            try:
                await self._schedule(host, gate, limit, line if terms.bar else None)
            except JournalError as error:
                self.broken = self.broken or error
            beside.cancel_scope.cancel(reason="all jobs have ended")

    async def _schedule(
        self, host: Host, gate: Gate, limit: float, observer: Observer | None
    ) -> None:
        terms = self._work.terms
        scheduler = open_scheduler(
            limit,
            observer=observer,
            recorder=self._work.past.records,
            recorder_failure=terms.journal_failure,
        )
        moving = FOLLOWING.adaptive() if terms.jobs is None else None
        if moving is not None:
            scheduler.adapts = moving.begin
        try:
            async with scheduler:
                self._scheduler = scheduler
                scheduler.feed(self._jobs(host, gate))
                await self._read_outcomes(host, scheduler)
        finally:
            await self._read_last(host)

    async def _read_last(self, host: Host) -> None:
        """Count and print what had ended when everything was stopped, by a signal too.

        It is recorded as done, so no later run prints it.
        """
        with host.runtime.CancelScope(shield=True) as scope:
            scope.deadline = host.clock() + LAST_S
            if self._scheduler is not None:
                await self._read_outcomes(host, self._scheduler)
            await self._print(host, self._printer.rest())

    async def _read_outcomes(self, host: Host, scheduler: Scheduler) -> None:
        async for outcome in scheduler.outcomes:
            self._count(outcome)
            if piece := piece_of(outcome):
                await self._print(host, self._printer.ready(piece.place, piece))
            self._end_early(scheduler)

    async def _jobs(self, host: Host, gate: Gate) -> AsyncIterator[Job]:
        retries = self._work.terms.retries
        retry = None
        if retries > 1:
            retry = Retry(retries, 0.0, jitter=0.0, on=JobFailedError, budget=None)
        place, seq = 0, self._work.taken
        ready = list(self._work.first)
        while not self._is_over():
            for number, row in ready:
                await gate.passed()
                if self._is_over():
                    return
                piece = Piece(number, place, row, self._command(row, number))
                place += 1
                yield Job(str(number), self._runner.run, (piece,), retry=retry)
            rows = await self._read(host)
            if not rows:
                return
            ready = list(enumerate(rows, seq + 1))
            seq += len(rows)

    def _is_over(self) -> bool:
        return bool(self.halted)

    def _command(self, row: Row, seq: int) -> Command:
        try:
            return self._work.template.command(row, seq)
        except ValueError:  # a line with an open quote: the job itself will say so
            return Command((), " ".join(row))

    async def _read(self, host: Host) -> list[Row]:
        """Read on in a thread; nothing more once the run is to end."""
        rows: list[Row] = []
        with host.runtime.CancelScope() as self._reading:
            rows = await host.runtime.to_thread.run_sync(
                self._work.rows.batch, abandon_on_cancel=True
            )
        self._reading = None
        return rows

    def _count(self, outcome: Outcome) -> None:
        piece = piece_of(outcome)
        if piece is not None and piece.finished is not None and not self._work.terms.json:
            for note in piece.finished.notes:
                say(f"job {outcome.key}: {note}")
        if outcome.status is Status.SUCCEEDED:
            self.sums.succeeded += 1
            self._patience.succeeded(outcome.ran_s)
        elif outcome.status is Status.FAILED:
            self.sums.failed += 1
            self._tell(outcome, piece)
        else:
            self.sums.stopped += 1

    async def _print(self, host: Host, pieces: list[Piece]) -> None:
        """Print what there is to print, in a thread; nothing more once stdout takes no more."""
        pieces = [piece for piece in pieces if self._printer.has_work(piece)]
        if not pieces or self.broken is not None:
            return
        try:
            await host.runtime.to_thread.run_sync(
                self._printer.print, pieces, abandon_on_cancel=True
            )
        except (BrokenPipeError, UnwritableError) as error:
            self.broken = error

    def _tell(self, outcome: Outcome, piece: Piece | None) -> None:
        """Say of a job that has not just returned what it liked how it ended."""
        finished = None if piece is None else piece.finished
        if piece is None or finished is None:
            say(f"job {outcome.key}: {outcome.error!r}")
        elif finished.kind != "exit" and not self._work.terms.json:
            say(self._redact(f"job {outcome.key}: {finished.error}: {piece.command.shown}"))

    def _job_ended(self, success: bool) -> None:
        """Start no more as soon as enough jobs have ended as ``--halt`` says."""
        self._succeeded += success
        self._failed += not success
        rule = self._work.terms.halt
        if rule is None or self.halted:
            return
        done = self._succeeded + self._failed
        count = {"fail": self._failed, "success": self._succeeded, "done": done}[rule.on]
        total = self._work.rows.total if rule.amount.percent else 0
        if not count or total is None or count < rule.amount.of(total):
            return
        words = {"fail": "failed", "success": "succeeded", "done": "done"}[rule.on]
        self._start_no_more(f"halt: {count} {words}")

    def _start_no_more(self, reason: str) -> None:
        self.halted = reason
        if self._scheduler is not None:
            self._scheduler.start_no_more(reason)
        if self._reading is not None:
            self._reading.cancel(reason=reason)

    def _end_early(self, scheduler: Scheduler) -> None:
        """End what runs, too: where nobody reads stdout, or ``--halt now`` has struck."""
        rule = self._work.terms.halt
        if self.broken is not None and not self.halted:
            self._start_no_more("stdout takes no more")
        if self.broken is not None or (self.halted and rule is not None and rule.when == "now"):
            scheduler.stop(self.halted)


def exit_code(run: Run, rule: HaltRule | None) -> int:
    """Return how many jobs failed, up to 100, 101 for more; 0 where a success was what counted."""
    if run.halted and rule is not None and rule.on == "success":
        return 0
    return min(run.sums.failed, MOST)


def _limit(terms: Terms) -> float:
    if terms.jobs is None:
        return FOLLOWING.initial_limit()
    number = terms.jobs.number
    return number if number == math.inf else int(number)


def _folder(root: str, piece: Piece) -> Any:
    return folder_for(root, piece.args, piece.seq)
