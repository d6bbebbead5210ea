"""Find the branches that do work, and the least urgent, youngest of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anabranch._branch import THREAD, Branch
from anabranch._hand import Hand
from anabranch._scheduler import Scheduler
from anabranch._token import Held
from anabranch.abc import Limiter


def at_work(schedulers: Iterable[Scheduler], gate: Limiter) -> Iterator[tuple[Hand, Branch]]:
    """Yield the branches that do work, with their hands; not those that wait for others.

    Who waits for what is nested in it has lent its token of ``gate``.
    """
    for scheduler in schedulers:
        for hand in scheduler.ledger.hands:
            branch = hand.running()
            if branch is not None and gate not in hand.held.missing:
                yield hand, branch


def can_be_stopped(hand: Hand, branch: Branch) -> bool:
    """Tell whether a cancellation would end what the branch does: a thread works on."""
    if branch.started_at is None or branch.kind == THREAD:
        return False
    return not (hand.why_cancelled() or hand.ledger.ends_early())  # else it has been cancelled


def least_urgent(
    schedulers: Iterable[Scheduler], chosen: Iterable[tuple[Hand, Branch]]
) -> tuple[Hand, Branch] | None:
    """Return the least urgent, youngest of ``chosen``; None if there is none.

    The priority of a branch counts before that of the branches nested in it.
    """
    hands = {hand.held: hand for each in schedulers for hand in each.ledger.hands}
    found = [(_priorities(hand.held, hands), hand, branch) for hand, branch in chosen]
    if not found:
        return None
    depth = max(len(priorities) for priorities, _, _ in found)

    def rank(one: tuple[list[int], Hand, Branch]) -> tuple[list[int], float, str]:
        priorities, _, branch = one
        padded = priorities + [0] * (depth - len(priorities))
        return [-each for each in padded], branch.started_at or 0.0, branch.key

    _, hand, branch = max(found, key=rank)
    return hand, branch


def _priorities(held: Held, hands: Mapping[Held, Any]) -> list[int]:
    """Return the priorities of a branch and of those around it, outermost first."""
    found: list[int] = []
    above: Held | None = held
    while above is not None:
        if not above.inside:
            hand = hands.get(above)
            branch = None if hand is None else hand.running()
            found.append(0 if branch is None else branch.priority)
        above = above.parent
    return found[::-1]
