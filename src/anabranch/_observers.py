"""Deliver events to an observer that may raise or stall without harming anybody.

Events go into a bounded queue, and a thread of their own calls the observer.
When the queue is full the newest are dropped and counted, and the observer is told how many.
At the end of a run the observer has a moment, once, to catch up: a quick one has then
heard everything, and a stalled one delays nobody longer.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from anabranch._work import is_async
from anabranch.abc import Observer
from anabranch.errors import ConfigurationError
from anabranch.events import Event, EventsMissed

log = logging.getLogger("anabranch")

CAPACITY = 65_536
CATCH_UP_S = 0.1


def check_observer(where: str, observer: object) -> None:
    """Raise ConfigurationError for what cannot hear of events."""
    if observer is None or (callable(observer) and not is_async(observer)):
        return
    what = "is async, and is called in a thread" if callable(observer) else "is not callable"
    raise ConfigurationError(
        f"{where}: observer={observer!r} {what}; give a plain function of one event"
    )


class Delivery:
    """Queue events for one observer; ``emit`` may be called in any thread and never waits."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._events: deque[Event] = deque()
        self._missed = 0
        self._wake = threading.Event()
        self._caught_up = threading.Event()
        self._started = False
        self._closed = False
        self._reported = False

    def emit(self, event: Event) -> None:
        """Queue ``event``."""
        if len(self._events) >= CAPACITY:
            self._missed += 1
            return
        self._events.append(event)
        if not self._wake.is_set():
            self._wake.set()
            if not self._started:
                self._start()

    def close(self) -> None:
        """End the delivery; wait at most a tenth of a second for the observer to catch up."""
        self._closed = True
        if self._started:
            self._wake.set()
            self._caught_up.wait(CATCH_UP_S)

    def _start(self) -> None:
        from trio.lowlevel import start_thread_soon  # daemon threads, cached, under any loop

        self._started = True
        start_thread_soon(self._deliver, lambda _: None, "anabranch observer")

    def _deliver(self) -> None:
        while not (self._closed and not self._events):
            self._wake.wait()
            self._wake.clear()
            while self._events:
                self._call(self._events.popleft())
                if self._missed and not self._events:
                    self._tell_missed()
        self._caught_up.set()

    def _tell_missed(self) -> None:
        missed, self._missed = self._missed, 0
        self._call(EventsMissed(at=0.0, step="", count=missed))

    def _call(self, event: Event) -> None:
        try:
            self._observer(event)
        except Exception:
            if not self._reported:
                self._reported = True
                log.exception(
                    "the observer %r raised; its later errors are not logged", self._observer
                )
