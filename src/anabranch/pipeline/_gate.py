"""Let the branches of a run begin, or only one at a time while the machine is short of something.

A gate is one more limiter of each step of the run, so all that holds for limiters holds for it:
hands make way between two branches, what is fed is not pulled, and a parent lends its token to its
children, so that what is borrowed is what does work. It knows two limits: none, and one.

Unlike a limiter it never keeps a branch that has begun: who lent a token gets it back at once.
"""

from __future__ import annotations

import math
from typing import Any

from anabranch._runtime import Runtime
from anabranch._token import Held


class Gate:
    """Be a Limiter, open (``total_tokens`` is ``inf``) or holding back (1)."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._total = math.inf
        self._borrowers: dict[object, None] = {}
        self._line: dict[Any, object] = {}  # from the Event of each who waits to who it is

    @property
    def total_tokens(self) -> float:
        """How many may begin."""
        return self._total

    @total_tokens.setter
    def total_tokens(self, total: float) -> None:
        self._total = total
        self._serve()

    @property
    def borrowed_tokens(self) -> int:
        """How many do work now."""
        return len(self._borrowers)

    @property
    def tasks_waiting(self) -> int:
        """How many wait to begin."""
        return len(self._line)

    @property
    def borrowers(self) -> list[object]:
        """Who does work now."""
        return list(self._borrowers)

    def statistics(self) -> Gate:
        """Return itself: it is asked often, and a list of thousands for it is not free."""
        return self

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Let ``borrower`` begin; WouldBlock where it has to wait."""
        if not self._may_begin(borrower):
            raise self._runtime.WouldBlock
        self._borrowers[borrower] = None

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait until ``borrower`` may begin."""
        await self._runtime.lowlevel.checkpoint()
        if self._may_begin(borrower):
            self._borrowers[borrower] = None
            return
        served = self._runtime.Event()
        self._line[served] = borrower
        try:
            await served.wait()
        except BaseException:
            if self._line.pop(served, None) is None:  # it had been served, and cancelled as well
                self.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: object) -> None:
        """Count ``borrower`` as one that does no work any more."""
        del self._borrowers[borrower]
        self._serve()

    def _may_begin(self, borrower: object) -> bool:
        if isinstance(borrower, Held) and self in borrower.missing:
            return True
        return len(self._borrowers) < self._total  # else those who wait have been served

    def _serve(self) -> None:
        while self._line and len(self._borrowers) < self._total:
            served = next(iter(self._line))
            self._borrowers[self._line.pop(served)] = None
            served.set()
