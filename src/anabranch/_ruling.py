"""Ask a law for a limit, and trust nothing that it says.

A law may be a user's: it may raise, answer with no Decision, or with a limit that no limiter can
have. Then it is put in shadow: it is asked on, so that it can be watched, and decides nothing.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import attrs

from anabranch._load import Bounds, Decision, Load
from anabranch._refusals import Judge
from anabranch.abc import Controller

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
            self._fail(f"initial() raised {error!r:.200}")

    def ask(self, load: Load) -> Ruled:
        """Return what the law says of ``load``; it counts once it is given to ``accept``."""
        if self.failed.startswith("initial()"):
            return Ruled(state=None, limit=None, acts=False)
        try:
            decision = self.law.next(self._state, load)
        except Exception as error:
            return self._fail(f"raised {error!r:.200}")
        wrong = _wrong(decision, self.bounds)
        if wrong:
            return self._fail(wrong)
        # What a law in anabranch.controllers.Shadow would have done stands in its state.
        would = getattr(decision.state, "would", None)
        told = would if isinstance(would, Decision) and not _wrong(would, self.bounds) else decision
        return Ruled(
            state=decision.state,
            limit=int(told.limit),
            reason=str(told.reason),
            again=_seconds(decision.again),
            acts=told is decision and not self.failed,
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
        return f"returned {decision!r:.80} ({type(decision).__name__}), which is no Decision"
    limit: Any = decision.limit
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        return f"decided {limit!r:.80} ({type(limit).__name__}), which is no limit"
    if not (math.isfinite(limit) and limit == int(limit)):
        return f"decided {limit!r}, which is no whole number"
    if limit < bounds.floor:
        return f"decided {limit:g}, below the floor of {bounds.floor}"
    if limit > bounds.ceiling:
        return f"decided {limit:g}, above the ceiling of {bounds.ceiling}"
    return ""


def _seconds(again: object) -> float | None:
    """Return when a law wants to be asked again; None for a wish that cannot be meant."""
    if isinstance(again, bool) or not isinstance(again, (int, float)) or not again >= 0:
        return None
    return max(LEAST_AGAIN, float(again))
