"""Say how far a run of ``anabranch exec`` is: a line on stderr, drawn over on a terminal.

What is left is told from the rate so far, once it is known how many jobs there are.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, Final

import attrs

from anabranch._escape import escaped
from anabranch._host import Host
from anabranch.cli._streams import tell
from anabranch.events import Event, LimitChanged

EVERY_S: Final = 0.25
EVERY_FILED_S: Final = 5.0  # where stderr is no terminal
CLEAR: Final = "\r\x1b[K"


@attrs.define(eq=False)
class Sums:
    """Add up how jobs have ended.

    Attributes:
        stopped: were cancelled, or never began. skipped: an earlier run had done them.
    """

    succeeded: int = 0
    failed: int = 0
    stopped: int = 0
    skipped: int = 0

    @property
    def done(self) -> int:
        """How many ran to an end."""
        return self.succeeded + self.failed


class ProgressLine:
    """Draw the line, a few times a second."""

    def __init__(
        self, sums: Sums, host: Host, running: Callable[[], int], total: Callable[[], Any]
    ) -> None:
        self.limit: float | None = None
        self.reason = ""
        self.held: Callable[[], str] = str  # why nothing is started at the moment
        self._sums = sums
        self._host = host
        self._running = running
        self._total = total
        self._began = host.clock()
        self._terminal = sys.stderr.isatty()

    def __call__(self, event: Event) -> None:
        """Hear of the limit."""
        if isinstance(event, LimitChanged):
            self.limit, self.reason = event.new, event.reason

    async def run(self) -> None:
        """Draw until it is cancelled, and once more."""
        try:
            while True:
                await self._host.runtime.sleep(EVERY_S if self._terminal else EVERY_FILED_S)
                self.draw()
        finally:
            self.draw(last=True)

    def draw(self, *, last: bool = False) -> None:
        """Draw the line."""
        words = escaped(self.words())
        if not self._terminal:
            tell(words)
            return
        try:
            sys.stderr.write(CLEAR + words + ("\n" if last else ""))
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody looks any more
            pass

    def words(self) -> str:
        """Return the line."""
        sums, total = self._sums, self._total()
        seconds = max(self._host.clock() - self._began, 1e-9)
        rate = sums.done / seconds
        of = "" if total is None else f" of {total - sums.skipped:,}"
        parts = [f"{sums.done:,}{of} done"]
        if total and total > sums.skipped:
            parts.append(f"{math.floor(100 * sums.done / (total - sums.skipped))} %")
        parts.append(f"{sums.failed:,} failed")
        parts.append(f"{self._running():,} running")
        if self.limit is not None:
            parts.append(f"limit {self.limit:g}" + (f" ({self.reason})" if self.reason else ""))
        parts.append(f"{rate:,.1f}/s")
        if total is not None and rate > 0:
            minutes, rest = divmod(round((total - sums.skipped - sums.done) / rate), 60)
            parts.append(f"{minutes}:{rest:02} left")
        if why := self.held():
            parts.append(f"waits: {why}")
        return ", ".join(parts)
