"""Leave a nursery so that what comes out is what happened, and not a group around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from anabranch._runtime import Runtime


class Alone:
    """Stand in for a nursery where the calling task is the only hand: a cancel scope."""

    def __init__(self, runtime: Runtime) -> None:
        self.cancel_scope = runtime.CancelScope()

    async def __aenter__(self) -> Self:
        self.cancel_scope.__enter__()
        return self

    async def __aexit__(self, *error: object) -> bool:
        return bool(self.cancel_scope.__exit__(*error))

    def start_soon(self, fn: Any, *args: Any) -> None:
        """Refuse: there is nobody to start it."""
        raise AssertionError(f"one branch needs one hand, and {fn} is another")


def is_cancelled(error: BaseException | None, runtime: Runtime) -> bool:
    """Tell whether ``error`` is a cancellation, or a group with one in it."""
    return error is not None and any(isinstance(leaf, runtime.Cancelled) for leaf in _leaves(error))


async def leave(block: Any, error: BaseException | None, runtime: Runtime) -> bool:
    """Wait for every task of the nursery ``block``, as its ``__aexit__`` for ``error`` does.

    Returns whether ``error`` was the nursery's own cancellation and is over.
    An error that is no cancellation comes out as itself; who has it has cancelled the nursery.
    """
    cancelled = error if is_cancelled(error, runtime) else None
    traceback = cancelled.__traceback__ if cancelled is not None else None
    kind = type(cancelled) if cancelled is not None else None
    try:
        swallowed = bool(await block.__aexit__(kind, cancelled, traceback))
    except (BaseExceptionGroup, runtime.Cancelled) as out:
        if error is not cancelled and all(isinstance(x, runtime.Cancelled) for x in _leaves(out)):
            return False  # the error goes on, and the next checkpoint finds the cancellation again
        alone = _alone(out)
        if alone is None:
            raise
        raise alone from None
    return swallowed and cancelled is error  # else the wait was cancelled, and not the block


def _alone(group: BaseException) -> BaseException | None:
    """Return what a group stands for: the one interrupt or exit, or the block's own group."""
    if not isinstance(group, BaseExceptionGroup):
        return None
    leaves = list(_leaves(group))
    exits = [leaf for leaf in leaves if isinstance(leaf, (KeyboardInterrupt, SystemExit))]
    if exits and len(exits) == len(leaves):
        return exits[0]
    first = group.exceptions[0]
    return first if len(group.exceptions) == 1 and isinstance(first, BaseExceptionGroup) else None


def _leaves(error: BaseException | None) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    elif error is not None:
        yield error
