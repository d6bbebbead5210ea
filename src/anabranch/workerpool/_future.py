"""Be the future of a task: one of concurrent.futures, that knows its pool."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from anabranch._runtime import loop_runs_here
from anabranch.workerpool._awaits import wait_for_future
from anabranch.workerpool._clock import monotonic
from anabranch.workerpool._hand import here
from anabranch.workerpool._lending import Waiters
from anabranch.workerpool._task import Task
from anabranch.workerpool._waits import wait
from anabranch.workerpool._ways import cancel

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board

T = TypeVar("T")


class TaskFuture(Future[T]):
    """Wait for a task, or cancel it before it was called.

    ``result`` and ``exception`` lend the caller's token if it is a task of the same pool.
    """

    def __init__(self, board: Board, task: Task) -> None:
        super().__init__()
        self._waiters = self._waiting = Waiters(board, task)
        self._board = board

    def cancel(self) -> bool:
        """Cancel the task if it was never called; False if it was."""
        task = self._known()
        if task is None:
            return super().cancel()
        self._board.check_process()
        return cancel(self._board, task)

    def result(self, timeout: float | None = None) -> T:
        """Return what the task returned, or raise what it raised; wait for it."""
        return super().result(self._left(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task raised, None if it succeeded; wait for it."""
        return super().exception(self._left(timeout))

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait in a loop, also in the pool's own; a task of the pool lends its token meanwhile."""
        task = self._known()
        if task is not None:
            self._board.check_process()
            yield from wait_for_future(self._board, task, self).__await__()
        return self.result()

    def _known(self) -> Task | None:
        """Return the task while it is not settled; it is forgotten after."""
        if self._waiting.task is not None and self.done():
            self._waiting.task = None
        return self._waiting.task

    def _left(self, timeout: float | None) -> float | None:
        """Wait as a task does; return the seconds that are left of ``timeout``."""
        task = self._known()
        if task is None:
            return timeout
        self._board.check_process()
        if here.hand is None and not loop_runs_here():
            return timeout
        if timeout is None:
            wait(self._board, [task], None, one=True)
            return None
        until = monotonic() + timeout
        wait(self._board, [task], timeout, one=True)
        return max(0.0, until - monotonic())
