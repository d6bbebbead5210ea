"""Charge what a branch spends to its run, from wherever the branch does it."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any, Literal, Self, overload

from anabranch._amounts import NOTHING, Amount, Amounts, Given, amounts
from anabranch._pool import Place, Sums, account_at, book, breach_of, charged
from anabranch._runtime import current
from anabranch.errors import ConfigurationError, OutsideRunError, UsageLimitExceededError

log = logging.getLogger("anabranch")


@overload
def charge(
    *,
    cost_usd: Given | None = None,
    tokens: int | None = None,
    reserve: Literal[False] = False,
    **custom: Given | None,
) -> None: ...
@overload
def charge(
    *,
    cost_usd: Given | None = None,
    tokens: int | None = None,
    reserve: Literal[True],
    **custom: Given | None,
) -> Reservation: ...
def charge(
    *,
    cost_usd: Given | None = None,
    tokens: int | None = None,
    reserve: bool = False,
    **custom: Given | None,
) -> Reservation | None:
    """Charge the run that this is called in, at any depth below a branch, threads included.

    The charge that passes a limit of the run's budget cancels every branch that is left before it
    returns; from a thread, as soon as the loop takes the call. It is counted all the same.

    Args:
        cost_usd: US dollars. tokens: their number.
        reserve: the amounts are an estimate: hold them against the budget and return a
            Reservation, to be settled with what it came to.
        **custom: amounts of units of your own.

    Raises:
        OutsideRunError: no run is found here.
        ConfigurationError: nothing is charged, or what is no amount.
    """
    place = charged.get()
    if place is None:
        raise _outside()
    if not isinstance(reserve, bool):
        raise ConfigurationError(
            f"charge: reserve={reserve!r:.80} is neither True nor False; "
            f"the estimate is what cost_usd=, tokens= and the like say"
        )
    given = {"cost_usd": cost_usd, "tokens": tokens, **custom}
    found = amounts("charge", given, tuple(place[0].limits))
    if reserve:
        return Reservation(place, found)
    late = place[0].over  # asked before: the charge may end the run
    book(partial(account_at, place), found, held=place[1])
    if late:
        _say_late(found)
    return None


class Reservation:
    """Hold an estimate against the budget until it is known what it came to; made by ``charge``.

    Use it with ``with`` or ``async with``: a block that ends by itself without ``settle`` is
    charged the estimate, one that an exception or a cancellation ends gives it back.
    Where the budget is breached the block is not begun.
    """

    __slots__ = ("_account", "_estimate", "_open", "_place")

    def __init__(self, place: Place, estimate: dict[str, Amount]) -> None:
        self._place = place
        self._estimate = estimate
        self._open = True
        find = partial(account_at, place)
        self._account: Sums = book(find, NOTHING, reserved=estimate, held=place[1])

    def settle(
        self, *, cost_usd: Given | None = None, tokens: int | None = None, **custom: Given | None
    ) -> None:
        """Charge what it came to, and give back the rest; what is not named, as estimated.

        Raises:
            ConfigurationError: what is no amount; or it was settled or given back before.
        """
        given = {"cost_usd": cost_usd, "tokens": tokens, **custom}
        real: Amounts = {}
        if any(value is not None for value in given.values()):
            real = amounts("settle", given, tuple(self._place[0].limits))
        if not self._open:
            raise ConfigurationError(
                "settle: this reservation is settled, or was given back at the end of its block; "
                "charge() what comes later"
            )
        self._end({**self._estimate, **real})

    def __enter__(self) -> Self:
        self._check_open()
        reason = breach_of(self._account)
        if reason:
            self._end({})
            raise _refused(reason)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._open:
            self._end(self._estimate if kind is None else {})

    async def __aenter__(self) -> Self:
        self._check_open()
        reason = breach_of(self._account)
        if reason:
            self._end({})
            await current().lowlevel.checkpoint_if_cancelled()
            raise _refused(reason)  # a shield, or the loop has not taken the call yet
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)

    def _end(self, spent: Amounts) -> None:
        self._open = False
        late = self._place[0].over
        book(lambda: self._account, spent, released=self._estimate, held=self._place[1])
        if late and spent:
            _say_late(spent)

    def _check_open(self) -> None:
        if not self._open:
            raise ConfigurationError(
                "this reservation is settled, or was given back at the end of its block: it holds "
                "nothing any more; reserve again with charge(..., reserve=True)"
            )


def _refused(reason: str) -> UsageLimitExceededError:
    return UsageLimitExceededError(f"{reason}; what was to be reserved is refused: spend nothing")


def _say_late(spent: Amounts) -> None:
    words = ", ".join(f"{unit}={value}" for unit, value in spent.items())
    log.warning("charged after the run had ended, so in no result: %s", words)


def _outside() -> OutsideRunError:
    processes: Any = sys.modules.get("multiprocessing.process")
    if (processes is not None and processes.parent_process() is not None) or (
        "anabranch_child" in sys.modules  # a process of lane='cpu'
    ):
        return OutsideRunError(
            "charge() cannot reach its run from another process: return an object that has "
            "cost_usd or token_counts from the branch, and it is charged for it"
        )
    return OutsideRunError(
        "charge() finds no run here: call it below a branch or a step of a pipeline that runs. "
        "A thread of threading.Thread or loop.run_in_executor knows no context: "
        "use anyio.to_thread.run_sync, or let a plain function be the branch"
    )
