"""Lend the token of a task that waits by ``concurrent.futures.wait`` or ``as_completed``.

These two know nothing of pools: they put a waiter into each future, and wait for the waiter's
event. That event is exchanged here, for a waiter that comes from a thread of the future's own
pool; it also knows what is waited for, so that a wait which would never end is refused. The names
are private to the standard library, the same from Python 3.8 on; where they are missing, such a
wait keeps its token, as it does with any executor.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from anabranch.workerpool._hand import Hand, here
from anabranch.workerpool._knots import check_knots
from anabranch.workerpool._task import Task

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board


class LendingEvent:
    """Be an event whose wait lends the token of the hand that waits.

    Args:
        for_all: the event is set when all that is waited for has ended, and not before.
        futures: how many are waited for, of this pool and others; None if nobody knows.
    """

    def __init__(
        self, hand: Hand, event: threading.Event, *, for_all: bool, futures: int | None
    ) -> None:
        self.set, self.clear, self.is_set = event.set, event.clear, event.is_set
        self.tasks: list[Task] = []
        self.settled = 0  # futures among them that were done at the beginning
        self._hand = hand
        self._event = event
        self._for_all = for_all
        self._futures = futures

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as an event does.

        Raises:
            DeadlockError: for ever, because what is waited for waits for the task that does.
            LaneError: no thread can be had for what is waited for.
        """
        if self._event.is_set() or here.hand is not self._hand or not self._hand.holds:
            return self._event.wait(timeout)
        board, gate, own = self._hand.board, threading.Lock(), self._hand.task
        gate.acquire()
        with board.lock:
            if own is not None and timeout is None:  # else it ends, come what may
                self._knot(board, own)
            board.give_back()
        try:
            board.launch()
            if timeout is None:
                board.check_hands()
            return self._event.wait(timeout)
        finally:
            with board.lock:
                if own is not None:
                    own.waits_for = None
                back = board.line_up(gate)
            if not back:
                gate.acquire()

    def _knot(self, board: Board, own: Task) -> None:
        """Note for others what ``own`` waits for, unless it would wait for ever."""
        ahead = [task for task in self.tasks if task in board.open or task in board.unsettled]
        known = len(self.tasks) + self.settled == self._futures
        if ahead and (self._for_all or known):
            check_knots(own, ahead, all_of_them=self._for_all)
            own.waits_for, own.waits_for_any = frozenset(ahead), not self._for_all


class Waiters(list[Any]):
    """Be the list of the waiters of a future, and know its task."""

    def __init__(self, board: Board, task: Task) -> None:
        super().__init__()
        self.task: Task | None = task
        self._board = board

    def append(self, waiter: Any) -> None:
        """Take one in; if it is a task's of the same pool, it lends while it waits."""
        hand = here.hand
        if hand is not None and hand.board is self._board:
            event = getattr(waiter, "event", None)
            if isinstance(event, threading.Event):
                for_all = getattr(waiter, "num_pending_calls", None) is not None
                futures = sys._getframe(1).f_locals.get("fs")  # what the caller waits for
                number = len(futures) if isinstance(futures, (list, set)) else None
                event = LendingEvent(hand, event, for_all=for_all, futures=number)
                waiter.event = event
            if isinstance(event, LendingEvent):
                if self.task is None:
                    event.settled += 1
                else:
                    event.tasks.append(self.task)
        super().append(waiter)
