"""Functions that do in their thread what a test tells them, and waits that cannot hang."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

PATIENCE = 10.0  # seconds; nothing here takes so long but on a machine that stands still


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
    """Count how many calls run at once, and the most there were."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.order: list[object] = []
        self._lock = threading.Lock()

    def __call__(self, what: object = None, seconds: float = 0.0) -> object:
        """Sleep, counted, and return ``what``."""
        with self._lock:
            self.order.append(what)
            self.now += 1
            self.peak = max(self.peak, self.now)
        time.sleep(seconds)
        with self._lock:
            self.now -= 1
        return what
