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
    """Count the calls of one lane that have not begun, of one loop.

    A place that becomes free goes to the first who waits outside, never to somebody who has just
    come. It may become free in any thread, at any moment, so all of it is under one lock.
    """

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
        with self._lock:
            event = None if self._enter_nowait() else self._runtime.Event()
            if event is not None and waits:
                self._outside.append(event)
        if event is None:
            return Place(self).leave
        if not waits:
            raise QueueFull(
                f"{self._longest} calls wait in the {self._name} lane already; wait for some "
                f"of them, or raise max_queue_size"
            )
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
            if not self._outside:
                self.length -= 1
                return
            event = self._outside.popleft()  # the place is its, and never free
        with suppress(RuntimeError):  # the loop has ended
            self._loop.run_sync_soon(event.set)

    def _give_up(self, event: Any) -> None:
        with self._lock:
            waits = event in self._outside
            if waits:
                self._outside.remove(event)
        if not waits:  # it has been given a place
            self.left()

    def _enter_nowait(self) -> bool:
        if self.length >= self._longest:
            return False
        self.length += 1
        return True


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
