"""Run one call on its terms, in a context of its own, inside the task of a hand.

A hand runs many branches in one task, and each must have contextvars that no other sees.
So the coroutine of a branch is stepped here, each step by ``context.run``.

A loop does not take back a wait that is over: of branches whose sleeps end in one turn of the loop
all would go on, although the first one to do so has passed the budget. So whoever stops branches
calls ``note_stop``, and a branch that was woken in the same turn is not sent on from a sleep, or
from the wait for an event. What it waited for else may be its own by now, as a lock is, and would
be lost: then it goes on to its next wait.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, Protocol

from outcome import Error

from anabranch._runtime import current, may_be_left

_OVER: Final = object()
_stops = 0  # how often branches were stopped; only ever compared


def note_stop() -> None:
    """Hear that branches are being cancelled which may have been woken already."""
    global _stops  # noqa: PLW0603  # the cheapest that every resumption can afford to compare
    _stops += 1


class Owner(Protocol):
    """Hear how a call goes on; ``slept`` is the coroutine once it has suspended.

    ``suspended`` is called with what the call yields, while ``listens`` is true: to call it for
    each branch would cost more than all the rest. ``interrupted`` is called whenever the call is
    resumed by an error, as by a cancellation: asyncio throws it, trio sends an ``outcome.Error``.
    ``recorded`` is asked when it then ends with an error: true if nobody is to hear of that, and
    the call returns None. Of ten thousand branches that are cancelled at once, each exception
    that goes on from here is a tenth of what its branch costs.
    """

    listens: bool
    slept: Any

    def suspended(self, trap: Any) -> None: ...
    def interrupted(self) -> None: ...
    def recorded(self, error: BaseException) -> bool: ...


@types.coroutine
def step_in(
    context: Context, coroutine: Coroutine[Any, Any, Any], owner: Owner
) -> Generator[Any, Any, Any]:
    """Await ``coroutine`` with ``context`` as its context, and tell ``owner`` how it goes."""
    stops = _stops
    try:
        # Bound methods that a branch keeps while it sleeps are work for the garbage collector.
        trap = context.run(coroutine.send, None)
        if owner.listens:
            owner.suspended(trap)
        owner.slept = coroutine
        while True:
            try:
                sent = yield trap
                if stops != _stops and sent.__class__ is not Error:
                    stops = _stops
                    yield from _pass_on_cancel(coroutine)
            except GeneratorExit:
                context.run(coroutine.close)
                raise
            except BaseException as error:
                trap = _interrupt(context, coroutine.throw, [error], owner)
            else:
                if sent.__class__ is not Error:
                    trap = context.run(coroutine.send, sent)
                else:
                    sent = [sent]
                    trap = _interrupt(context, coroutine.send, sent, owner)
            if owner.listens:  # it does after an interruption
                if trap is _OVER:
                    return None
                owner.suspended(trap)
    except StopIteration as stop:
        return stop.value


def _interrupt(
    context: Context, resume: Callable[[Any], Any], error: list[Any], owner: Owner
) -> Any:
    """Resume a call by an error; ``_OVER`` if it ends with one that nobody is to hear of.

    The error is taken out of its list: its traceback will keep these frames, a ring.
    """
    owner.interrupted()
    try:
        return context.run(resume, error.pop())
    except BaseException as end:
        if owner.recorded(end):
            return _OVER
        raise


def _pass_on_cancel(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, None]:
    """Raise the cancellation that came too late to wake a sleep, once it is due."""
    runtime = current()
    if runtime.current_effective_deadline() == -math.inf and may_be_left(coroutine):
        yield from runtime.lowlevel.checkpoint_if_cancelled().__await__()


def parted(error: BaseException) -> tuple[BaseException | None, Exception | None]:
    """Part what stopped a branch: what goes on (a cancellation, an exit), and its errors."""
    if isinstance(error, BaseExceptionGroup):
        passes, stays = error.split(
            lambda each: not isinstance(each, (Exception, BaseExceptionGroup))
        )
        return passes, stays if isinstance(stays, Exception) else None
    return (None, error) if isinstance(error, Exception) else (error, None)
