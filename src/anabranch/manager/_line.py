"""Let only so many calls stand in line: whoever comes then waits outside, or is refused."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from anabranch._runtime import Runtime
from anabranch.errors import QueueFull


class Line:
    """Count the calls of one lane that have not begun, of one loop."""

    def __init__(self, name: str, longest: int, runtime: Runtime) -> None:
        self._name = name
        self._longest = longest
        self._runtime = runtime
        self._loop = runtime.lowlevel.current_trio_token()
        self._lock = threading.Lock()
        self._outside: deque[Any] = deque()  # events of those who wait to be let in
        self.length = 0

    async def enter(self, *, waits: bool) -> Callable[[], None]:
        """Take a place; return what gives it back, from any thread, once or more often.

        Raises:
            QueueFull: there is none, and ``waits`` is False.
        """
        while not self._enter_nowait():
            if not waits:
                raise QueueFull(
                    f"{self._longest} calls wait in the {self._name} lane already; wait for some "
                    f"of them, or raise max_queue_size"
                )
            event = self._runtime.Event()
            self._outside.append(event)
            let_in = False
            try:
                await event.wait()
                let_in = True
            finally:
                if not let_in:
                    self._give_up(event)
        return Place(self).leave

    def left(self) -> None:
        """Hear that one of them has begun, or went away."""
        with self._lock:
            self.length -= 1
        if self._outside:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.run_sync_soon(self._wake)

    def _give_up(self, event: Any) -> None:
        if event.is_set():
            self._wake()  # somebody else's turn
        else:
            self._outside.remove(event)

    def _enter_nowait(self) -> bool:
        with self._lock:
            if self.length >= self._longest:
                return False
            self.length += 1
            return True

    def _wake(self) -> None:
        if self._outside:
            self._outside.popleft().set()


class Place:
    """Be one place in a line, which is left once."""

    __slots__ = ("_line",)

    def __init__(self, line: Line) -> None:
        self._line: Line | None = line

    def leave(self) -> None:
        """Leave it; again does nothing."""
        line, self._line = self._line, None
        if line is not None:
            line.left()
