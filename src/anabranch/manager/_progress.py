"""Show how far something is, on a terminal; in a pipe say nothing, and count all the same."""

from __future__ import annotations

import threading
import time
from typing import Any, Self

from anabranch._options import exact
from anabranch._terminal import bar_on_stderr
from anabranch.errors import ConfigurationError


class ProgressTracker:
    """Count what is done, from any thread; a context manager, sync and async.

    Args:
        total: how much there is; None where nobody knows.
        description: what stands before the bar.

    Raises:
        ConfigurationError: a total that cannot be meant.
    """

    @exact("ProgressTracker")
    def __init__(self, total: int | None = None, description: str = "") -> None:
        if total is not None and (isinstance(total, bool) or not isinstance(total, int)):
            raise ConfigurationError(
                f"ProgressTracker: total={total!r} ({type(total).__name__}) is no number; "
                f"give a whole one, or None where nobody knows"
            )
        if total is not None and total < 0:
            raise ConfigurationError(f"ProgressTracker: total={total} is below 0; give 0 or more")
        self.total = total
        self.description = str(description)
        self.done = 0
        self._lock = threading.Lock()
        self._bar: Any = None
        self._began: float | None = None
        self._ended: float | None = None

    def __repr__(self) -> str:
        whole = "" if self.total is None else f" of {self.total}"
        return f"<ProgressTracker {self.description!r}: {self.done}{whole}>"

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was entered, up to its end."""
        if self._began is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    @property
    def rate(self) -> float:
        """How much was done in a second; 0.0 while nobody can know."""
        elapsed = self.elapsed_s
        return self.done / elapsed if elapsed > 0 else 0.0

    def update(self, n: int = 1) -> None:
        """Count ``n`` more as done."""
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ConfigurationError(
                f"ProgressTracker.update: n={n!r} is no number of things done; give 0 or more"
            )
        with self._lock:
            self.done += n
            done, bar = self.done, self._bar
        if bar is not None:
            bar.show(done)

    async def update_async(self, n: int = 1) -> None:
        """Count as ``update`` does; it never waits."""
        self.update(n)

    def __enter__(self) -> Self:
        self._began, self._ended = time.monotonic(), None
        self._bar = bar_on_stderr(self.total, self.description)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._ended = time.monotonic()
        with self._lock:
            bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)
