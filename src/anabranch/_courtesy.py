"""Decide when a hand stops between two branches for the sake of others.

Others are: the holder of a limit that shrank, whoever waits for the same limiter, the reader of
outcomes who is behind, and the host's loop.
"""

from __future__ import annotations

from anabranch._ledger import SLICE_S, Ledger
from anabranch._token import Held


def must_make_way(ledger: Ledger, held: Held, now: float, *, proven: bool) -> bool:
    """Tell whether a limit has shrunk under what is borrowed, or somebody else waits.

    A hand that is not ``proven`` has run no branch yet, and looks at the limit only:
    two who wait for each other could make way for ever.
    """
    if held.exceeds():
        ledger.note_limits()
        return True
    if not proven or now < ledger.look_at:
        return False
    ledger.look_at = now + SLICE_S
    ledger.note_limits()
    return ledger.others_wait()


def only_reader_is_behind(ledger: Ledger) -> bool:
    """Tell whether there would be something to pull if outcomes were read.

    Only where no one else could use the hand's token meanwhile.
    """
    if ledger.reader_is_behind is None or ledger.shared:
        return False
    return ledger.reader_is_behind()


async def wait_for_reader(ledger: Ledger) -> None:
    """Wait until outcomes are read: a new hand for each read would cost five times as much."""
    moved = ledger.runtime.Event()
    ledger.behind = [*ledger.behind, moved]
    try:
        await moved.wait()
    finally:
        if moved in ledger.behind:
            ledger.behind.remove(moved)


async def let_the_loop_go_round(ledger: Ledger, now: float) -> float:
    """Pass one checkpoint; return the time after."""
    ledger.yielding = True
    try:
        await ledger.runtime.lowlevel.checkpoint()
    finally:
        ledger.yielding = False
    after = ledger.clock()
    if now >= ledger.host.tick:
        ledger.host.tick = after
    return after
