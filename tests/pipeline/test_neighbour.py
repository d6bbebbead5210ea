"""A neighbour takes the CPU for twenty seconds: the limit goes down, and comes back after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import attrs
import pytest

from anabranch import ConcurrencyConfig, LimitChanged, Step
from tests.pipeline.adaptive import Crowd, Machine, run

CORES = 4
CAME, LEFT, END = 15.0, 35.0, 50.0
DOWN_WITHIN, BACK_WITHIN = 5.0, 10.0


@attrs.frozen
class Work:
    """Say what branches do: how long each takes, and which part of that it computes."""

    seconds: float
    computes: float
    ceiling: int | None


def machine(crowd: Crowd, work: Work) -> Machine:
    """Be a machine whose neighbour runs two processes for each core."""

    def tells(t: float) -> dict[str, float | None]:
        wanted = crowd.running * work.computes + (2 * CORES if CAME <= t < LEFT else 0)
        crowded = max(0.0, min(1.0, (wanted - CORES) / CORES))
        share = min(1.0, wanted / CORES)
        return {"cores": float(CORES), "cpu": share, "cpu_pressure": crowded}

    return Machine(tells)


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [Work(0.3, 0.9, None), Work(0.1, 0.02, 16), Work(0.1, 0.02, None), Work(1.0, 0.1, 24)],
    ids=str,
)
async def test_the_limit_goes_down_for_a_neighbour_and_comes_back_after_it(work: Work) -> None:
    crowd = Crowd(work.seconds)
    sampler = machine(crowd, work)

    def items(_: Any) -> Iterator[int]:
        while anyio.current_time() < sampler.began + END:
            yield 0

    config = ConcurrencyConfig(work.ceiling, samplers=sampler)
    step = Step.map_over("w", Step("one", crowd), items=items, concurrency=config, timeout=None)
    _, heard = await run(step)
    moved = [(each.at - sampler.began, each) for each in heard if isinstance(each, LimitChanged)]
    alone = max([each.old for at, each in moved if at >= CAME][:1])
    downs = [(at, each) for at, each in moved if CAME <= at < LEFT and each.new < each.old]
    assert downs[0][0] <= CAME + DOWN_WITHIN
    assert all(each.reason.startswith("cpu 100 % of 4 cores, pressure 100 %") for _, each in downs)
    backs = [(at, each) for at, each in moved if at >= LEFT and each.new >= 0.8 * alone]
    assert backs[0][0] <= LEFT + BACK_WITHIN
    first_up = next(each for at, each in moved if at >= LEFT)
    assert first_up.new > first_up.old
    assert first_up.reason.startswith("cpu ")
    assert crowd.most(LEFT - 2, LEFT) < crowd.most(LEFT + BACK_WITHIN, END)
