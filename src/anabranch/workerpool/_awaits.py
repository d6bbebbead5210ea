"""Await the future of a task in any loop; on the pool's own, a task lends its token meanwhile."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from anabranch._runtime import current
from anabranch.workerpool._knots import without_knots
from anabranch.workerpool._task import Task

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board

# The async function that runs in this context, and whose pool's.
calling: ContextVar[tuple[Board, Task] | None] = ContextVar("anabranch_calling", default=None)


class Bell:
    """Wake a task of a loop, from any thread."""

    def __init__(self) -> None:
        runtime = current()
        self._event = runtime.Event()
        self._token = runtime.lowlevel.current_trio_token()

    def release(self, _: object = None) -> None:
        """Ring; a loop that has ended hears nothing."""
        try:
            self._token.run_sync_soon(self._event.set)
        except RuntimeError:
            pass

    async def wait(self) -> None:
        """Wait until it rings."""
        await self._event.wait()


async def wait_for_future(board: Board, task: Task, future: Any) -> None:
    """Wait until a future is done.

    Raises:
        DeadlockError: the task is the one that asks, or waits for it (a RuntimeError).
    """
    bell, here = Bell(), calling.get()
    own = here[1] if here is not None and here[0] is board else None
    if own is None:
        future.add_done_callback(bell.release)
        await bell.wait()
        return
    with board.lock:
        without_knots(own, [task], alone=True)
        own.waits_for, own.waits_for_any, own.lends = frozenset([task]), False, True
        board.give_back()
    board.launch()
    try:
        future.add_done_callback(bell.release)
        await bell.wait()
        await _take_back(board)
        own.lends = False  # a cancellation leaves it lent: what is left is the way out
    finally:
        own.waits_for = None


async def _take_back(board: Board) -> None:
    """Wait for the token that was lent; one that comes after a cancellation goes on to others."""
    bell = Bell()
    with board.lock:
        back = board.line_up(bell)
    try:
        if not back:
            await bell.wait()
    except BaseException:
        with board.lock:
            board.leave_line(bell)
        board.launch()
        raise
