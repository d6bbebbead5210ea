"""Say which branch works on although it was cancelled, and at which line it sits.

Such a branch keeps its step open: nothing is ever detached. One task of a step that takes its time
sees whether everything is being cancelled, and then waits, shielded, for the grace; another one
is there only while single branches have been cancelled and have not ended.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection
from types import CodeType, FrameType
from typing import Any

import attrs

from anabranch._attempt import step_in
from anabranch._branch import Branch
from anabranch._lease import Lease
from anabranch._ledger import Ledger
from anabranch.events import BranchStubborn

log = logging.getLogger("anabranch")

_NOT_THEIRS = {"anabranch", "anyio", "asyncio", "outcome", "threading", "trio"}
_STEP_IN: CodeType = step_in.__code__
SHOWN = 20  # frames of a stack


@attrs.frozen
class _Asked:
    """Keep until when a branch that was cancelled, or interrupted by something, may work on."""

    branch: Branch
    due: float


class Grace:
    """Watch the branches of one scheduler that were cancelled, for ``seconds`` each."""

    def __init__(self, ledger: Ledger, start_soon: Callable[..., None], seconds: float) -> None:
        self._ledger = ledger
        self._start_soon = start_soon
        self._seconds = seconds
        self._asked: dict[Lease, _Asked] = {}
        self._found: dict[Lease, tuple[Branch, str]] = {}
        self._watch_scope: Any = None
        self.known = False  # whether it knows of any hand

    def stand(self) -> None:
        """See from now on whether everything is being cancelled; ends with the last hand."""
        self._ledger.sentry = scope = self._ledger.runtime.CancelScope()
        self._start_soon(self._stand, scope)

    def cancelled(self, hand: Lease) -> None:
        """Hear that the branch of ``hand`` has been cancelled, and not others."""
        branch = hand.running()
        if branch is not None:
            self._ask(hand, branch)

    def interrupted(self, hand: Lease) -> None:
        """Hear that something was thrown into the branch of ``hand``, and that it goes on."""
        branch = hand.running()
        known = self._asked.get(hand)
        if branch is not None and (known is None or known.branch is not branch):
            self._ask(hand, branch)

    def forget(self, hand: Lease) -> None:
        """Hear that ``hand`` has ended."""
        if self._asked.pop(hand, None) is not None and not self._asked:
            self._watch_scope.cancel(reason="nobody is left to be watched")
        self._found.pop(hand, None)

    def stubborn(self) -> dict[str, str]:
        """Say which branches are past their grace now, and where each of them sits."""
        return {
            branch.key: line for hand, (branch, line) in self._found.items()
            if hand.running() is branch
        }  # fmt: skip

    def has_named(self, hand: Lease, branch: Branch) -> bool:
        """Tell whether ``branch`` was past its grace, and still worked."""
        return self._found.get(hand, (None, ""))[0] is branch

    def _ask(self, hand: Lease, branch: Branch) -> None:
        self.known = True
        self._asked[hand] = _Asked(branch, self._ledger.clock() + self._seconds)
        if self._watch_scope is None:
            self._watch_scope = self._ledger.runtime.CancelScope(shield=True)
            self._start_soon(self._watch)

    async def _watch(self) -> None:
        runtime, clock = self._ledger.runtime, self._ledger.clock
        while self._asked:
            due = min(asked.due for asked in self._asked.values())
            with self._watch_scope:
                await runtime.sleep(max(0.0, due - clock()))
            self._watch_scope = runtime.CancelScope(shield=True)
            for hand, asked in list(self._asked.items()):
                if asked.due <= clock():
                    del self._asked[hand]
                    if hand.running() is asked.branch and hand.why_cancelled():
                        self._report(hand, asked.branch)
        self._watch_scope = None

    async def _stand(self, scope: Any) -> None:
        """Wait until everything is cancelled, then for the grace, and name who is left.

        Not by what branches hear of it: one that is shielded hears nothing, and neither does
        one on trio that waits for its child tasks.
        """
        ledger = self._ledger
        try:
            with scope:
                await ledger.runtime.sleep_forever()
        except ledger.runtime.Cancelled:
            if ledger.sentry is scope:  # else nobody was left before this could be seen
                await self._see_who_is_left()
            raise

    async def _see_who_is_left(self) -> None:
        ledger = self._ledger
        with ledger.runtime.CancelScope(shield=True) as ledger.sentry:
            await ledger.runtime.sleep(self._seconds)
            for hand in list(ledger.alive or ()):
                branch = hand.running()
                if branch is not None:
                    self._report(hand, branch)

    def _report(self, hand: Lease, branch: Branch) -> None:
        if self.has_named(hand, branch):
            return
        ledger, thread = self._ledger, hand.thread_ident()
        stack = stack_of_thread(thread) if thread is not None else stack_of(hand.slept)
        line = stack[-1] if stack else "nowhere"
        self.known = True
        self._found[hand] = branch, line
        log.warning(
            "branch %r works on %g s after it was cancelled, at %s",
            branch.key, self._seconds, line,
        )  # fmt: skip
        ledger.emit(
            BranchStubborn(ledger.clock(), ledger.step, branch.key, self._seconds, line, stack)
        )


def stack_of(coroutine: Any) -> tuple[str, ...]:
    """List the lines at which a suspended branch waits, outermost first."""
    return lines_of(frames_of(coroutine), but=_NOT_THEIRS)[-SHOWN:]


def stack_of_thread(ident: int) -> tuple[str, ...]:
    """List the lines at which a thread is now, outermost first."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(ident)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return lines_of(frames[::-1], but=_NOT_THEIRS)[-SHOWN:]


def frames_of(coroutine: Any) -> list[FrameType]:
    """List the frames of a suspended coroutine, outermost first; a branch's are its hand's too."""
    frames: list[FrameType] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        # Who runs awaits nobody; Python 3.12.1 crashes when it is asked all the same.
        waits = getattr(coroutine, "cr_suspended", False) or getattr(
            coroutine, "gi_suspended", False
        )
        inner = None
        if waits:
            inner = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
        if frame is not None:
            if frame.f_code is _STEP_IN:
                inner = frame.f_locals["coroutine"] if waits else None
            frames.append(frame)
        coroutine = inner
    return frames


def lines_of(frames: list[FrameType], but: Collection[str] = ()) -> tuple[str, ...]:
    """Write frames as lines, leaving out those of the packages ``but``."""
    return tuple(
        f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        for frame in frames
        if frame.f_globals.get("__name__", "").partition(".")[0] not in but
    )
