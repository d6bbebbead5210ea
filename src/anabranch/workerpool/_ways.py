"""Say what follows when a call has returned, raised or run out of time: another, or the end.

Each function takes the board's lock itself, but for those that say that the caller has it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from anabranch._retry import asked, draw, wait_after
from anabranch.errors import BranchTimedOutError
from anabranch.workerpool._clock import monotonic
from anabranch.workerpool._task import (
    ABANDONED,
    CANCELLED,
    COMPLETED,
    ENDS,
    FAILED,
    PENDING,
    RETRYING,
    RUNNING,
    TIMED_OUT,
    Task,
)

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board
    from anabranch.workerpool._hand import Hand

log = logging.getLogger("anabranch")


def finish(
    board: Board, task: Task, value: Any, error: BaseException | None, hand: Hand | None = None
) -> bool:
    """Record what an attempt came to; True if it has ended the task, which is to be settled.

    ``hand`` has made the attempt, or the pool's loop.
    """
    with board.lock:
        if hand is not None:
            hand.task = None
            hand.stuck = False
        if task.status is not RUNNING:
            if error is not None:
                log.warning("abandoned task %s raised after its end: %r", task.name, error)
            return False
        if error is None:
            board.end(task, COMPLETED, value=value)
        elif not _tries_again(board, task, error):
            board.end(task, FAILED, error=error)
        return task.status in ENDS


def hand_over(board: Board, hand: Hand, task: Task, coroutine: Any) -> None:
    """Have the pool's loop await what a plain function returned; the token goes with it."""
    with board.lock:
        hand.task = None
        hand.stuck = False
        if task.status is RUNNING:
            hand.holds = False
            task.coroutine = coroutine
            board.engine.spawn(task)
            return
    coroutine.close()


def run_out(board: Board, task: Task, error: BaseException | None) -> None:
    """Record that the loop has stopped a task at its deadline."""
    with board.lock:
        board.end(task, TIMED_OUT, error=too_late(task, error))


def abandon(board: Board, hand: Hand, task: Task) -> None:
    """Give a call up that is past its deadline; its thread keeps its token. With the lock."""
    hand.stuck = True
    more = f"; its thread {hand.name} cannot be stopped, and holds its worker until it ends"
    board.end(task, ABANDONED, error=too_late(task, task.error, more))
    log.warning("task %s was abandoned: %s", task.name, task.error)


def strike(board: Board, task: Task) -> None:
    """End a task whose deadline came between two attempts. With the lock."""
    board.void(task)
    board.end(task, TIMED_OUT, error=too_late(task, task.error))


def cancel(board: Board, task: Task) -> bool:
    """Cancel a task that was never called; False when it is too late for that."""
    with board.lock:
        if task.status is not PENDING:
            return task.status is CANCELLED
        board.end(task, CANCELLED, error=CancelledError("its future was cancelled"))
        board.void(task)
    settle(board, [task])
    return True


def abort(board: Board, why: str) -> int:
    """Cancel all that waits, for a worker or for another attempt; return how many."""
    with board.lock:
        tasks = board.take_waiting()
        for task in tasks:
            board.end(task, CANCELLED, error=CancelledError(why))
    settle(board, tasks)
    return len(tasks)


def settle(board: Board, tasks: Iterable[Task]) -> None:
    """Settle the futures of tasks that ended, then tell whoever waits."""
    for task in tasks:
        try:
            settle_future(task)
        finally:
            board.told(task)


def settle_future(task: Task) -> None:
    """Give its future, if it has one, what a task came to; runs its callbacks.

    For whoever has ended the task, without the lock.
    """
    future: Future[Any] | None = task.future
    if future is not None:
        task.future = None
        try:
            if task.status is COMPLETED:
                future.set_result(task.value)
            elif task.status is CANCELLED and not task.attempts:
                Future.cancel(future)
                future.set_running_or_notify_cancel()
            else:
                future.set_exception(task.error)
        except BaseException as raised:  # a callback's exit; what is an Exception is logged there
            if threading.current_thread() is threading.main_thread():
                raise
            log.critical("a callback of task %s raised %r", task.name, raised)
        finally:
            task.value = task.error = None
    if log.isEnabledFor(logging.DEBUG):
        log.debug("task %s %s after %.3f s", task.name, task.status, task.ran)


def _tries_again(board: Board, task: Task, error: BaseException) -> bool:
    """Let a task wait for its next attempt, if it has one; with the lock.

    One that would begin past the deadline is not waited for.
    """
    retry = task.terms.retry
    if retry is None or not isinstance(error, Exception) or task.attempts >= retry.attempts:
        return False
    if not asked(retry, error):
        return False
    seconds = wait_after(retry, task.attempts, draw(retry, task.id, task.attempts))
    moment = monotonic() + seconds
    if task.deadline is not None and moment >= task.deadline:
        more = f"; its next attempt would have begun {seconds:g} s later, past that"
        board.end(task, TIMED_OUT, error=too_late(task, error, more))
        return True
    board.pause(task, RETRYING)
    task.error = error
    if task.deadline is not None:
        board.engine.strike_at(task.deadline, task)
    if seconds:
        board.engine.queue_at(moment, task)
    else:
        board.queue(task)
    return True


def too_late(task: Task, cause: BaseException | None, more: str = "") -> BranchTimedOutError:
    """Make the error of a task that its timeout has struck."""
    made = f"{task.attempts} attempt{'s' * (task.attempts != 1)}"
    error = BranchTimedOutError(
        f"task {task.name!r} did not end in {task.terms.timeout:g} s, all attempts and the waits "
        f"between them together (task_timeout_seconds); {made} made{more}"
    )
    error.__cause__ = cause
    return error
