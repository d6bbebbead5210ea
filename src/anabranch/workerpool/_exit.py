"""End all pools before the interpreter does, so that no task is cut short by a forgotten shutdown.

A pool's threads are daemons, so that a function that never returns cannot keep a process that was
asked to end. So somebody must wait for the tasks that are under way. ``atexit`` is too late for
that: since Python 3.12 no thread can be started there, and other threads have been joined by then.
``threading._register_atexit`` is what concurrent.futures uses; nothing public runs at that moment.
``atexit`` is for the pools which other functions of ``atexit`` use.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from anabranch.workerpool._hand import here
from anabranch.workerpool._waits import wait
from anabranch.workerpool._ways import abort

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board

_boards: WeakSet[Board] = WeakSet()


def end_at_exit(board: Board) -> None:
    """Have a pool ended in order when the program ends."""
    _boards.add(board)


def _end_now(board: Board) -> None:
    """Wait for what runs and what waits; Ctrl-C cancels what waits."""
    _boards.discard(board)
    try:
        end(board)
    except KeyboardInterrupt:
        abort(board, "the program was interrupted while it ended")


def end(board: Board) -> None:
    """Wait for the tasks of a pool that is closed, then for its threads.

    A thread whose task was abandoned is not waited for; in a task of the pool none is.
    """
    with board.lock:
        tasks = board.open | board.unsettled
    wait(board, tasks, None)
    if here.hand is not None and here.hand.board is board:
        return
    joined = {threading.current_thread()}
    while threads := _threads(board) - joined:  # one may have started another meanwhile
        for thread in threads:
            thread.join()
        joined |= threads


def _threads(board: Board) -> set[threading.Thread]:
    with board.lock:
        threads = {hand.thread for hand in board.hands if not hand.stuck}
        threads |= {board.engine.thread, *board.engine.broken}
    return {thread for thread in threads if thread is not None}


def _end_all() -> None:
    boards = [board for board in list(_boards) if board.pid == os.getpid()]
    for board in boards:
        board.close()
    for board in boards:
        _end_now(board)


def _register() -> None:
    register: Any = getattr(threading, "_register_atexit", atexit.register)
    try:
        register(_end_all)
    except RuntimeError:  # the interpreter is ending already
        pass
    atexit.register(_end_all)


_register()
