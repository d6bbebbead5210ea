"""Hold one token of each of several limiters: taken together, lent, given back.

The tokens that a branch and its ancestors hold are found through a context variable,
which child tasks and threads inherit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import anyio

from anabranch._runtime import Runtime
from anabranch.abc import Limiter

holding: ContextVar[Held | None] = ContextVar("anabranch_holding", default=None)

Wanted: TypeAlias = "tuple[Held, Limiter]"

_NOTHING: frozenset[Any] = frozenset()  # most tokens are never lent, and cost nothing for it


class Held:
    """Borrow one token from each of ``limiters``; the object itself is the borrower."""

    __slots__ = (
        "_lent",
        "blocks",
        "closed",
        "coming",
        "coming_for",
        "hand",
        "inside",
        "limiters",
        "missing",
        "parent",
        "turn",
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
        self.hand: Any = None  # of a pipeline's step: what is charged here is its branch's
        self.waits_for: Limiter | None = None
        self.turn: Any = None  # the Event of somebody else whom it waits behind
        self.coming: Any = None  # an Event while somebody waits in line on its behalf
        self.coming_for: Limiter | None = None  # what that one waits for
        self.missing = _NOTHING  # lent, let go, or lost to a cancellation meanwhile
        self._lent: dict[Limiter, int] | None = None  # how many blocks each is lent to

    def exceeds(self) -> bool:
        """Tell whether a limiter has shrunk below what is borrowed from it."""
        for limiter in self.limiters:
            if limiter.borrowed_tokens > limiter.total_tokens:
                return True
        return False

    def give_back(self) -> None:
        """Return every token that is here, for good: what is out on loan does not come back."""
        self.closed = True
        self.hand = None
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

    def let_go(self, limiter: Limiter) -> None:
        """Give the token of ``limiter`` back until something goes on inside the branch."""
        self.missing |= {limiter}
        limiter.release_on_behalf_of(self)

    def reclaim(self, limiter: Limiter) -> None:
        """Count a loan as ended; the token is missing until it is taken back."""
        assert self._lent is not None, "only what was lent is reclaimed"
        count = self._lent.pop(limiter) - 1
        if count:
            self._lent[limiter] = count

    def misses(self, limiter: Limiter) -> bool:
        """Tell whether a token that should be here is not."""
        return limiter in self.missing and not self.closed and not self._is_lent(limiter)

    def arrived(self, limiter: Limiter) -> None:
        """Count a token that was taken back as here."""
        if limiter in self.missing:
            self.missing -= {limiter}

    def lacks(self) -> bool:
        """Tell whether it, or one above it, misses a token."""
        held: Held | None = self
        while held is not None:
            if held.missing and any(map(held.misses, held.missing)):
                return True
            held = held.parent
        return False

    def _is_lent(self, limiter: Limiter) -> bool:
        return self._lent is not None and limiter in self._lent


def take_nowait(limiters: Sequence[Limiter], runtime: Runtime, held: Held) -> bool:
    """Take one token of each limiter for ``held``, and what its branch misses; or none at all."""
    parent = held.parent
    if held.missing or (parent is not None and parent.lacks()):
        return take_wanted(wanted(limiters, held), runtime)
    for count, limiter in enumerate(limiters):
        if not _take_one(limiter, runtime, held):
            for taken in limiters[:count]:
                taken.release_on_behalf_of(held)
            return False
    return True


def wanted(limiters: Sequence[Limiter], held: Held) -> list[Wanted]:
    """Return what is taken with one of each limiter: what ``held`` and those above it miss.

    Each of them was lent to let others go on; nothing goes on inside before it is back.
    """
    pairs: list[Wanted] = [(held, limiter) for limiter in limiters]
    above: Held | None = held
    while above is not None:
        if above.missing:
            pairs += [(above, limiter) for limiter in above.missing if above.misses(limiter)]
        above = above.parent
    return pairs


def take_wanted(pairs: Sequence[Wanted], runtime: Runtime) -> bool:
    """Take all of these tokens, or none; True when taken."""
    for count, (held, limiter) in enumerate(pairs):
        if held.coming is not None or not _take_one(limiter, runtime, held):
            for other, taken in pairs[:count]:
                taken.release_on_behalf_of(other)
            return False
    for held, limiter in pairs:
        held.arrived(limiter)
    return True


def _take_one(limiter: Limiter, runtime: Runtime, held: Held) -> bool:
    # The question first: an exception costs more, and most refusals can be seen.
    # Who takes back what it has lent is asked about all the same: some limiters let it pass.
    if limiter.borrowed_tokens < limiter.total_tokens or limiter in held.missing:
        try:
            limiter.acquire_on_behalf_of_nowait(held)
        except (runtime.WouldBlock, anyio.WouldBlock):  # others wait, and come first
            return False
        return True
    return False
