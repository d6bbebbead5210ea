"""Say which branch works on although it was cancelled, and at which line it sits.

Such a branch keeps its step open: nothing is ever detached. Nobody looks before a branch has been
interrupted; then a task waits, shielded, for the grace that it is given, and ends with the hands.
"""

from __future__ import annotations

import logging
import math
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
    """Keep when a branch was interrupted; ``sure`` if it is known that it was cancelled."""

    branch: Branch
    due: float
    coroutine: Any
    sure: bool


class Grace:
    """Watch the branches of one scheduler that were interrupted, for ``seconds`` each."""

    def __init__(self, ledger: Ledger, start_soon: Callable[..., None], seconds: float) -> None:
        self._ledger = ledger
        self._start_soon = start_soon
        self._seconds = seconds
        self._asked: dict[Lease, _Asked] = {}
        self._found: dict[Lease, tuple[Branch, str]] = {}
        self._guarded: set[Lease] = set()  # they wait for a thread, and hear of no cancellation
        self._watch_scope: Any = None
        self._guard_scope: Any = None

    def interrupted(self, hand: Lease) -> None:
        """Hear that something was thrown into the branch of ``hand``, in whose task this is."""
        branch = hand.running()
        if branch is None:
            return
        known = self._asked.get(hand)
        sure = self._ledger.ends_early() or bool(hand.why_cancelled())
        if known is None or known.branch is not branch or (sure and not known.sure):
            coroutine = self._ledger.runtime.lowlevel.current_task().coro
            self._ask(hand, branch, coroutine, sure=sure)

    def guard(self, hand: Lease) -> None:
        """Hear that ``hand`` is about to wait for a thread that is not to be abandoned."""
        self._guarded.add(hand)
        if self._guard_scope is None:
            self._guard_scope = self._ledger.runtime.CancelScope()
            self._start_soon(self._stand_guard)

    def forget(self, hand: Lease) -> None:
        """Hear that ``hand`` has ended, or that its thread has."""
        self._guarded.discard(hand)
        if not self._guarded and self._guard_scope is not None:
            self._guard_scope.cancel(reason="no thread is waited for")
        if self._asked.pop(hand, None) is not None and not self._asked:
            self._watch_scope.cancel(reason="nobody is left to be watched")
        self._found.pop(hand, None)

    def stubborn(self) -> dict[str, str]:
        """Say which branches are past their grace now, and where each of them sits."""
        return {
            branch.key: line for hand, (branch, line) in self._found.items()
            if hand.running() is branch
        }  # fmt: skip

    def _ask(self, hand: Lease, branch: Branch, coroutine: Any, *, sure: bool) -> None:
        due = self._ledger.clock() + self._seconds
        self._asked[hand] = _Asked(branch, due, coroutine, sure)
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
            # Seen out of the shield: whether everything here is being cancelled.
            everything = runtime.current_effective_deadline() == -math.inf
            for hand, asked in list(self._asked.items()):
                if asked.due <= clock():
                    del self._asked[hand]
                    if hand.running() is asked.branch and (everything or hand.why_cancelled()):
                        self._report(hand, asked)
        self._watch_scope = None

    async def _stand_guard(self) -> None:
        try:
            with self._guard_scope:
                await self._ledger.runtime.sleep_forever()
        except self._ledger.runtime.Cancelled:
            for hand in self._guarded:
                branch = hand.running()
                if branch is not None:
                    self._ask(hand, branch, None, sure=True)
            raise
        finally:
            self._guard_scope = None

    def _report(self, hand: Lease, asked: _Asked) -> None:
        ledger, branch = self._ledger, asked.branch
        thread = hand.thread_ident()
        stack = stack_of_thread(thread) if thread is not None else stack_of(asked.coroutine, hand)
        line = stack[-1] if stack else "nowhere"
        self._found[hand] = branch, line
        log.warning(
            "branch %r works on %g s after it was cancelled, at %s",
            branch.key, self._seconds, line,
        )  # fmt: skip
        ledger.emit(
            BranchStubborn(ledger.clock(), ledger.step, branch.key, self._seconds, line, stack)
        )


def stack_of(coroutine: Any, hand: object) -> tuple[str, ...]:
    """List the lines at which the branch that ``hand`` steps waits, outermost first."""
    return lines_of(frames_of(coroutine, hand), but=_NOT_THEIRS)[-SHOWN:]


def stack_of_thread(ident: int) -> tuple[str, ...]:
    """List the lines at which a thread is now, outermost first."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(ident)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return lines_of(frames[::-1], but=_NOT_THEIRS)[-SHOWN:]


def frames_of(coroutine: Any, hand: object = None) -> list[FrameType]:
    """List the frames of a suspended coroutine, outermost first; a branch's are its hand's too.

    With ``hand``, only those of the branch that it steps.
    """
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
                if frame.f_locals["owner"] is hand:
                    frames.clear()
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
