"""Run one call on its terms, in a context of its own, inside the task of a hand.

A hand runs many branches in one task, and each must have contextvars that no other sees.
So the coroutine of a branch is stepped here, each step by ``context.run``.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from outcome import Error


@types.coroutine
def step_in(
    context: Context,
    coroutine: Coroutine[Any, Any, Any],
    suspended: Callable[[Any], bool],
    interrupted: Callable[[], None],
) -> Generator[Any, Any, Any]:
    """Await ``coroutine`` with ``context`` as its context.

    ``suspended`` is called with what the coroutine yields when it suspends: the first time,
    and then as long as it returns True. ``interrupted`` is called whenever it is resumed by
    an error, as by a cancellation: asyncio throws it, trio sends it as an ``outcome.Error``;
    and ``suspended`` after that, if it goes on.
    """
    run = context.run
    send = coroutine.send
    sent = None
    try:
        trap = run(send, None)
        listens = suspended(trap)
        while True:
            try:
                sent = yield trap
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:
                interrupted()
                trap = run(coroutine.throw, error)
                listens = True
            else:
                if sent.__class__ is Error:
                    interrupted()
                    listens = True
                trap = run(send, sent)
            if listens:
                listens = suspended(trap)
    except StopIteration as stop:
        return stop.value
    finally:
        sent = None  # trio's Error keeps the error, whose traceback keeps this frame: a ring


def parted(error: BaseException) -> tuple[BaseException | None, Exception | None]:
    """Part what stopped a branch: what goes on (a cancellation, an exit), and its errors."""
    if isinstance(error, BaseExceptionGroup):
        passes, stays = error.split(
            lambda each: not isinstance(each, (Exception, BaseExceptionGroup))
        )
        return passes, stays if isinstance(stays, Exception) else None
    return (None, error) if isinstance(error, Exception) else (error, None)
