"""Wait for tokens so that nobody waits for ever: lend what a waiting branch holds, undo knots.

Whoever waits for one limiter holds no token of another meanwhile, so limiters that are taken
together in different orders cannot block each other.

A branch that opens a scheduler on a limiter of which it holds a token lends that token
for as long as it waits: a limiter of 1 suffices for any depth of nesting.
Other tokens it keeps, for it has not ended. So two branches may hold what the other's children
need: limiters that are nested in one order here and in another order there.
Before anybody waits, it is seen whether every holder waits for the waiter, however indirectly;
then one of them lends its token too. Its limiter has one branch more then that has begun,
and none more that runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from anabranch._runtime import Runtime
from anabranch._token import Held, holding, take_nowait
from anabranch.abc import Limiter

PAUSE_S = 0.0002
LONGEST_PAUSE_S = 0.01

_turns = count()


class Block:
    """Stand for one scheduler, in the eyes of the branch that opened it and waits for it."""

    __slots__ = ("helds", "loan", "waiting")

    def __init__(self, loan: Loan) -> None:
        self.loan = loan
        self.helds: set[Held] = set()  # of its hands
        self.waiting: set[Held] = set()  # of who waits for tokens to become its hand


async def take(
    limiters: Sequence[Limiter], runtime: Runtime, held: Held, block: Block | None = None
) -> None:
    """Wait until one token of each limiter is there, and take them for ``held``.

    ``block`` is what it is taken for, if a branch waits for that.

    Several who wait like this could hand each other's tokens round for ever, each finding that
    the other limiter's is just elsewhere. So all begin with the same limiter, and who has failed
    with each of them leaves the queues for a while, which differs from one to the next.
    """
    limiters = sorted(limiters, key=id)
    first, pause = 0, PAUSE_S * (1 + next(_turns) % 8)
    while True:
        held.waits_for = limiters[first]
        if block is None:
            await limiters[first].acquire_on_behalf_of(held)
        else:
            block.waiting.add(held)
            try:
                _undo_knot(limiters[first])
                await limiters[first].acquire_on_behalf_of(held)
            finally:
                block.waiting.discard(held)
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

    def lend(self, held: Held, limiter: Limiter) -> None:
        """Lend one token more."""
        held.lend(limiter)
        self._lent.append((held, limiter))

    async def take_back(self, block: Block) -> None:
        """Wait for the tokens that were lent.

        A cancellation meanwhile leaves them missing; the hand of the branch then ends after it.
        """
        while self._lent:  # more may be lent while it waits
            for held, limiters in self._owed().items():
                await _fetch(held, limiters, self._runtime, block)

    def take_back_nowait(self) -> None:
        """Take back what is free now: a block that is left by an exception cannot wait."""
        for held, limiters in self._owed().items():
            for limiter in limiters:
                free = held.coming is None and held.misses(limiter)
                if free and take_nowait([limiter], self._runtime, held):
                    held.arrived(limiter)

    def _owed(self) -> dict[Held, list[Limiter]]:
        """End every loan; return what must come back, for whom."""
        owed: dict[Held, list[Limiter]] = {}
        for held, limiter in self._lent:
            if held.reclaim(limiter):
                owed.setdefault(held, []).append(limiter)
        self._lent = []
        return owed


async def _fetch(held: Held, limiters: Sequence[Limiter], runtime: Runtime, block: Block) -> None:
    """Take back what ``held`` misses of ``limiters``; one block at a time does so for a branch."""
    while wanted := [limiter for limiter in limiters if held.misses(limiter)]:
        if held.coming is not None:
            block.waiting.add(held)
            try:
                await held.coming.wait()
            finally:
                block.waiting.discard(held)
            continue
        held.coming = runtime.Event()
        try:
            if not take_nowait(wanted, runtime, held):
                await take(wanted, runtime, held, block)
            for limiter in wanted:
                held.arrived(limiter)
        finally:
            held.coming.set()
            held.coming = None


def open_block(loan: Loan, head: Held) -> Block:
    """Note that the branch whose tokens ``head`` is has opened something below itself."""
    block = Block(loan)
    for held in _of_branch(head):
        held.blocks |= {block}
    return block


def close_block(block: Block, head: Held) -> None:
    """Note that it has been left."""
    for held in _of_branch(head):
        held.blocks -= {block}


def _of_branch(head: Held) -> Iterable[Held]:
    """Yield all that the branch itself holds: in a thread, the lane's token and the hand's."""
    held: Held | None = head
    while held is not None:
        yield held
        held = held.parent if held.inside else None


def _undo_knot(limiter: Limiter) -> None:
    """Have one holder of ``limiter`` lend its token, if all of them wait for whoever waits here."""
    if limiter.borrowed_tokens < limiter.total_tokens:
        return
    borrowers = limiter.statistics().borrowers
    seen: set[Held] = set()
    if not borrowers or any(_moves(borrower, seen) for borrower in borrowers):
        return
    for borrower in borrowers:
        for block in borrower.blocks:
            block.loan.lend(borrower, limiter)
            return


def _moves(borrower: object, seen: set[Held]) -> bool:
    """Tell whether something goes on that may end in ``borrower`` giving its token back."""
    if not isinstance(borrower, Held):
        return True  # not ours: nobody can know
    if borrower in seen:
        return False
    seen.add(borrower)
    return not borrower.blocks or any(_block_moves(block, seen) for block in borrower.blocks)


def _block_moves(block: Block, seen: set[Held]) -> bool:
    if not block.helds and not block.waiting:
        return True  # it is just being opened, or left
    if any(_moves(held, seen) for held in block.helds):
        return True
    for waiter in block.waiting:
        limiter = waiter.waits_for
        assert limiter is not None, "who waits, waits for something"
        borrowers = limiter.statistics().borrowers
        if limiter.borrowed_tokens < limiter.total_tokens or not borrowers:
            return True
        if waiter in borrowers:
            return True  # it has been given its token, and is about to wake
        if any(_moves(borrower, seen) for borrower in borrowers):
            return True
    return False
