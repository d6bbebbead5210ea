"""Read how branches ended, in the order of completion, while others still run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from anabranch._branch import Branch
from anabranch._runtime import Runtime
from anabranch._work import Outcome


class Ended(Protocol):
    """Keep the branches that have ended and were not read: a ledger, or a whole run's stream."""

    runtime: Runtime
    ended: deque[Branch]
    read: int


class Outcomes:
    """Iterate over the outcomes of one scheduler; ends when nothing is queued, running or fed."""

    def __init__(self, ledger: Ended, idle: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._idle = idle
        self._changed: Any = None  # an Event while somebody waits
        self.nobody_reads = False  # the block is being left: outcomes are dropped

    def __aiter__(self) -> Outcomes:
        return self

    async def __anext__(self) -> Outcome:
        """Wait for the next branch to end."""
        ledger = self._ledger
        await ledger.runtime.lowlevel.checkpoint()
        while not ledger.ended:
            if self._idle():
                raise StopAsyncIteration
            if self._changed is None:
                self._changed = ledger.runtime.Event()
            await self._changed.wait()
        branch = ledger.ended.popleft()
        outcome = branch.outcome(ledger.read)
        ledger.read += 1
        if branch.feed is not None:
            branch.feed.was_read()
        return outcome

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None
