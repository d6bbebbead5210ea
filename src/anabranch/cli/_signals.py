"""Let Ctrl-C and SIGTERM end a run in order, and the second one at once.

While a loop runs, the first signal cancels the run; trio's and asyncio's own ways with Ctrl-C are
out of the game, because our handler stands before the loop starts.
While no loop runs (the user's file is imported, a result is printed) it raises.
A thread of its own counts the grace: when the run has not ended by then, or the interpreter
cannot, it says what would not stop and ends the process.
The first Python instruction of a handler runs in the main thread: only native code which holds
that thread longer than the person's patience cannot be ended from here.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, Self

import psutil

from anabranch._escape import escaped
from anabranch._terminal import SHOW_CURSOR

GRACE: Final = 5.0  # seconds, as a step's cancel_grace
WORDS: Final = {signal.SIGINT: "interrupted by Ctrl-C", signal.SIGTERM: "ended by SIGTERM"}


class Signals:
    """Hear SIGINT and SIGTERM for as long as the block runs.

    What the block raises after a signal is the signal's doing, and swallowed.

    Attributes:
        struck: the first signal, if one came.
        stuck: says what would not stop; asked when the grace is over, from another thread.
    """

    def __init__(self) -> None:
        self.struck: signal.Signals | None = None
        self.stuck: Callable[[], str] = str
        self._cancel: Callable[[], object] | None = None
        self._deferred = False
        self._before: dict[signal.Signals, object] = {}
        self._news: queue.SimpleQueue[bool] = queue.SimpleQueue()  # its put may be interrupted

    def __enter__(self) -> Self:
        threading.Thread(target=self._count_grace, name="anabranch signals", daemon=True).start()
        for number in WORDS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:  # nohup, and shells for what runs behind
                self._before[number] = before
                signal.signal(number, self._strike)
        return self

    def __exit__(self, *_: object) -> bool:
        for number, before in self._before.items():
            signal.signal(number, self._strike if self.struck else before)  # type: ignore[arg-type]  # getsignal gave it
        if not self.struck:
            self._news.put(False)
        return self.struck is not None

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Raise nothing while a loop is set up, runs, and is taken down."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def cancels(self, cancel: Callable[[], object]) -> None:
        """Call ``cancel`` at a signal, in the main thread, between any two instructions."""
        self._cancel = cancel
        if self.struck:
            cancel()

    def words(self) -> str:
        """Say what ended the run."""
        return WORDS[self.struck] if self.struck else "ended"

    def exit_code(self) -> int:
        """Return what shells expect of a program that a signal ended."""
        return 128 + (self.struck or 0)

    def _strike(self, number: int, _: FrameType | None) -> None:
        if self.struck:
            end_at_once(f"{self.words()}, and again: ended at once", 128 + number)
        self.struck = signal.Signals(number)
        self._news.put(True)
        if self._cancel is not None:
            self._cancel()
        if not self._deferred:
            raise KeyboardInterrupt

    def _count_grace(self) -> None:
        if not self._news.get():
            return
        try:
            self._news.get(timeout=GRACE)
        except queue.Empty:
            words = f"{self.words()}; not stopped within {GRACE:g} s: {self.stuck() or 'a thread'}"
            end_at_once(words, self.exit_code())


def end_at_once(words: str, code: int) -> None:
    """End the process and all its children, without anybody's leave."""
    line = escaped(f"anabranch: {words}") + "\n"
    if sys.stderr is not None and sys.stderr.isatty():
        line = SHOW_CURSOR + "\n" + line
    try:
        os.write(2, line.encode(errors="replace"))
    except OSError:  # nobody is there to read it
        pass
    kill_children()
    os._exit(code)


def kill_children() -> None:
    """Kill all processes that this one has started, and what they started."""
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:  # it has ended meanwhile
            pass
