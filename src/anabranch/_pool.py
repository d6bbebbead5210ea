"""Keep one pool of what a run spends, and trip it once when a limit is passed.

A charge finds its pool through a context variable, which child tasks and threads inherit.
It is added to the account of its branch and to all that are around it, up to the run, under one
lock for all pools: no charge is ever half counted, whatever threads charge at once.
docs/explanation/budgets.md tells what was decided and why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from anabranch._amounts import (
    NOTHING,
    Amounts,
    as_float,
    as_number,
    passes,
    plus,
    spoken,
    together,
    unit_spoken,
)
from anabranch._token import Held
from anabranch._work import Usage

_LOCK = threading.RLock()  # a finalizer that charges may be called anywhere, and must not hang


class Account:
    """Sum what was charged below one branch, or one step."""

    __slots__ = ("above", "refused", "sums")

    def __init__(self, above: Sums | None) -> None:
        self.above = above
        self.sums: Amounts = NOTHING
        self.refused = 0  # branches that returned a cost which cannot be meant

    @property
    def cost_usd(self) -> float | None:
        """US dollars; None if none were charged, not even 0."""
        return as_float(self.sums["cost_usd"]) if "cost_usd" in self.sums else None

    @property
    def tokens(self) -> int | None:
        """Their number; None if none were charged, not even 0."""
        return int(self.sums["tokens"]) if "tokens" in self.sums else None


class Pool:
    """Sum what one run was charged; ``reason`` says how it was breached, and is empty till then."""

    # Most runs set none of these, and pay for none.
    above: Sums | None = None  # of the branch of another run in which this one was started
    branch: Charged | None = None  # of the step that runs in the pipeline's own task
    sums: Amounts = NOTHING
    refused = 0
    limits: Amounts = NOTHING
    reserved: Amounts = NOTHING
    reason = ""
    at_once = False  # a guard charges branches for what they return, as each of them ends
    over = False  # the run has ended
    _trip: Callable[[str], None] | None = None

    def watch(self, limits: Amounts, trip: Callable[[str], None], loop: Any) -> None:
        """Call ``trip`` with the reason once a limit is passed, in this thread: ``loop``'s."""
        self.limits = limits
        self._trip, self._thread, self._loop = trip, threading.get_ident(), loop

    def close(self) -> None:
        """Hear that the run has ended: nothing is left to be cancelled."""
        self.over = True
        if self._trip is not None:
            self._trip = None

    def usage(self) -> Usage | None:
        """Return the sums of now; None if nothing was charged."""
        if not self.sums:
            return None
        sums = dict(self.sums)
        cost, tokens = sums.pop("cost_usd", 0), sums.pop("tokens", 0)
        custom = {unit: as_number(value) for unit, value in sums.items()}
        return Usage(cost_usd=as_float(cost), tokens=int(tokens), custom=custom)

    def passed(self) -> str:
        """Say which limit is passed; empty for none."""
        for unit, limit in self.limits.items():
            spent, reserved = self.sums.get(unit, 0), self.reserved.get(unit, 0)
            if passes(plus(spent, reserved), limit):
                more = f" and reserved {spoken(reserved)}" if reserved else ""
                of = f"of {spoken(limit)} {unit_spoken(unit)}"
                return f"breach: spent {spoken(spent)}{more} {of}"
        return ""

    def tell(self) -> bool:
        """Have the run cancelled; False if that has to wait until the loop takes the call."""
        trip = self._trip
        if trip is None:
            return True
        if threading.get_ident() == self._thread:
            trip(self.reason)
            return True
        try:
            self._loop.run_sync_soon(trip, self.reason)
        except RuntimeError:  # the loop has ended, and the run with it
            pass
        return False


Sums: TypeAlias = Account | Pool


class Charged(Protocol):
    """Have an account as soon as it is charged: a branch, or the ledger of a step."""

    account: Any


# The pool, and what the hand holds that runs the branch, if a hand does: so it is found.
Place: TypeAlias = tuple[Pool, Held | None]
# Who is charged for a step: a run, and in it the branch that the step is nested in, and its ledger.
Payer: TypeAlias = tuple[Pool, Charged | None, Any]


class Outside(Protocol):
    """Be around a step: a frame of a pipeline, which has somebody to pay, and perhaps rules."""

    @property
    def payer(self) -> Payer | None: ...
    def heeds(self, branch: Any) -> bool: ...
    def why_cancelled(self) -> str: ...


class Nowhere:
    """Be around a scheduler that is opened by hand."""

    payer = None

    def heeds(self, branch: Any) -> bool:
        """Tell whether somebody acts on how a branch ended: nobody does."""
        return False

    def why_cancelled(self) -> str:
        """Say all that is known of a cancellation from there."""
        return "outer"


