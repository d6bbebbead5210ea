"""Functions that do in their thread what a test tells them, and waits that cannot hang."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

PATIENCE = 30.0  # seconds; nothing here takes so long but on a machine that stands still


def until(true: Callable[[], bool], say: Callable[[], str] = str) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: it does not become so.
    """
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < give_up, say()
        time.sleep(0.0005)


class Puppet:
    """Be a plain function whose every call waits until it is told how to end."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = threading.Event()
        self._told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __call__(self) -> str:
        """Wait, then return, raise an error, or exit."""
        self.calls += 1
        self.running.set()
        how = self._told.get(timeout=PATIENCE)
        if how == "fail":
            raise ValueError("told to fail")
        if how == "exit":
            raise SystemExit(3)
        return "done"

    def tell(self, how: str) -> None:
        """End the call that runs now, or the next one: ``finish``, ``fail`` or ``exit``."""
        self.running.clear()
        self._told.put(how)


class Gauge:
    """Count how many calls run at once, and the most there were.

    Args:
        wanted: no call ends before so many have run at once, however late their threads begin.
    """

    def __init__(self, wanted: int = 0) -> None:
        self.now = 0
        self.order: list[object] = []
        self._lock = threading.Lock()
        self.want(wanted)

    def want(self, wanted: int) -> None:
        """Count anew, while nothing runs."""
        self.peak = 0
        self._wanted = wanted
        self._reached = threading.Event()

    def __call__(self, what: object = None, seconds: float = 0.0) -> object:
        """Sleep, counted, and return ``what``."""
        self.order.append(what)
        self.enter()
        if self._wanted:
            self._reached.wait(PATIENCE)
        time.sleep(seconds)
        self.leave()
        return what

    def enter(self) -> None:
        """Count one that runs."""
        with self._lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
            if self.peak >= self._wanted:
                self._reached.set()

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self.now -= 1

    def has_reached(self) -> bool:
        """Tell whether as many have run at once as are wanted."""
        return self._reached.is_set()
