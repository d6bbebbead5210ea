"""A neighbour takes the CPU for twenty seconds: the limit goes down, and comes back after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from anabranch import ConcurrencyConfig, LimitChanged, Step
from tests.pipeline.adaptive import Crowd, Machine, run

CORES = 4
CAME, LEFT, END = 15.0, 35.0, 50.0
DOWN_WITHIN, BACK_WITHIN = 5.0, 10.0


class Shared(Crowd):
    """Be branches that compute, on cores that they share with a neighbour.

    Args:
        seconds: how long each takes alone. computes: which part of that it computes.
    """

    def __init__(self, seconds: float, computes: float) -> None:
        super().__init__(seconds)
        self.alone, self.computes = seconds, computes
        self.machine = Machine(self.tells)

    def wanted(self, t: float) -> float:
        """Return how many cores would be used if there were so many."""
        return self.running * self.computes + (2 * CORES if CAME <= t < LEFT else 0)

    def tells(self, t: float) -> dict[str, float | None]:
        over = (self.wanted(t) - CORES) / CORES
        pressure = max(0.0, min(1.0, over))
        return {"cores": float(CORES), "cpu": min(1.0, 1 + over), "cpu_pressure": pressure}

    async def __call__(self, data: Any = None) -> Any:
        crowded = max(1.0, self.wanted(anyio.current_time() - self.machine.began) / CORES)
        self.seconds = self.alone * (1 + self.computes * (crowded - 1))
        return await super().__call__(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "computes", "ceiling", "down_within"),
    [
        (0.3, 0.9, None, DOWN_WITHIN),
        (0.5, 0.5, 8, DOWN_WITHIN),
        (0.2, 0.4, None, 9.0),  # run times of the quiet before weigh on: slower than is asked
    ],
)
async def test_the_limit_goes_down_for_a_neighbour_and_comes_back_after_it(
    seconds: float, computes: float, ceiling: int | None, down_within: float
) -> None:
    crowd = Shared(seconds, computes)
    sampler = crowd.machine

    def items(_: Any) -> Iterator[int]:
        while anyio.current_time() < sampler.began + END:
            yield 0

    config = ConcurrencyConfig(ceiling, samplers=sampler)
    step = Step.map_over("w", Step("one", crowd), items=items, concurrency=config, timeout=None)
    _, heard = await run(step)
    moved = [(each.at - sampler.began, each) for each in heard if isinstance(each, LimitChanged)]
    alone = max([each.old for at, each in moved if at >= CAME][:1])
    full = "cpu 100 % of 4 cores, pressure 100 %"  # a step of the search may come before it
    downs = [(at, each) for at, each in moved if CAME <= at < LEFT and each.new < each.old]
    assert next(at for at, each in downs if each.reason.startswith(full)) <= CAME + down_within
    backs = [(at, each) for at, each in moved if at >= LEFT and each.new >= 0.8 * alone]
    assert backs[0][0] <= LEFT + BACK_WITHIN
    first_up = next(each for at, each in moved if at >= LEFT)
    assert first_up.new > first_up.old
    assert first_up.reason.startswith("cpu ")
    assert crowd.most(LEFT - 2, LEFT) < crowd.most(LEFT + BACK_WITHIN, END)