NOWHERE = Nowhere()
charged: ContextVar[Place | None] = ContextVar("anabranch_charged", default=None)


def account_of(branch: Charged | None, ledger: Any) -> Sums:
    """Return the account of a branch, or of its step while it runs none; under the lock."""
    if ledger.account is None:
        pool, outer, its_ledger = ledger.outside.payer
        ledger.account = Account(pool if outer is None else account_of(outer, its_ledger))
    if branch is None:
        account: Account = ledger.account
    else:
        account = branch.account = branch.account or Account(ledger.account)
    return account


def account_at(place: Place) -> Sums:
    """Return the account of whatever runs in the context of ``place``; under the lock."""
    pool, held = place
    if held is not None:
        hand = held.hand
        return pool if hand is None else account_of(hand.running(), hand.ledger)
    branch = pool.branch
    if branch is None:
        return pool
    account: Account = branch.account or Account(pool)
    branch.account = account
    return account


class Errand:
    """Stand for a hand where none is at work: what is charged then is a branch's, or a step's."""

    __slots__ = ("_branch", "ledger")

    def __init__(self, branch: Charged | None, ledger: Any) -> None:
        self._branch = branch
        self.ledger = ledger

    def running(self) -> Charged | None:
        """Return the branch that pays; None where its step does."""
        return self._branch


class Opening:
    """Pay for a step that has no ledger yet."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.account: Account | None = None
        self.stopped = ""


@contextmanager
def paid_by(branch: Charged | None, ledger: Any) -> Iterator[None]:
    """Charge a branch of a pipeline's step, or the step, for what the block does and starts."""
    payer, before = ledger.outside.payer, charged.get()
    if payer is None:  # the scheduler was opened by hand: who has opened it pays
        yield
        return
    held = Held(())
    held.hand = Errand(branch, ledger)
    place = (payer[0], held)
    charged.set(place)
    try:
        yield
    finally:
        if charged.get() is place:  # else a lost coroutine is closed in another context
            charged.set(before)


def payer_here(pool: Pool) -> Payer:
    """Return who is charged for a step that the calling context runs: the branch that it is in."""
    place = charged.get()
    hand = None if place is None or place[1] is None else place[1].hand
    return (pool, None, None) if hand is None else (pool, hand.running(), hand.ledger)


def book(
    find: Callable[[], Sums],
    spent: Amounts,
    reserved: Amounts = NOTHING,
    released: Amounts = NOTHING,
    *,
    held: Held | None = None,
) -> Sums:
    """Count amounts, cancel every run whose limit they pass, and return the account.

    Args:
        find: returns the account; called under the lock.
        spent: is added to it and to all above it. reserved, released: likewise, for pools only.
        held: that of the hand below which this is called, as far as it is known.
    """
    with _LOCK:
        account = find()
        tripped = list(_passed_by(account, spent, reserved, released))
    for pool in tripped:
        hand = None if pool.tell() or held is None else held.hand
        if hand is not None:  # until then no thread of the step begins another branch
            hand.ledger.stopped = hand.ledger.stopped or pool.reason
    return account


def _passed_by(
    account: Sums, spent: Amounts, reserved: Amounts, released: Amounts
) -> Iterator[Pool]:
    """Count amounts, and yield the pools that they breach."""
    each: Sums | None = account
    while each is not None:
        if spent:
            each.sums = together(each.sums, spent)
        if isinstance(each, Pool):
            if reserved or released:
                each.reserved = together(each.reserved, reserved, less=released)
            if each.limits and not each.reason:
                each.reason = each.passed()
                if each.reason:
                    yield each
        each = each.above


def breach_of(account: Sums) -> str:
    """Say how a run around ``account`` was breached; empty if none was."""
    each: Sums | None = account
    while each is not None:
        if isinstance(each, Pool) and each.reason:
            return each.reason
        each = each.above
    return ""


def open_pool() -> tuple[Pool, Place | None]:
    """Make the pool of a run, which this context finds from now on; return what it found before."""
    pool, before = Pool(), charged.get()
    if before is not None:
        with _LOCK:
            pool.above = account_at(before)
    charged.set((pool, None))
    return pool, before


def close_pool(pool: Pool, before: Place | None) -> None:
    """End the pool of a run; who charges it later is still counted."""
    pool.over = True
    if pool._trip is not None:  # else its class says so, and this costs a call less
        pool.close()
    here = charged.get()
    if here is not None and here[0] is pool:  # else a lost coroutine is closed in another context
        charged.set(before)
