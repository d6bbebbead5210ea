"""Hold one token of each of several limiters: taken together, lent, given back.

The tokens that a branch and its ancestors hold are found through a context variable,
which child tasks and threads inherit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import anyio

from anabranch._runtime import Runtime
from anabranch.abc import Limiter

PAUSE_S = 0.0002
LONGEST_PAUSE_S = 0.01

_turns = itertools.count()

holding: ContextVar[Held | None] = ContextVar("anabranch_holding", default=None)


_NOTHING: frozenset[Any] = frozenset()  # most tokens are never lent, and cost nothing for it


class Held:
    """Borrow one token from each of ``limiters``; the object itself is the borrower."""

    __slots__ = (
        "_lent",
        "blocks",
        "closed",
        "coming",
        "inside",
        "limiters",
        "missing",
        "parent",
        "waits_for",
    )

    def __init__(
        self, limiters: Sequence[Limiter], parent: Held | None = None, *, inside: bool = False
    ) -> None:
        self.limiters = limiters
        self.parent = parent
        self.inside = inside  # held by the same branch as its parent, beside it
        self.blocks: frozenset[Any] = _NOTHING  # what the branch has opened below itself
        self.closed = False
        self.waits_for: Limiter | None = None
        self.coming: Any = None  # an Event while tokens that were lent are being taken back
        self.missing = _NOTHING  # lent, or lost to a cancellation while it was lent
        self._lent: dict[Limiter, int] | None = None  # how many blocks each is lent to

    @property
    def complete(self) -> bool:
        """Tell whether a token of every limiter is here."""
        return not self.missing

    def exceeds(self) -> bool:
        """Tell whether a limiter has shrunk below what is borrowed from it."""
        for limiter in self.limiters:
            if limiter.borrowed_tokens > limiter.total_tokens:
                return True
        return False

    def give_back(self) -> None:
        """Return every token that is here, for good: what is out on loan does not come back."""
        self.closed = True
        for limiter in self.limiters:
            if limiter not in self.missing:
                limiter.release_on_behalf_of(self)

    def lend(self, limiter: Limiter) -> None:
        """Give the token of ``limiter`` back until as many ``reclaim`` as ``lend`` were called."""
        if self._lent is None:
            self._lent = {}
        count = self._lent.get(limiter, 0)
        self._lent[limiter] = count + 1
        if not count and limiter not in self.missing:
            self.missing |= {limiter}
            limiter.release_on_behalf_of(self)

    def reclaim(self, limiter: Limiter) -> bool:
        """Count a loan as ended; True when the token must now be taken back."""
        assert self._lent is not None, "only what was lent is reclaimed"
        count = self._lent.pop(limiter) - 1
        if count:
            self._lent[limiter] = count
        return not (count or self.closed)

    def misses(self, limiter: Limiter) -> bool:
        """Tell whether a token that should be here is not."""
        return limiter in self.missing and not self.closed and not self._is_lent(limiter)

    def arrived(self, limiter: Limiter) -> None:
        """Keep a token that was taken back; or not, if it was lent again meanwhile."""
        if self.closed or self._is_lent(limiter):
            limiter.release_on_behalf_of(self)
        else:
            self.missing -= {limiter}

    def _is_lent(self, limiter: Limiter) -> bool:
        return self._lent is not None and limiter in self._lent


def take_nowait(limiters: Sequence[Limiter], runtime: Runtime, held: Held) -> bool:
    """Take one token of each limiter for ``held``, or none; True when taken."""
    for count, limiter in enumerate(limiters):
        # The question first: an exception costs more, and most refusals can be seen.
        if limiter.borrowed_tokens < limiter.total_tokens:
            try:
                limiter.acquire_on_behalf_of_nowait(held)
            except (runtime.WouldBlock, anyio.WouldBlock):  # others wait, and come first
                pass
            else:
                continue
        for taken in limiters[:count]:
            taken.release_on_behalf_of(held)
        return False
    return True
