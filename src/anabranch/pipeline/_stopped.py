"""Tell whether a branch failed, or was stopped by something else: who stops it wants no failure.

A thread that could not be stopped is abandoned, for one reason or the other, as tasks are cancelled
or timed out. What a halt never let begin has neither failed nor ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from anabranch._branch import Branch
from anabranch._work import OWN_CANCELS, Status
from anabranch.errors import BranchTimedOutError
from anabranch.pipeline._nested import was_stopped_inside

MEMORY_LIMIT = "max_memory_mb"
SHOWN = 3  # reasons


def was_stopped(branch: Branch) -> bool:
    """Tell whether a branch ended neither well nor by a failure or a timeout of its own."""
    if branch.status is Status.ABANDONED:
        return not isinstance(branch.error, BranchTimedOutError)
    if branch.status is Status.FAILED:
        return was_stopped_inside(branch)
    return branch.status in (Status.CANCELLED, Status.REJECTED)


def is_spared(branch: Branch) -> bool:
    """Tell whether a branch was stopped by the user's own wish; its step was not cut off."""
    if not was_stopped(branch) or branch.reason in OWN_CANCELS:
        return False
    if branch.status is Status.REJECTED:
        return branch.reason.startswith("halt")
    return not is_pressed(branch.reason)


def is_pressed(reason: str) -> bool:
    """Tell whether ``reason`` is that of a branch which was cancelled for the memory's sake."""
    return reason.startswith("memory: ") and reason.endswith(f"({MEMORY_LIMIT}=)")


def why_stopped(reasons: Iterable[str]) -> str:
    """Say why all branches of a step were stopped: the reason that they share, or that of each."""
    known = dict.fromkeys(filter(None, reasons))
    return "; ".join(list(known)[:SHOWN]) or "all that was nested was stopped"
