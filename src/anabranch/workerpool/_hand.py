"""Run task after task in one thread, without a trip through a loop between two of them.

A hand that finds nothing to do gives its token back and waits at its gate; it leaves after a
while, or when its pool is over. Threads are daemons, for a function that never returns must not
keep the process from ending; that nothing else is cut short is seen to by ``_exit``.
"""

from __future__ import annotations

import threading
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from anabranch.workerpool._task import RUNNING, Task
from anabranch.workerpool._ways import finish, hand_over, settle_future

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board

IDLE_S = 10.0  # then an idle thread ends


class Here(threading.local):
    """Know the hand whose thread this is."""

    hand: Hand | None = None


here = Here()


class Hand:
    """Own one thread of a pool; the board says which task it is given."""

    def __init__(self, board: Board, name: str) -> None:
        self.board = board
        self.name = name
        self.task: Task | None = None  # which it calls now
        self.holds = True  # a token
        self.fresh = True  # it was given one, and has not looked for a task since
        self.over = False  # it is to leave
        self.stuck = False  # its task was abandoned, and still runs
        self.thread: threading.Thread | None = None
        self._gate = threading.Lock()
        self._gate.acquire()

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system gives no thread, or the interpreter ends.
        """
        threading.Thread(target=self._run, name=self.name, daemon=True).start()

    def wake(self) -> None:
        """Open the gate, once: the hand has been given a token, or is to leave."""
        self._gate.release()

    def work(self) -> None:
        """Call task after task, until there is none; in whatever thread this is called."""
        before, here.hand = here.hand, self
        try:
            task = self.board.next_for(self)
            while task is not None:
                ended = self._call(task)
                task = self.board.next_for(self, task if ended else None)
        finally:
            here.hand = before

    def _run(self) -> None:
        self.thread = threading.current_thread()
        while not self.over:
            self.work()
            if not self.over and not self._gate.acquire(timeout=IDLE_S):
                if self.board.leave(self):
                    return
                self._gate.acquire()  # it was woken in this very moment

    def not_started(self, error: RuntimeError) -> None:
        """Work here and now, if there is no thread for it and nobody else: the pool must go on."""
        if not self.board.alone(self):
            return
        self.work()
        while not self.over and not self.board.leave(self):
            self._gate.acquire()
            self.work()

    def _call(self, task: Task) -> bool:
        """Call a task; True if it has ended by that."""
        with self.board.lock:
            context, fn, args, kwargs = task.context, task.fn, task.args, task.kwargs
            in_time = task.status is RUNNING  # its deadline may come between taking and calling it
            if in_time and task.future is not None and task.attempts == 1:
                task.future.set_running_or_notify_cancel()
        if not in_time:
            return finish(self.board, task, None, None, self)
        value: Any = None
        error: BaseException | None = None
        try:
            value = context.run(fn, *args, **kwargs)
        except BaseException as raised:
            error = raised
        del context, fn, args, kwargs  # the error's traceback would keep them
        try:
            if type(value) is CoroutineType:
                hand_over(self.board, self, task, value)
                return False
            ended = finish(self.board, task, value, error, self)
            if ended:
                settle_future(task)
            return ended
        finally:
            error = None  # its traceback leads back to this frame: a ring
