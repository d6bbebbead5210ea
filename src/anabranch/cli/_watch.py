"""Hear of a run: pass events on to what draws or writes them, and know what runs now."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from types import FrameType
from typing import Final

from anabranch.cli._stdout import UnwritableError
from anabranch.events import BranchFinished, BranchStarted, Event, EventsMissed

NAMED: Final = 5
QUIET_S: Final = 0.02
# A main thread that sits here only waits for something to happen.
_WAITS: Final = tuple(f"{os.sep}{name}" for name in ("trio", "asyncio", "anyio", "selectors.py"))


class Watch:
    """Be the observer of a run.

    Attributes:
        listeners: called with each event, one after another.
        abandoned: paths of branches whose threads still run after the run.
        broken: why what a listener writes goes nowhere, if it does.
        stop: cancels the run; may be called in any thread.
    """

    def __init__(self) -> None:
        self.listeners: list[Callable[[Event], object]] = []
        self.abandoned: list[str] = []
        self.broken: Exception | None = None
        self.stop: Callable[[], object] = bool
        self._running: dict[str, None] = {}
        self._heard = 0
        self._busy = False

    def __call__(self, event: Event) -> None:
        """Hear one event."""
        self._busy = True
        try:
            match event:
                case BranchStarted(key=key):
                    self._running[key] = None
                case BranchFinished(key=key):
                    self._running.pop(key, None)
                case EventsMissed():
                    self._running.clear()  # unknown who ended
            self._pass_on(event)
        finally:
            self._heard += 1
            self._busy = False

    def settle(self) -> None:
        """Wait until the last events have arrived: they come from a thread of their own."""
        heard = -1
        while self.listeners and not self.broken and (self._busy or heard != self._heard):
            heard = self._heard
            time.sleep(QUIET_S)

    def words(self) -> str:
        """Say what runs, and which line holds the loop, if one does."""
        held = _where(sys._current_frames().get(threading.main_thread().ident or 0))
        return names(self._running) + (f" (the loop is held at {held})" if held else "")

    def abandoned_words(self) -> str:
        """Say which branches still run in threads, if any do."""
        if not self.abandoned:
            return ""
        return f"; in threads that cannot be stopped, and end now: {names(self.abandoned)}"

    def _pass_on(self, event: Event) -> None:
        if self.broken:
            return
        try:
            for listener in self.listeners:
                listener(event)
        except (BrokenPipeError, UnwritableError) as error:
            self.broken = error
            self.stop()


def names(keys: Iterable[str]) -> str:
    """Name a few, and count the rest."""
    keys = list(keys)
    shown = ", ".join(key if len(key) <= 60 else f"{key[:59]}…" for key in islice(keys, NAMED))
    return shown + (f" and {len(keys) - NAMED:,} more" if len(keys) > NAMED else "")


def _where(frame: FrameType | None) -> str:
    if frame is None or any(part in frame.f_code.co_filename for part in _WAITS):
        return ""
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
