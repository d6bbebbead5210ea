"""Hold one token of each of several limiters: taken together, lent to children, given back.

Whoever waits for one limiter holds no token of another meanwhile, so limiters that are taken
in different orders cannot block each other.

A branch that opens a scheduler on a limiter of which it holds a token lends that token
for as long as it waits: a limiter of 1 suffices for any depth of nesting.
The tokens that a branch and its ancestors hold are found through a context variable,
which child tasks and threads inherit.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from itertools import count
from typing import Any

import anyio

from anabranch._runtime import Runtime
from anabranch.abc import Limiter

PAUSE_S = 0.0002
LONGEST_PAUSE_S = 0.01

_turns = count()

holding: ContextVar[Held | None] = ContextVar("anabranch_holding", default=None)


_NOTHING: frozenset[Any] = frozenset()  # most tokens are never lent, and cost nothing for it


class Held:
    """Borrow one token from each of ``limiters``; the object itself is the borrower."""

    __slots__ = ("_lent", "closed", "limiters", "missing", "parent", "waits_for")

    def __init__(self, limiters: Sequence[Limiter], parent: Held | None = None) -> None:
        self.limiters = limiters
        self.parent = parent
        self.closed = False
        self.waits_for: Limiter | None = None
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


async def take(limiters: Sequence[Limiter], runtime: Runtime, held: Held) -> None:
    """Wait until one token of each limiter is there, and take them for ``held``.

    Several who wait like this could hand each other's tokens round for ever, each finding that
    the other limiter's is just elsewhere. So all begin with the same limiter, and who has failed
    with each of them leaves the queues for a while, which differs from one to the next.
    """
    limiters = sorted(limiters, key=id)
    first, pause = 0, PAUSE_S * (1 + next(_turns) % 8)
    while True:
        held.waits_for = limiters[first]
        await limiters[first].acquire_on_behalf_of(held)
        rest = [limiter for limiter in limiters if limiter is not limiters[first]]
        if take_nowait(rest, runtime, held):
            return
        limiters[first].release_on_behalf_of(held)
        first = (first + 1) % len(limiters)
        if not first:
            await runtime.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


class Loan:
    """Lend what the calling branch holds of ``limiters``, until ``take_back``."""

    __slots__ = ("_lent", "_runtime")

    def __init__(self, limiters: Sequence[Limiter], runtime: Runtime) -> None:
        self._runtime = runtime
        self._lent: list[tuple[Held, Limiter]] = []
        chain = holding.get()
        if chain is None:
            return
        for limiter in limiters:
            held: Held | None = chain
            # A task that outlived its branch still sees what that held, and may not lend it.
            while held is not None and (held.closed or limiter not in held.limiters):
                held = held.parent
            if held is not None:
                held.lend(limiter)
                self._lent.append((held, limiter))

    async def take_back(self) -> None:
        """Wait for the tokens that were lent.

        A cancellation meanwhile leaves them missing; the hand of the branch then ends after it.
        """
        owed: dict[Held, list[Limiter]] = {}
        for held, limiter in self._lent:
            if held.reclaim(limiter):
                owed.setdefault(held, []).append(limiter)
        self._lent = []
        for held, limiters in owed.items():
            if not take_nowait(limiters, self._runtime, held):
                await take(limiters, self._runtime, held)
            held.missing -= set(limiters)

    def take_back_nowait(self) -> None:
        """Take back what is free now: a block that is left by an exception cannot wait."""
        for held, limiter in self._lent:
            if held.reclaim(limiter) and take_nowait([limiter], self._runtime, held):
                held.missing -= {limiter}
        self._lent = []
