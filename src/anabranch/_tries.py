"""Keep how a branch with a retry or a fallback is tried: how often, and what came of it.

Each error of it stands in one place: that of the last call is the branch's own, those before it
are here. A fallback takes the branch over: from then on its call, its timeout and its retry count.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from anabranch._retry import Retry
from anabranch._work import Status
from anabranch.errors import StepFailedError

SHOWN = 10  # earlier attempts that a note on the last error tells


class Tries:
    """Count the attempts of one branch; changed in place, like the branch itself."""

    __slots__ = (
        "after",
        "attempts",
        "began_at",
        "begun",
        "cause",
        "context",
        "earlier",
        "fallback",
        "fell_back",
        "refused",
        "retry",
        "taken",
        "turn",
    )

    def __init__(
        self,
        retry: Retry | None,
        fallback: Callable[[Exception], Any] | None = None,
        context: Context | None = None,
    ) -> None:
        self.retry = retry
        self.fallback = fallback  # makes the branch whose call takes over
        self.context = context  # what the context of each attempt is a copy of
        self.attempts = 0  # of the branch's own call
        self.begun = 0  # calls in all, those of fallbacks too
        self.turn = 0  # attempts of the call that counts now: the branch's own, or a fallback's
        self.began_at: float | None = None  # when that was first begun
        self.taken = False  # a hand has it, which has not begun it yet
        self.earlier: list[Exception] = []  # what calls before the last one raised
        self.refused = ""  # why there is no further attempt, if something forbade it
        self.fell_back = False
        self.after = ""  # why the fallback took over
        self.cause: Exception | None = None  # of the fallback

    def keep(self, error: Exception) -> None:
        """Keep what a call raised that was not the last one."""
        if not any(error is each for each in self.earlier):
            self.earlier.append(error)

    def fall_back(self, error: Exception, reason: str) -> None:
        """Count what follows as the fallback's; ``reason`` says what struck, but for the error."""
        self.after = reason or words_of(error)
        if self.refused:
            self.after += f"; no further attempt: {self.refused}"
        if self.cause is not None:
            chain(error, self.cause)
        self.cause = error
        self.fell_back = True
        self.turn, self.began_at, self.refused = 0, None, ""
        self.retry = self.fallback = None

    def conclude(self, error: BaseException | None) -> None:
        """Tell on the last error what came before it; each error is said once."""
        if not isinstance(error, Exception):
            return
        if self.cause is not None:
            chain(error, self.cause)
        notes = [
            f"attempt {number} raised {words_of(each)}"
            for number, each in enumerate(self.earlier[:SHOWN], 1)
            if not self.fell_back and each is not error
        ]
        if notes and len(self.earlier) > SHOWN:
            notes.append(f"... and {len(self.earlier) - SHOWN} attempts more")
        if self.refused:
            notes.append(f"no further attempt: {self.refused}")
        try:
            for note in notes:
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
        except Exception:  # one that is frozen goes without
            pass

    def errors(self, last: BaseException | None) -> tuple[Exception, ...]:
        """Return what was raised before the error that the branch ended with, in order."""
        return tuple([error for error in self.earlier if error is not last])

    def words(self, status: Status, error: BaseException | None, reason: str) -> str:
        """Say in a sentence how the branch ended."""
        more = f", {reason}" if reason else ""
        if self.fell_back:
            if status is Status.SUCCEEDED:
                return f"its fallback succeeded, after {self.after}{more}"
            if status is Status.FAILED and error is not None:
                return f"its fallback {_failed(error)}, after {self.after}"
            return f"{status}: {reason}, in its fallback after {self.after}"
        total = "" if self.retry is None else f" of {self.retry.attempts}"
        times = f" at attempt {self.attempts}{total}" if self.attempts > 1 else ""
        if status is Status.SUCCEEDED:
            return f"succeeded{times}{more}"
        if status is Status.FAILED and error is not None:
            why = f"; no further attempt: {self.refused}" if self.refused else ""
            return f"raised {words_of(error)}{times}{why}"
        return f"{status}: {reason}" + (f", after {self.attempts} attempts" if times else "")


def _failed(error: BaseException) -> str:
    """Say that something failed; a step tells so itself."""
    return f"failed: {error}" if isinstance(error, StepFailedError) else f"raised {words_of(error)}"


def words_of(error: BaseException) -> str:
    """Write an error in a line: its type, and what it says, if it can say it."""
    try:
        words = str(error) or "no message"
    except Exception:  # its own, and no reason to lose the result
        words = "its message cannot be written"
    return f"{type(error).__name__}: {words:.200}"


def chain(error: Exception, cause: Exception) -> None:
    """Have ``error`` lead to ``cause``, unless one of them leads to the other already."""
    if _leads_to(error, cause) or _leads_to(cause, error):
        return
    try:
        error.__cause__ = cause
    except Exception:  # one that is frozen goes without
        pass


def _leads_to(error: BaseException | None, cause: BaseException) -> bool:
    """Tell whether ``cause`` is told with ``error``: it is the same, or behind it."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        if each is cause:
            return True
        seen.add(id(each))
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return False
