"""Machines and laws that do what a test says, and branches that tell how many run at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio
import attrs

from anabranch import Bounds, ConcurrencyConfig, Decision, LimitChanged, Load, Pipeline, Step
from anabranch._host import current_host


class Machine:
    """Be a sampler: what it tells is a function of the loop's time since it was first asked."""

    def __init__(self, tells: Callable[[float], Mapping[str, float | None]]) -> None:
        self.tells = tells
        self.clock = current_host().clock  # it is asked in a thread
        self.began = self.clock()
        self.asked: list[float] = []

    def sample(self) -> Mapping[str, float | None]:
        seconds = self.clock() - self.began
        self.asked.append(seconds)
        return self.tells(seconds)


def busy_between(begin: float, end: float) -> Machine:
    return Machine(lambda t: {"cpu": 0.99 if begin <= t < end else 0.4, "cores": 4.0})


@attrs.frozen
class Halving:
    """Halve the limit above a share of the CPU, and double it below."""

    above: float = 0.9

    def initial(self, bounds: Bounds) -> Bounds:
        return bounds

    def next(self, state: Bounds, load: Load) -> Decision:
        if load.cpu is None:
            return Decision(state, int(load.limit))
        wanted = load.limit / 2 if load.cpu > self.above else load.limit * 2
        limit = max(state.floor, min(state.ceiling, int(wanted)))
        return Decision(state, limit, f"cpu {load.cpu:.0%}" if limit != load.limit else "")


class Script:
    """Decide what a list says, one after another; then the last one for ever."""

    def __init__(self, decisions: Iterable[Any]) -> None:
        self.decisions = list(decisions)
        self.loads: list[Load] = []

    def initial(self, bounds: Bounds) -> int:
        return 0

    def next(self, state: int, load: Load) -> Any:
        self.loads.append(load)
        said = self.decisions[min(state, len(self.decisions) - 1)]
        if isinstance(said, Exception):
            raise said
        if isinstance(said, (int, float)) and not isinstance(said, bool):
            return Decision(state + 1, said, f"number {state}" if said != load.limit else "")  # type: ignore[arg-type]  # some are wrong on purpose
        return said


class Crowd:
    """Be branches: each sleeps, and how many did so is kept with the time."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.running = 0
        self.peak = 0
        self.history: list[tuple[float, int]] = []
        self.began = anyio.current_time()

    async def __call__(self, data: Any = None) -> Any:
        self._note(1)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self._note(-1)
        return data

    def most(self, begin: float, end: float) -> int:
        """Return the most that ran at once from ``begin`` to ``end``, in seconds."""
        before = [count for at, count in self.history if at < begin]
        return max([*before[-1:], *(count for at, count in self.history if begin <= at < end)])

    def fewest(self, begin: float, end: float) -> int:
        return min(count for at, count in self.history if begin <= at < end)

    def _note(self, change: int) -> None:
        self.running += change
        self.peak = max(self.peak, self.running)
        self.history.append((anyio.current_time() - self.began, self.running))


def crowd_step(crowd: Any, count: int, config: ConcurrencyConfig, **options: Any) -> Any:
    branches = {str(i): crowd for i in range(count)}
    return Step.parallel("work", branches, concurrency=config, **{"timeout": None, **options})


async def run(step: Any, **options: Any) -> Any:
    heard: list[Any] = []
    result = await Pipeline([step]).run(1, observer=heard.append, **options)
    return result, heard


def changes(heard: list[Any]) -> list[tuple[float, float]]:
    return [(each.old, each.new) for each in heard if isinstance(each, LimitChanged)]
