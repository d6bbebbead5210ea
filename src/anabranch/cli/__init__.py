"""Run pipelines and commands from a shell: the program ``anabranch``.

Its parts are imported when it is called, so that a Ctrl-C meanwhile ends it as at any other time:
with a word, and without a traceback.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn

__all__ = ["main"]

INTERRUPTED: Final = 130
WORD: Final = b"anabranch: interrupted\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    Args:
        argv: the words after the program's name; None for those that it was called with.
    """
    try:
        with _interruptible():
            from anabranch.cli._app import main as run
        return run(argv)
    except KeyboardInterrupt:  # before or after what hears signals
        _say()
        return INTERRUPTED


@contextmanager
def _interruptible() -> Iterator[None]:
    """End the process at once at a Ctrl-C: nothing has begun, and an import cannot be undone."""
    before = signal.getsignal(signal.SIGINT)
    hears = before is signal.default_int_handler and (
        threading.current_thread() is threading.main_thread()
    )
    if hears:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        if hears:
            signal.signal(signal.SIGINT, before)


def _end(*_: object) -> NoReturn:
    _say()
    os._exit(INTERRUPTED)


def _say() -> None:
    try:
        os.write(2, WORD)
    except OSError:  # nobody is there to read it
        pass
