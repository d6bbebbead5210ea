"""Make what a scripted branch does: sleep, return, raise, charge, resist.

Each prints as the expression that makes it, so that a drawn script can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import attrs

from anabranch._charge import charge
from anabranch._runtime import current
from anabranch._work import check_limit
from anabranch.errors import ConfigurationError
from anabranch.testing._script import Behaviour, Call, check_line

Play: TypeAlias = Callable[[Call], Coroutine[Any, Any, None]]


@attrs.frozen(eq=False)
class _Act:
    """Be a behaviour that prints as what made it."""

    words: str
    play: Play

    async def __call__(self, call: Call) -> None:
        await self.play(call)

    def __repr__(self) -> str:
        return self.words


def sleep(seconds: float) -> Behaviour:
    """Sleep for so many seconds of the loop's time.

    Raises:
        ConfigurationError: no time: a word, or less than 0.
    """
    _check_seconds("sleep", seconds)

    async def play(_: Call) -> None:
        await current().sleep(seconds)

    return _Act(f"sleep({seconds!r})", play)


def checkpoints(count: int = 1) -> Behaviour:
    """Let others go on, so many times.

    Raises:
        ConfigurationError: less than once.
    """
    check_limit("checkpoints", "count", count)

    async def play(_: Call) -> None:
        for _each in range(count):
            await current().lowlevel.checkpoint()

    return _Act(f"checkpoints({count!r})", play)


def returns(value: Any) -> Behaviour:
    """Return a value, at the end of the branch."""

    async def play(call: Call) -> None:
        call.value = value

    return _Act(f"returns({value!r})", play)


def raises(error: BaseException | type[BaseException]) -> Behaviour:
    """Raise an error; one of a class is made anew each time.

    Raises:
        ConfigurationError: what is no error.
    """
    kind = error if isinstance(error, type) else type(error)
    if not issubclass(kind, BaseException):
        raise ConfigurationError(
            f"raises: {error!r:.80} ({kind.__name__}) is no error; give ValueError('why')"
        )

    async def play(_: Call) -> None:
        raise error

    return _Act(f"raises({error.__name__ if isinstance(error, type) else repr(error)})", play)


def charges(**amounts: Any) -> Behaviour:
    """Charge the budget of the run, as ``anabranch.charge`` does: US dollars, tokens, own units.

    What cannot be charged is the error of the branch.
    """

    async def play(_: Call) -> None:
        charge(**amounts)

    terms = ", ".join(f"{name}={amount!r}" for name, amount in amounts.items())
    return _Act(f"charges({terms})", play)


def waits_for(key: str) -> Behaviour:
    """Wait until another branch of the script has ended, in whatever way.

    The branch raises ConfigurationError if the script has no such branch.
    """

    async def play(call: Call) -> None:
        await call.event_of(key).wait()

    return _Act(f"waits_for({key!r})", play)


def stubborn(seconds: float) -> Behaviour:
    """Work on, for so many seconds, deaf to any cancellation; it is heard after them.

    Raises:
        ConfigurationError: no time: a word, or less than 0.
    """
    _check_seconds("stubborn", seconds)

    async def play(_: Call) -> None:
        with current().CancelScope(shield=True):
            await current().sleep(seconds)
        await current().lowlevel.checkpoint()

    return _Act(f"stubborn({seconds!r})", play)


def attempts(*lines: Sequence[Behaviour] | Behaviour) -> Behaviour:
    """Behave as the first line when the branch is called first, and so on; then as the last.

    Raises:
        ConfigurationError: no line, or something in one that is no behaviour.
    """
    if not lines:
        raise ConfigurationError(
            "attempts: no line; give attempts([raises(OSError)], [returns(3)])"
        )
    checked = [check_line("attempts", line) for line in lines]

    async def play(call: Call) -> None:
        for each in checked[min(call.number, len(checked) - 1)]:
            await each(call)

    return _Act(f"attempts({', '.join(repr(list(line)) for line in checked)})", play)


def _check_seconds(where: str, seconds: object) -> None:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not seconds >= 0:  # type: ignore[operator]  # a number, or not asked
        raise ConfigurationError(
            f"{where}: {seconds!r:.80} ({type(seconds).__name__}) is no time; "
            f"give seconds, 0 or more"
        )
