"""Say what a machine tells: a sampler for ``ConcurrencyConfig(samplers=)``, loads for a law."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from anabranch._host import current_host
from anabranch._load import SIGNALS, Load
from anabranch._runtime import loop_runs_here
from anabranch.errors import ConfigurationError, HostLoopError
from anabranch.samplers._checked import wrong_with

Signals: TypeAlias = Mapping[str, float | None]


class FakeSampler:
    """Be a sampler that answers at once with what a test says.

    Args:
        tells: signals, always the same; or a list of them, one after another and then the last
            for ever; or a function of the seconds since it was first asked, by the loop's clock.

    Attributes:
        asked: how often it was asked.

    Raises:
        ConfigurationError: a signal that does not exist, or a value that cannot be meant.
        HostLoopError: a function, where no loop runs whose clock it could be told.
    """

    def __init__(self, tells: Signals | Iterable[Signals] | Callable[[float], Signals]) -> None:
        self.asked = 0
        self._began: float | None = None
        self._fn: Callable[[float], Signals] | None = None
        self._told: tuple[Signals, ...] = ()
        if callable(tells):
            if not loop_runs_here():
                raise HostLoopError(
                    "FakeSampler: a function of seconds asks the clock of the loop, and no loop "
                    "runs here; make it within the test's async function, or give a list"
                )
            self._fn, self._clock = tells, current_host().clock  # it is asked in a thread
            return
        given = (tells,) if isinstance(tells, Mapping) else tells
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigurationError(
                f"FakeSampler: {tells!r:.80} ({type(tells).__name__}) tells nothing; give "
                f"{{'cpu': 0.5}}, a list of such, or a function of seconds that returns one"
            )
        self._told = tuple(_checked(each) for each in given)
        if not self._told:
            raise ConfigurationError("FakeSampler: an empty list tells nothing; give one mapping")

    def sample(self) -> Signals:
        """Return what is to be told now."""
        number, self.asked = self.asked, self.asked + 1
        if self._fn is None:
            return self._told[min(number, len(self._told) - 1)]
        now = self._clock()
        self._began = now if self._began is None else self._began
        return _checked(self._fn(now - self._began))


def _checked(signals: object) -> Signals:
    if not isinstance(signals, Mapping):
        raise ConfigurationError(
            f"FakeSampler: {signals!r:.80} ({type(signals).__name__}) is no mapping of signals; "
            f"give {{'cpu': 0.5}}"
        )
    for name, value in signals.items():
        if name not in SIGNALS:
            raise ConfigurationError(
                f"FakeSampler: {name!r:.80} is no signal; there are {', '.join(SIGNALS)}"
            )
        wrong = wrong_with(name, value)
        if wrong:
            raise ConfigurationError(f"FakeSampler: {name}={value!r:.80} {wrong}; give another")
    return dict(signals)


def fake_loads(
    rows: Iterable[Mapping[str, Any]], *, every: float = 1.0, **always: Any
) -> list[Load]:
    """Make loads for ``replay`` or ``Controller.next``: one for each row, ``every`` seconds.

    Args:
        rows: fields of a Load. every: seconds from one load to the next.
        always: fields of all of them.

    Raises:
        UnknownOptionError: a field that a Load has not.
    """
    made = []
    for number, row in enumerate(rows, 1):
        fields: dict[str, Any] = {"t": number * every, **always, **row}
        made.append(Load(**fields))
    return made
