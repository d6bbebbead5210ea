"""Tell the loop of news from a thread beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch._runtime import Runtime


class Beside:
    """Run a plain function in a daemon thread of trio's cache, which works under any loop.

    Attributes:
        news: an Event of the loop: the function has returned, or ``tell`` was called.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.news: Any = runtime.Event()
        self._loop = runtime.lowlevel.current_trio_token()

    def start(self, fn: Callable[[], None], name: str) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system has no room for another thread.
        """
        from trio.lowlevel import start_thread_soon  # heavy, and only threads need it

        start_thread_soon(fn, self._returned, name)

    def tell(self) -> None:
        """Set ``news``, from any thread."""
        try:
            self._loop.run_sync_soon(self.news.set)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            pass

    def _returned(self, _: object) -> None:
        self.tell()
