"""Say why a branch waits: which limit is reached, and what moved it there."""

from __future__ import annotations

from collections.abc import Sequence

from anabranch._branch import THREAD, Branch
from anabranch._ledger import Ledger
from anabranch.abc import Limiter
from anabranch.lanes._thread import IoLane
from anabranch.pipeline._gate import Gate

SHOWN = 5  # abandoned threads that are named

RUNS = "it does not wait: it runs"
UNKNOWN = "no branch of that key waits: it has ended, or there is none"
UNPULLED = "its item was not pulled yet"
NEXT_ATTEMPT = "it waits for its next attempt, without a token"


def why_queued(ledger: Ledger, abandoned: Sequence[str]) -> str:
    """Say why what is queued in a step has not begun.

    Args:
        abandoned: paths of branches whose threads could not be stopped and still run.
    """
    if ledger.behind:
        return "outcomes have to be read before more begins"
    full = [each for each in ledger.limiters if each.borrowed_tokens >= each.total_tokens]
    if not full:
        return "nothing keeps it: it begins when the loop goes round"
    words = "; ".join(_words(ledger, limiter) for limiter in full)
    return words + named(abandoned)


def why_in_lane(branch: Branch, has_thread: bool, lane: IoLane) -> str:
    """Say why a branch that holds its tokens has no thread; empty if it needs none."""
    limiter = lane.limiter
    if branch.kind != THREAD or has_thread or limiter.borrowed_tokens < limiter.total_tokens:
        return ""
    used = f"{limiter.borrowed_tokens} of {limiter.total_tokens:g}"
    return f"{used} threads of the io lane in use{named(lane.abandoned)}"


def named(abandoned: Sequence[str]) -> str:
    """Name the threads that could not be stopped; nothing if there are none."""
    if not abandoned:
        return ""
    more = f" and {len(abandoned) - SHOWN} more" if len(abandoned) > SHOWN else ""
    return f"; threads that could not be stopped hold theirs: {', '.join(abandoned[:SHOWN])}{more}"


def moved(ledger: Ledger) -> str:
    """Say why the step's own limit is where it is; empty where nothing has moved it."""
    if ledger.regulation is None:
        return ""
    limit = ledger.regulation.limit
    if limit.came_from is None:
        return str(limit.reason)
    new, old = limit.limiter.total_tokens, limit.came_from
    way = "lowered" if new < old else "raised"
    return f"limit {way} from {old:g}: {limit.reason.removesuffix(f': {old:g} -> {new:g}')}"


def _words(ledger: Ledger, limiter: Limiter) -> str:
    used = f"{limiter.borrowed_tokens} of {limiter.total_tokens:g} tokens in use"
    if isinstance(limiter, Gate):
        return f"held back by resource_limits=: {used}"
    if ledger.regulation is not None and limiter is ledger.regulation.limit.limiter:
        why = moved(ledger)
        return f"{used}; {why}" if why else used
    if limiter is ledger.limiters[0]:
        return used
    return f"{used} of a limit around the step (max_parallel_steps=, limiter=)"
