"""Wait for tokens so that nobody waits for ever: lend what a waiting branch holds, undo knots.

Whoever waits for one limiter holds no token of another meanwhile, so limiters that are taken
together in different orders cannot block each other.

A branch that opens a scheduler on a limiter of which it holds a token lends that token
for as long as it waits: a limiter of 1 suffices for any depth of nesting.
Other tokens it keeps, for it has not ended. So two branches may hold what the other's children
need: limiters that are nested in one order here and in another order there.
Before anybody waits, and whenever somebody who was not waiting ends, it is seen whether every
holder waits for the waiter, however indirectly; then one of them lets its token go.
Whatever goes on inside that branch later takes the token back first, together with its own:
so more branches may have begun than a limit says, but never do more run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from weakref import WeakKeyDictionary

from anabranch._host import current_host
from anabranch._runtime import Runtime
from anabranch._token import Held, Wanted, holding, take_wanted, wanted
from anabranch.abc import Limiter

PAUSE_S = 0.0002
LONGEST_PAUSE_S = 0.01


class _Lots:
    """Say who pauses how long, and which limiter is waited for first, on one loop.

    By counts of that loop, not by addresses: a program goes the same way when it is run again.
    """

    __slots__ = ("_places", "_seen", "turns")

    def __init__(self, _: Runtime) -> None:
        self.turns = count()
        self._seen = count()
        self._places: WeakKeyDictionary[Limiter, int] = WeakKeyDictionary()

    def place(self, pair: Wanted) -> int:
        """Return the place of a limiter among all, by when each was first waited for."""
        limiter = pair[1]
        try:
            place = self._places.get(limiter)
            if place is None:
                place = self._places[limiter] = next(self._seen)
        except TypeError:  # one of somebody's own, which cannot be referred to weakly
            return id(limiter)
        return place


class Block:
    """Stand for one scheduler, in the eyes of the branch that opened it and waits for it."""

    __slots__ = ("helds", "waiting")

    def __init__(self) -> None:
        self.helds: set[Held] = set()  # of its hands
        self.waiting: set[Held] = set()  # of who waits for tokens to become its hand


async def take(
    limiters: Sequence[Limiter], runtime: Runtime, held: Held, block: Block | None = None
) -> None:
    """Wait until one token of each limiter is there, and take them for ``held``.

    With them comes back what its branch and those above it have let go.
    ``block`` is what it is taken for, if a branch waits for that.

    Several who wait like this could hand each other's tokens round for ever, each finding that
    the other limiter's is just elsewhere. So all begin with the same limiter, and who has failed
    with each of them leaves the queues for a while, which differs from one to the next.
    """
    lots = current_host().part(_Lots)
    turn, pause, taken = 0, PAUSE_S * (1 + next(lots.turns) % 8), False
    try:
        if block is not None:
            block.waiting.add(held)
        while pairs := sorted(wanted(limiters, held), key=lots.place):
            count = len(pairs)
            # With what is lacking now; while a turn begins, with what all begin with.
            first = next(filter(_is_away, pairs), pairs[0]) if turn % count else pairs[0]
            # Behind somebody who waits on behalf of the same, it waits for what that one waits for.
            held.waits_for = first[1] if first[0].coming is None else first[0].coming_for
            held.turn = first[0].coming
            if not await _stand_in_line(*first, runtime):
                continue
            pairs = wanted(limiters, held)
            if first not in pairs:  # somebody else's business by now
                first[1].release_on_behalf_of(first[0])
                continue
            pairs.remove(first)
            if take_wanted(pairs, runtime):
                first[0].arrived(first[1])
                break
            first[1].release_on_behalf_of(first[0])
            turn += 1
            if not turn % count:
                # Never twice the same: who pauses alike meets alike, and none would get them all.
                await runtime.sleep(pause * (1 + next(lots.turns) % 13 / 13))
                pause = min(2 * pause, LONGEST_PAUSE_S)
        taken = True
    finally:
        if block is not None:
            block.waiting.discard(held)
            if not taken:  # nobody comes of it after all, though others may have counted on it
                look_again(block)


async def _stand_in_line(held: Held, limiter: Limiter, runtime: Runtime) -> bool:
    """Wait for one token; False when somebody else did so on behalf of the same, and is done."""
    _undo_knot(limiter)
    if held.coming is not None:
        await held.coming.wait()
        return False
    held.coming, held.coming_for = runtime.Event(), limiter
    try:
        await limiter.acquire_on_behalf_of(held)
    finally:
        held.coming.set()
        held.coming = None
    return True


def _is_away(pair: Wanted) -> bool:
    """Tell whether a token cannot be had now, or somebody stands in line for the same branch."""
    held, limiter = pair
    return held.coming is not None or limiter.borrowed_tokens >= limiter.total_tokens


class Loan:
    """Lend what the calling branch holds of ``limiters``, until ``take_back``."""

    __slots__ = ("_head", "_lent", "_runtime")

    def __init__(self, limiters: Sequence[Limiter], runtime: Runtime) -> None:
        self._runtime = runtime
        self._lent: list[tuple[Held, Limiter]] = []
        self._head = holding.get()
        for limiter in limiters:
            held = self._head
            # A task that outlived its branch still sees what that held, and may not lend it.
            while held is not None and (held.closed or limiter not in held.limiters):
                held = held.parent
            if held is not None:
                held.lend(limiter)
                self._lent.append((held, limiter))

    async def take_back(self, block: Block) -> None:
        """Wait for what was lent, and for all else that the branch misses.

        A cancellation meanwhile leaves them missing; the hand of the branch then ends after it.
        """
        self._end()
        if self._head is not None and self._head.lacks():
            await take((), self._runtime, self._head, block)

    def take_back_nowait(self) -> None:
        """Take back what is free now: a block that is left by an exception cannot wait."""
        self._end()
        if self._head is not None:
            for pair in wanted((), self._head):
                take_wanted([pair], self._runtime)

    def _end(self) -> None:
        for held, limiter in self._lent:
            held.reclaim(limiter)
        self._lent = []


def open_block(head: Held) -> Block:
    """Note that the branch whose tokens ``head`` is has opened something below itself."""
    block = Block()
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


def look_again(block: Block) -> None:
    """Undo what is knotted below ``block`` now that one who was not waiting there is gone."""
    if not _block_moves(block, set()):
        _undo_below(block)


def _undo_below(block: Block) -> None:
    for waiter in list(block.waiting):
        if waiter.waits_for is not None:
            _undo_knot(waiter.waits_for)
    for held in list(block.helds):
        for inner in held.blocks:
            _undo_below(inner)


def _undo_knot(limiter: Limiter) -> None:
    """Have holders of ``limiter`` let go if all of them wait for whoever waits here."""
    while _is_stuck(limiter, set()):
        holder = limiter.statistics().borrowers[0]
        assert isinstance(holder, Held), "only ours are known to wait"
        holder.let_go(limiter)


def _is_stuck(limiter: Limiter, seen: set[Held]) -> bool:
    """Tell whether no token is free, and no holder will ever give one back."""
    if limiter.borrowed_tokens < limiter.total_tokens:
        return False
    borrowers = limiter.statistics().borrowers
    return bool(borrowers) and not any(_moves(each, limiter, seen) for each in borrowers)


def _moves(borrower: object, limiter: Limiter, seen: set[Held]) -> bool:
    """Tell whether something goes on that may end in ``borrower`` giving its token back."""
    if not isinstance(borrower, Held):
        return True  # not ours: nobody can know
    if limiter in borrower.missing:
        return True  # it has been given its token, and who waited on its behalf is about to wake
    if borrower in seen:
        return False
    seen.add(borrower)
    return not borrower.blocks or any(_block_moves(block, seen) for block in borrower.blocks)


def _block_moves(block: Block, seen: set[Held]) -> bool:
    if not block.helds and not block.waiting:
        return True  # it is just being opened, or left
    for held in block.helds:
        if not held.blocks:
            return True
        if held not in seen:
            seen.add(held)
            if any(_block_moves(inner, seen) for inner in held.blocks):
                return True
    return any(
        waiter.waits_for is None
        or (waiter.turn is not None and waiter.turn.is_set())  # it is about to look again
        or not _is_stuck(waiter.waits_for, seen)
        for waiter in block.waiting
    )
