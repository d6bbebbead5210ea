"""Hear what nobody else would: errors that Python or asyncio only log, and a round that hangs."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

HANGS_S = 120.0


class Unheard(logging.Handler):
    """Keep what is raised where nobody can catch it, and what asyncio logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(f"asyncio logged: {self.format(record)}")

    def unraisable(self, args: Any) -> None:
        """Be sys.unraisablehook."""
        self.told.append(f"unraisable: {args.exc_value!r} in {args.object!r:.200}")

    def in_thread(self, args: Any) -> None:
        """Be threading.excepthook."""
        self.told.append(f"a thread ended with {args.exc_value!r}")

    def taken(self) -> list[str]:
        """Return what was heard since the last call."""
        told, self.told = self.told, []
        return told


@contextmanager
def unheard() -> Iterator[Unheard]:
    """Listen as long as the block runs."""
    ear = Unheard()
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook, threading.excepthook = ear.unraisable, ear.in_thread
    logging.getLogger("asyncio").addHandler(ear)
    try:
        yield ear
    finally:
        logging.getLogger("asyncio").removeHandler(ear)
        sys.unraisablehook, threading.excepthook = hooks


class Patience:
    """End the program, with the line of each thread, when a round takes far too long."""

    def __init__(self, seconds: float = HANGS_S) -> None:
        self._seconds = seconds
        self._due = float("inf")
        self._words = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="soak: patience", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @contextmanager
    def over(self, words: str) -> Iterator[None]:
        """Say ``words`` if the block hangs."""
        self._words, self._due = words, time.monotonic() + self._seconds
        try:
            yield
        finally:
            self._due = float("inf")

    def _watch(self) -> None:
        while not self._over.wait(1):
            if time.monotonic() > self._due:
                print(f"\nHANGS: {self._words}", flush=True)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(1)
