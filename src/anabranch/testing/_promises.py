"""See which promises of a plug a part keeps, and name all that it breaks at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from anabranch._runtime import current
from anabranch.errors import AnabranchError

PATIENCE_S = 10.0  # of the loop's time, for each promise


class ConformanceError(AnabranchError, AssertionError):
    """Name the promises that a part breaks, each with what was seen.

    Attributes:
        broken: one line for each.
    """

    def __init__(self, message: str, broken: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.broken = broken


class BrokenError(AnabranchError, AssertionError):
    """Say what was seen in place of what is promised."""


def claim(holds: bool, seen: str) -> None:
    """Raise BrokenError with what was seen unless the claim holds."""
    if not holds:
        raise BrokenError(seen)


class Promises:
    """Go through the promises of one part.

    Args:
        part: its name. plug: what it would be.
    """

    def __init__(self, part: object, plug: str) -> None:
        self._name = f"{type(part).__name__} {part!r:.80}"
        self._plug = plug
        self._broken: list[str] = []
        self._causes: list[Exception] = []

    def keep(self, promise: str, check: Callable[[], object]) -> None:
        """See whether a promise is kept."""
        try:
            check()
        except Exception as error:
            self._note(promise, error)

    async def keep_async(self, promise: str, check: Callable[[], Awaitable[object]]) -> bool:
        """See on the running loop whether a promise is kept, for a limited time."""
        before = len(self._broken)
        runtime = current()
        clock = runtime.lowlevel.current_clock().current_time
        with runtime.CancelScope(deadline=clock() + PATIENCE_S) as scope:
            try:
                await check()
            except Exception as error:
                self._note(promise, error)
        if scope.cancelled_caught:
            self._note(promise, BrokenError(f"nothing had come of it after {PATIENCE_S:g} s"))
        return len(self._broken) == before

    def done(self) -> None:
        """Raise what was found.

        Raises:
            ConformanceError: some promises are broken.
        """
        if self._broken:
            lines = "".join(f"\n- {line}" for line in self._broken)
            raise ConformanceError(
                f"{self._name} is no {self._plug}, since it breaks "
                f"{len(self._broken)} of its promises:{lines}",
                tuple(self._broken),
            ) from ExceptionGroup("what was seen", self._causes)

    def _note(self, promise: str, error: Exception) -> None:
        self._broken.append(f"{promise}: {'; '.join(_seen(error))}")
        self._causes.append(error)


def _seen(error: BaseException) -> list[str]:
    """Say what was seen, looking into groups."""
    if isinstance(error, BaseExceptionGroup):
        return [line for each in error.exceptions for line in _seen(each)]
    return [str(error) if isinstance(error, BrokenError) else f"{error!r:.300}"]
