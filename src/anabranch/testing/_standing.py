"""End a marked test in which everything waits for ever, and say who waits where.

Nobody can tell that nothing will come from outside, so it is ended only where nothing there could:
no call runs in a thread, no other thread is busy, and no descriptor is waited for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from anabranch.errors import DeadlockError
from anabranch.testing._leaks import is_alone


class Standing:
    """Watch one test for a standstill.

    Attributes:
        tell: warns of what the test's time has passed over.
    """

    def __init__(self) -> None:
        self.tell: Callable[[], object] = bool
        self._scope: anyio.CancelScope | None = None
        self._words = ""

    def around(self, test: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """Return the test, watched."""

        @functools.wraps(test)
        async def watched(**kwargs: Any) -> None:
            try:
                with anyio.CancelScope() as self._scope:
                    await test(**kwargs)
            finally:
                self._scope = None
                if self._words:
                    raise DeadlockError(self._words)

        return watched

    def looks(self) -> bool:
        """Tell whether the test runs, and nothing outside of the loop could wake it.

        A test that was cancelled, and waits on behind a shield, is left to the suite's own timeout.
        """
        return self._scope is not None and not self._words and is_alone()

    def end(self, words: str) -> None:
        """Cancel the test, which raises the words then."""
        self._words = words
        if self._scope is not None:
            self._scope.cancel(reason="everything waits")
