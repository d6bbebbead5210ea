"""Run one job of ``anabranch exec``: its command as a child process, its output kept apart.

What a job prints waits in memory, or past a megabyte in a file without a name, until it may be
printed as a whole. A job that fails raises, so that it can be tried again as any branch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import attrs

from anabranch._host import current_host
from anabranch.cli._exec_results import Folder
from anabranch.cli._exec_template import Command, Template
from anabranch.cli._exec_timeout import Patience
from anabranch.errors import AnabranchError
from anabranch.lanes._script import Finished
from anabranch.lanes._subprocess import run_script

GRACE_S: Final = 3.0  # between SIGTERM and SIGKILL: less than the program itself has after Ctrl-C
TAIL: Final = 2048  # bytes: enough for the last line of stderr, which says why a job failed
IN_MEMORY: Final = 1024 * 1024  # bytes of a stream

Stream = Literal["stdout", "stderr"]


class Output:
    """Keep what a job prints until it is taken; written to in a thread of the script."""

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}
        self.received = 0

    def __call__(self, stream: str, line: bytes) -> None:
        """Keep a line."""
        file = self._files.get(stream)
        if file is None:
            file = self._files[stream] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  # until it is printed
        file.write(line)
        self.received += len(line) if stream == "stdout" else 0

    def __bool__(self) -> bool:
        return bool(self._files)

    def take(self, stream: Stream) -> Any:
        """Return the file of a stream, at its begin; None if nothing was printed there."""
        file = self._files.get(stream)
        if file is not None:
            file.seek(0)
        return file

    def close(self) -> None:
        """Throw away what was kept."""
        for file in self._files.values():
            file.close()
        self._files.clear()


@attrs.define(eq=False)
class Piece:
    """Carry a job from its arguments to its end; of several attempts it keeps the last.

    Attributes:
        place: the place in the order of input, among the jobs of this run.
        command: as it is compared and recorded.
        started_at: of the last attempt, in seconds since 1970.
    """

    seq: int
    place: int
    args: Sequence[str]
    command: Command
    attempts: int = 0
    started_at: float = 0.0
    output: Output = attrs.field(factory=Output)
    folder: Folder | None = None
    finished: Finished | None = None


class JobFailedError(AnabranchError):
    """Say why a job failed: its own fault."""

    def __init__(self, piece: Piece) -> None:
        super().__init__(piece.finished.error if piece.finished is not None else "")
        self.piece = piece


class Runner:
    """Run jobs.

    Args:
        retries: how often a job is run at most.
        folder_of: makes the folder for the results of a job, if they are wanted.
        on_end: hears at once, before anything else starts, whether a job that is not run again
            has succeeded.
    """

    def __init__(
        self,
        template: Template,
        patience: Patience,
        retries: int,
        folder_of: Callable[[Piece], Folder] | None,
        on_end: Callable[[bool], None],
    ) -> None:
        self.running = 0
        self._template = template
        self._patience = patience
        self._retries = retries
        self._folder_of = folder_of
        self._on_end = on_end
        self._slots: list[bool] = []

    async def run(self, piece: Piece) -> Piece:
        """Run a job once.

        Raises:
            JobFailedError: it did not return 0.
        """
        piece.output.close()
        piece.output, piece.started_at = Output(), time.time()
        slot = self._take_slot()
        self.running += 1
        try:
            piece.finished = await self._finished(piece, slot)
        finally:
            self.running -= 1
            self._slots[slot] = False
        piece.attempts += 1
        if piece.finished.success or piece.attempts >= self._retries:
            self._on_end(piece.finished.success)
        if not piece.finished.success:
            raise JobFailedError(piece)
        return piece

    async def _finished(self, piece: Piece, slot: int) -> Finished:
        try:
            command = self._template.command(piece.args, piece.seq, str(slot + 1))
            if self._folder_of is not None:
                piece.folder = self._folder_of(piece)
            async with self._patience.limits(current_host()) as limited:
                finished = await run_script(
                    command.argv,
                    timeout=self._patience.fixed,
                    grace=GRACE_S,
                    tail=TAIL,
                    on_line=None if piece.folder else piece.output,
                    stdout_to=None if piece.folder is None else piece.folder.stdout,
                    stderr_to=None if piece.folder is None else piece.folder.stderr,
                )
        except ValueError as error:  # a NUL in an argument, an open quote
            return Finished(kind="spawn", error=str(error))
        except OSError as error:  # the disk is full
            words = error.strerror or str(error)
            return Finished(kind="output", error=f"what it prints cannot be kept: {words}")
        return limited.ended or finished

    def _take_slot(self) -> int:
        """Return the lowest number that no running job has."""
        if False not in self._slots:
            self._slots.append(False)
        slot = self._slots.index(False)
        self._slots[slot] = True
        return slot
