"""Wait for tasks in a plain thread, so that nobody waits for ever.

A task that waits for others of its own pool lends its token to them, so a pool of one worker
suffices for any depth. Tasks that would wait for each other are told so instead.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED
from typing import TYPE_CHECKING

from anabranch._runtime import loop_runs_here
from anabranch.errors import HostLoopError
from anabranch.workerpool._hand import Hand, here
from anabranch.workerpool._knots import is_enough, without_knots
from anabranch.workerpool._task import Task

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board


OURS = ("anabranch.", "concurrent.futures.")


class BlockedLoopWarning(RuntimeWarning):
    """Say that a wait blocks the thread of a running loop, and all that runs on that loop."""


class Wait:
    """Let one thread wait for tasks; changed under the board's lock."""

    __slots__ = ("_gate", "_left", "_open", "_word")

    def __init__(self, left: int, word: str) -> None:
        self._left = left
        self._word = word
        self._open = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def note(self, task: Task) -> None:
        """Hear that a task has ended."""
        self._left -= 1
        if not self._open and (not self._left or is_enough(task, self._word)):
            self._open = True
            self._gate.release()

    def block(self, timeout: float | None) -> bool:
        """Wait; False when ``timeout`` seconds were over first."""
        if timeout is None:
            return self._gate.acquire()
        return self._gate.acquire(timeout=min(max(0.0, timeout), threading.TIMEOUT_MAX))


def wait(
    board: Board,
    tasks: Iterable[Task],
    timeout: float | None,
    word: str = ALL_COMPLETED,
    *,
    one: bool = False,
) -> bool:
    """Wait until tasks have ended, as ``word`` of concurrent.futures says; False if it timed out.

    With ``one`` it is a single task, and without it no wait; else those that wait for the task
    which calls this are left out.

    Raises:
        HostLoopError: this is the thread of the pool's own loop, which runs what is waited for.
        DeadlockError: the one task that is waited for waits for this one.
        LaneError: no thread can be had for what is waited for.
    """
    if not _is_open(board, tasks, word):
        return True
    if timeout is None or timeout > 0:
        check_may_block(board)
    hand = here.hand
    if hand is not None and (hand.board is not board or not hand.holds):
        hand = None
    with board.lock:
        missing = _missing(board, tasks, word)
        if hand is not None and hand.task is not None:
            missing = without_knots(hand.task, missing, alone=one)
        if not missing:
            return True
        waiting = Wait(len(missing), word)
        for task in missing:
            if task.waits is None:
                task.waits = []
            task.waits.append(waiting)
        if hand is not None:
            _lend(hand, missing, word)
    starts = bool(board.starts)
    try:
        if starts:
            board.launch()
        if starts and hand is not None:
            board.check_hands()
        return waiting.block(timeout)
    finally:
        _go_on(board, hand, missing, waiting)


def check_may_block(board: Board) -> None:
    """Warn, once for each pool, of a wait that blocks a running loop; refuse it on the pool's own.

    Raises:
        HostLoopError: this is the thread of the pool's own loop.
    """
    if not loop_runs_here():
        return
    if threading.get_ident() == board.engine.ident:
        raise HostLoopError(
            "a blocking wait on the pool's own loop would wait for ever: what it waits for runs "
            "there; await pool.submit(...) instead, or wait in a plain function"
        )
    if not board.warned:
        board.warned = True
        warnings.warn(
            "a wait for a WorkerPool blocks the running loop of this thread; "
            "await asyncio.wrap_future(pool.submit(...)), or use AsyncWorkerPool",
            BlockedLoopWarning,
            stacklevel=_level(),
        )


def _level() -> int:
    """Count the frames from the warning to the first that is neither ours nor an executor's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(OURS):
        level, frame = level + 1, frame.f_back
    return level


def _is_open(board: Board, tasks: Iterable[Task], word: str) -> bool:
    """Tell whether there may be something to wait for."""
    with board.lock:
        return bool(_missing(board, tasks, word))


def _missing(board: Board, tasks: Iterable[Task], word: str) -> list[Task]:
    """List the tasks that have not ended; none if enough have."""
    missing = []
    for task in tasks:
        if task in board.open or task in board.unsettled:
            missing.append(task)
        elif is_enough(task, word):
            return []
    return missing


def _lend(hand: Hand, missing: list[Task], word: str) -> None:
    if hand.task is not None:  # else it runs a callback of a future
        hand.task.waits_for = frozenset(missing)
        hand.task.waits_for_any = word == FIRST_COMPLETED
    hand.board.give_back()


def _go_on(board: Board, hand: Hand | None, missing: list[Task], waiting: Wait) -> None:
    """Stand in no list any more, and take the token back that was lent."""
    gate = threading.Lock()
    gate.acquire()
    back = True
    with board.lock:
        for task in missing:
            if task.waits is not None and waiting in task.waits:
                task.waits.remove(waiting)
        if hand is not None:
            if hand.task is not None:
                hand.task.waits_for = None
            back = board.line_up(gate)
    if not back:
        gate.acquire()
