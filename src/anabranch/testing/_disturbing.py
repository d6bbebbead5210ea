"""Cancel a program, or let one of its waits fail, at a step that is counted.

``interruptible()`` says where that may happen. A wait that fails stands for the world outside: a
sleep, a checkpoint, or a function that the test named. Never the wait for a lock, a limiter or
an event: those do not fail, and an error in one of them would be a fault that no program has.

The director is asked before each step of each task; ``_steps`` sees to that on either loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import trio

from anabranch._runtime import current
from anabranch._stubborn import frames_of
from anabranch.errors import AnabranchError

_LIBRARIES = {"anabranch", "anyio", "asyncio", "outcome", "trio"}
_OURS = "anabranch.testing"  # what it does stands for what a user's code would do
_MAY_FAIL = (
    anyio.sleep,
    anyio.sleep_forever,
    anyio.sleep_until,
    anyio.lowlevel.checkpoint,
    trio.sleep,
    trio.sleep_forever,
    trio.sleep_until,
    trio.lowlevel.checkpoint,
)


class InjectedError(AnabranchError):
    """Be the failure of a wait that ``explore`` let fail; no fault of the program."""


class SpinningError(AnabranchError, AssertionError):
    """Say that a program went on for more steps than it was allowed."""


def code_of(fn: Callable[..., Any]) -> CodeType | None:
    """Return the code of a function, as its frames will name it."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return code if isinstance(code, CodeType) else None


@attrs.define(eq=False)
class Block:
    """Be what may be interrupted: from an ``interruptible()`` to its end."""

    scope: Any


BLOCK: ContextVar[Block | None] = ContextVar("anabranch_testing_block", default=None)
DIRECTOR: ContextVar[Director | None] = ContextVar("anabranch_testing_director", default=None)


@contextmanager
def interruptible() -> Iterator[None]:
    """Say that what stands in the block may be cancelled, and that its waits may fail.

    Under ``explore`` one of both happens at a step that it draws; the block ends then as
    ``move_on_after`` does, and the program goes on behind it. Elsewhere nothing happens.
    """
    director = DIRECTOR.get()
    if director is None:
        yield
        return
    with director.block():
        yield


class Director:
    """Count the steps of one run, and disturb one.

    Args:
        cancel: the step, of those within blocks, before which its block is cancelled.
        fail: the wait, of those within blocks that may fail, that fails.
        may_fail: codes of functions of the test whose waits may fail too.
        most: steps of the whole run, after which it spins.

    Attributes:
        steps: so many there were within blocks. waits: so many of them may fail.
        entered: how many blocks there were. trace: who went, in which order.
        outside: functions that stand for the world outside, where the program awaits them.
        struck: the line at which the disturbance found its victim; empty if it did not come.
    """

    def __init__(
        self, cancel: int | None, fail: int | None, may_fail: Collection[CodeType], most: int
    ) -> None:
        self.steps = self.waits = self.entered = 0
        self.trace: list[str] = []
        self.struck = ""
        self._cancel = cancel
        self._fail = fail
        self.outside = set(_OUTSIDE)
        self._theirs = frozenset(may_fail)
        self._most = most

    @contextmanager
    def block(self) -> Iterator[None]:
        """Be a block that may be interrupted, from its first step."""
        block = Block(current().CancelScope())
        token = BLOCK.set(block)
        self.entered += 1
        try:
            with block.scope:
                self._count(block, "at the beginning of the block")
                yield
        except* InjectedError:
            pass
        finally:
            BLOCK.reset(token)

    def step(self, name: str, block: Block | None, coroutine: Any) -> Exception | None:
        """Hear that a task goes on; return what is to be thrown into it instead, if anything."""
        self.trace.append(name)
        if len(self.trace) > self._most:
            return SpinningError(
                f"it still goes on after {self._most} steps; raise max_steps= if it has to"
            )
        if block is None:
            return None
        frames = frames_of(coroutine)
        self._count(block, _line(frames))
        if not self._is_outside(frames):
            return None
        number, self.waits = self.waits, self.waits + 1
        if number != self._fail:
            return None
        self.struck = f"failed {_line(frames)}"
        return InjectedError(f"wait {number} fails, as it was drawn")

    def _count(self, block: Block, line: str) -> None:
        number, self.steps = self.steps, self.steps + 1
        if number == self._cancel:
            self.struck = f"cancelled when a task was to go on {line}"
            block.scope.cancel(reason="explore")

    def _is_outside(self, frames: list[FrameType]) -> bool:
        """Tell whether the wait is one for the world outside."""
        if any(frame.f_code in self._theirs for frame in frames):
            return True
        last = max((at for at, frame in enumerate(frames) if _is_theirs(frame)), default=-1)
        return last + 1 < len(frames) and frames[last + 1].f_code in self.outside


def _is_theirs(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith(_OURS) or name.partition(".")[0] not in _LIBRARIES


def _line(frames: Iterable[FrameType]) -> str:
    theirs = [frame for frame in frames if _is_theirs(frame)]
    if not theirs:
        return "within a library"
    frame = theirs[-1]
    return f"at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


_OUTSIDE = frozenset(code for fn in _MAY_FAIL if (code := code_of(fn)) is not None)
