"""Run calls on any ``concurrent.futures.Executor``: joblib's, Dask's, MPI's, your own."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, Literal

from anabranch._host import current_host
from anabranch._options import exact
from anabranch._work import check_on_cancel, is_async, name_of
from anabranch.errors import ConfigurationError, LaneError
from anabranch.lanes._beside import Beside

log = logging.getLogger("anabranch")


class ExecutorLane:
    """Call plain functions on an executor of yours, which stays open and bounds its own calls.

    A call that has begun there cannot be stopped: an executor has no word for it.
    Contextvars are not carried, and a call must not wait for another one of the same executor:
    with one place left, it would wait for itself.

    Args:
        executor: anything whose ``submit`` returns a concurrent.futures.Future.
        on_cancel: ``abandon`` a call that has begun, which is counted in ``abandoned`` until it
            ends, or ``wait`` for its end. One that has not begun is taken back.

    Attributes:
        abandoned: how many calls still run that nobody waits for.
    """

    @exact("ExecutorLane")
    def __init__(
        self, executor: Executor, *, on_cancel: Literal["abandon", "wait"] = "abandon"
    ) -> None:
        if not callable(getattr(executor, "submit", None)) or isinstance(executor, type):
            raise ConfigurationError(
                f"ExecutorLane: executor={executor!r:.80} ({type(executor).__name__}) has no "
                f"submit; give a concurrent.futures.Executor"
            )
        check_on_cancel("ExecutorLane", on_cancel)
        self._executor = executor
        self._waits = on_cancel == "wait"
        self.abandoned = 0

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], /
    ) -> Any:
        """Make the call on the executor, and return or raise what it does.

        Raises:
            LaneError: what could not be pickled, named; the executor is broken or shut down; the
                call ended its own process, or was cancelled by somebody else.
        """
        if is_async(fn):
            raise ConfigurationError(
                f"ExecutorLane: {name_of(fn)} is an async function, and an executor runs plain "
                f"ones; leave lane out"
            )
        host = current_host()
        await host.runtime.lowlevel.checkpoint_if_cancelled()
        beside = Beside(host.runtime)
        try:
            future = self._executor.submit(fn, *args, **kwargs)
        except RuntimeError as error:  # broken executors are such too
            raise LaneError(f"the executor of {name_of(fn)} takes no call: {error}") from error
        future.add_done_callback(lambda _: beside.tell())
        try:
            await beside.news.wait()
        except BaseException:
            if not future.cancel() and not future.done():
                await self._leave(future, name_of(fn), beside)
            raise
        return self._answer(future, fn, args, kwargs)

    async def _leave(self, future: Future[Any], name: str, beside: Beside) -> None:
        """Wait for a call that cannot be stopped, or let it be."""
        runtime = current_host().runtime
        if self._waits:
            with runtime.CancelScope(shield=True):
                await beside.news.wait()
            return
        self.abandoned += 1
        log.warning("a call of %s could not be stopped, and still runs on its executor", name)
        future.add_done_callback(self._ended)

    def _ended(self, _: Future[Any]) -> None:
        self.abandoned -= 1

    @staticmethod
    def _answer(
        future: Future[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        name = name_of(fn)
        try:
            error = future.exception()
        except CancelledError:
            raise LaneError(f"the call of {name} was cancelled on its executor") from None
        if error is None:
            return future.result()
        if isinstance(error, BrokenExecutor):
            raise LaneError(f"the executor broke while it ran {name}: {error}") from error
        if not isinstance(error, Exception):
            raise LaneError(f"{name} raised {error!r:.200}, which ends a program") from error
        if isinstance(error, pickle.PicklingError) or "pickle" in str(error):
            raise LaneError(
                f"{_culprit(fn, args, kwargs)} cannot be pickled, and its executor runs calls in "
                f"other processes: {error}; use plain values and functions at the top of a module"
            ) from error
        raise error


def _culprit(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Name what of a call does not pickle; if all of it does, it is the result."""
    parts: dict[str, Any] = {f"the function {name_of(fn)}": fn}
    for name, value in [*enumerate(args), *kwargs.items()]:
        parts[f"argument {name} ({type(value).__name__})"] = value
    for what, value in parts.items():
        try:
            pickle.dumps(value)
        except Exception:  # whatever its own code raises
            return what
    return f"the result of {name_of(fn)}, or what it raised,"
