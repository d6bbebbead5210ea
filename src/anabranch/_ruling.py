"""Ask a law for a limit, and trust nothing that it says.

A law may be a user's: it may raise, answer with no Decision, or with a limit that no limiter can
have. Then it is put in shadow: it is asked on, so that it can be watched, and decides nothing.
"""

from __future__ import annotations

import inspect
import logging
import math
from numbers import Real
from typing import Any

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._refusals import Judge
from anabranch.abc import Controller
from anabranch.controllers._shadow import ShadowState

log = logging.getLogger("anabranch")

LEAST_AGAIN = 0.25  # seconds


@attrs.frozen(kw_only=True)
class Ruled:
    """Tell what a law said of one load.

    Attributes:
        state: of the law, if this counts. limit, reason: what it decided, None if it failed.
        again: seconds until it wants to be asked again. acts: False where it is in shadow.
    """

    state: Any
    limit: int | None
    reason: str = ""
    again: float | None = None
    acts: bool = True


class Ruling:
    """Keep a law and its state, for one limiter.

    Attributes:
        failed: why it is in shadow; empty while it is not.
    """

    def __init__(self, law: Controller, bounds: Bounds) -> None:
        self.law = law
        self.bounds = bounds
        self.failed = ""
        self.judge: Judge | None = law if isinstance(law, Judge) else None
        self._state: Any = None
        try:
            self._state = law.initial(bounds)
        except Exception as error:
            self._fail(f"initial() raised {_shown(error)}")

    def ask(self, load: Load) -> Ruled:
        """Return what the law says of ``load``; it counts once it is given to ``accept``."""
        if self.failed.startswith("initial()"):
            return Ruled(state=None, limit=None, acts=False)
        try:
            return self._ruled(self.law.next(self._state, load))
        except Exception as error:  # of the law, or of what it answered with
            return self._fail(f"raised {_shown(error)}")

    def _ruled(self, decision: object) -> Ruled:
        wrong = _wrong(decision, self.bounds)
        if wrong or not isinstance(decision, Decision):
            return self._fail(wrong)
        # What a law in anabranch.controllers.Shadow would have done stands in its state.
        would = decision.state.would if isinstance(decision.state, ShadowState) else None
        told = decision if would is None or _wrong(would, self.bounds) else would
        return Ruled(
            state=decision.state,
            limit=int(told.limit),
            reason="" if told.reason is None else str(told.reason),
            again=_seconds(decision.again),
            acts=would is None and not self.failed,
        )

    def accept(self, ruled: Ruled) -> None:
        """Let what was said count: the law remembers it."""
        if ruled.limit is not None:
            self._state = ruled.state

    def _fail(self, words: str) -> Ruled:
        if not self.failed:
            self.failed = words
            log.warning(
                "controller %s %s: it is in shadow from now on, and the limit stays",
                type(self.law).__name__,
                words,
            )
        return Ruled(state=self._state, limit=None, acts=False)


def _wrong(decision: object, bounds: Bounds) -> str:
    """Say what is wrong with a decision; empty if nothing is."""
    if not isinstance(decision, Decision):
        if inspect.iscoroutine(decision):
            decision.close()  # else it complains that nobody awaited it
        return f"returned {_shown(decision)} ({type(decision).__name__}), which is no Decision"
    limit: Any = decision.limit
    numeric = isinstance(limit, Real) and not isinstance(limit, bool)  # numpy's as well
    if not numeric:
        return f"decided {_shown(limit)} ({type(limit).__name__}), which is no limit"
    if limit < bounds.floor:
        return f"decided {_shown(limit)}, below the floor of {bounds.floor}"
    if limit > bounds.ceiling and limit != math.inf:
        return f"decided {_shown(limit)}, above the ceiling of {bounds.ceiling}"
    if not bounds.floor <= limit <= bounds.ceiling or limit != int(limit):
        return f"decided {_shown(limit)}, which is no whole number"
    return ""


def _shown(value: object) -> str:
    """Return the beginning of a value's repr, which may be as broken as its law."""
    try:
        return f"{value!r:.200}"
    except Exception:  # or a number of more digits than Python writes
        return f"{type(value).__name__}, which cannot be shown"


def _seconds(again: object) -> float | None:
    """Return when a law wants to be asked again; None for a wish that cannot be meant."""
    if isinstance(again, bool) or not isinstance(again, (int, float)) or not again >= 0:
        return None
    return max(LEAST_AGAIN, float(again))
