"""Lend the token of a task that waits by ``concurrent.futures.wait`` or ``as_completed``.

These two know nothing of pools: they put a waiter into each future, and wait for the waiter's
event. That event is exchanged here, for a waiter that comes from a thread of the future's own
pool. The names are private to the standard library, the same from Python 3.8 on; where they are
missing, such a wait keeps its token, as it does with any executor.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from anabranch.workerpool._hand import Hand, here

if TYPE_CHECKING:
    from anabranch.workerpool._board import Board


class LendingEvent:
    """Be an event whose wait lends the token of the hand that waits."""

    def __init__(self, hand: Hand, event: threading.Event) -> None:
        self.set, self.clear, self.is_set = event.set, event.clear, event.is_set
        self._hand = hand
        self._event = event

    def wait(self, timeout: float | None = None) -> bool:
        """Wait as an event does."""
        if self._event.is_set() or here.hand is not self._hand or not self._hand.holds:
            return self._event.wait(timeout)
        board, gate = self._hand.board, threading.Lock()
        gate.acquire()
        with board.lock:
            board.give_back()
        board.launch()
        try:
            return self._event.wait(timeout)
        finally:
            with board.lock:
                back = board.line_up(gate)
            if not back:
                gate.acquire()


class Waiters(list[Any]):
    """Be the list of a future's waiters."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board

    def append(self, waiter: Any) -> None:
        """Take one in; if it is a task's of the same pool, it lends while it waits."""
        hand = here.hand
        event = getattr(waiter, "event", None)
        if hand is not None and hand.board is self._board and isinstance(event, threading.Event):
            waiter.event = LendingEvent(hand, event)
        super().append(waiter)
