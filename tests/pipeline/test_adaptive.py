"""A step's limit follows the load: seen by its branches, and it costs nothing after them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from anabranch import (
    ConcurrencyConfig,
    Decision,
    LimitChanged,
    LoadSampled,
    Pipeline,
    Retry,
    Step,
)
from tests.pipeline.adaptive import (
    Crowd,
    Halving,
    Machine,
    Script,
    busy_between,
    changes,
    crowd_step,
    run,
)


# The branches, and not the number -------------------------------------------------------------
@pytest.mark.slow
async def test_fewer_branches_run_under_load_and_more_after_it() -> None:
    crowd = Crowd(0.5)
    config = ConcurrencyConfig(16, controller=Halving(), samplers=busy_between(5, 15))
    result, heard = await run(crowd_step(crowd, 400, config))
    assert result.success
    assert crowd.most(1, 5) == 16
    assert crowd.most(11, 15) == 1
    assert crowd.most(21, 25) == 16
    assert crowd.peak == 16
    downs = [each for each in heard if isinstance(each, LimitChanged) and each.new < each.old]
    assert [(each.old, each.new) for each in downs] == [(16, 8), (8, 4), (4, 2), (2, 1)]
    assert all(each.reason == "cpu 99%" and each.load.cpu == 0.99 for each in downs)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["weir", "aimd"])
async def test_the_laws_of_the_house_bring_the_peak_down_and_up_again(law: str) -> None:
    crowd = Crowd(0.5)
    machine = Machine(
        lambda t: {
            "cores": 4.0,
            "cpu": 1.0 if 10 <= t < 40 else 0.5,
            "cpu_pressure": 0.99 if 10 <= t < 40 else 0.1,
        }
    )
    config = ConcurrencyConfig(16, controller=law, samplers=[machine])
    result, heard = await run(crowd_step(crowd, 2000, config))
    assert result.success
    assert crowd.most(3, 10) == 16
    assert crowd.most(36, 40) < 16
    assert crowd.most(50, 55) > crowd.most(36, 40)
    assert crowd.peak == 16
    assert changes(heard)


@pytest.mark.slow
async def test_a_limit_grows_over_where_it_began_and_never_over_the_ceiling() -> None:
    crowd = Crowd(1.0)
    config = ConcurrencyConfig(controller=Script([20, 40, 80, 160, 256]), cpu_based_limits=False)
    result, heard = await run(crowd_step(crowd, 2000, config))
    assert result.success
    assert changes(heard) == [(10, 20), (20, 40), (40, 80), (80, 160), (160, 256)]
    assert crowd.peak == 256


async def test_a_limit_at_most_doubles_at_a_time_whatever_its_law_says() -> None:
    crowd = Crowd(1.0)
    config = ConcurrencyConfig(controller=Script([100]), cpu_based_limits=False)
    _, heard = await run(crowd_step(crowd, 500, config))
    assert changes(heard) == [(10, 20), (20, 40), (40, 80), (80, 100)]
    first, *_, last = [each for each in heard if isinstance(each, LimitChanged)]
    assert first.reason == "number 0 (at most doubled at a time: 20 of 100)"
    assert first.load.limit == 10
    assert last.at - first.at == pytest.approx(0.75)


async def test_a_map_is_regulated_too_and_pulls_no_faster_than_its_limit() -> None:
    crowd = Crowd(0.5)
    config = ConcurrencyConfig(8, controller=Halving(), samplers=busy_between(3, 8))
    step = Step.map_over("items", Step("one", crowd), concurrency=config, items=range(150))
    result, heard = await run(step)
    assert result.success
    assert crowd.most(0, 3) == 8
    assert crowd.most(7, 8) == 1
    assert crowd.most(12, 14) == 8
    samples = [each.load for each in heard if isinstance(each, LoadSampled)]
    assert samples[2].queued > 0
    assert sum(load.started for load in samples) == 150 - 1 or samples[-1].in_use


async def test_plain_functions_in_threads_obey_a_limit_that_shrinks() -> None:
    machine = busy_between(0, 1e9)
    config = ConcurrencyConfig(4, controller=Halving(), samplers=machine)
    crowd = Crowd(0.4)

    async def mixed(data: Any) -> Any:
        return await crowd(data)

    branches = {f"p{i}": len for i in range(20)} | {f"a{i}": mixed for i in range(40)}
    result = await Pipeline([Step.parallel(branches, concurrency=config, timeout=None)]).run("x")
    assert result.success
    ended, _ = crowd.history[-1]  # virtual time passes while threads are slow to begin
    assert crowd.most(ended - 1, ended) == 1


# What it costs, and when it ends --------------------------------------------------------------


async def test_nothing_is_read_by_a_step_that_ends_before_the_first_sample() -> None:
    machine = busy_between(0, 1)
    config = ConcurrencyConfig(2, controller=Halving(), samplers=machine)
    for _ in range(20):
        await run(crowd_step(Crowd(0.05), 6, config))
    assert machine.asked == []


async def test_a_step_ends_with_its_last_branch_and_nothing_is_read_after_it() -> None:
    machine = busy_between(0, 0)
    config = ConcurrencyConfig(2, controller=Script([2]), samplers=machine)
    started = anyio.current_time()
    result, _ = await run(crowd_step(Crowd(1.1), 10, config))
    assert anyio.current_time() - started == pytest.approx(5.5)
    assert result.duration == pytest.approx(5.5)
    asked = len(machine.asked)
    assert asked == 6
    await anyio.sleep(100)
    assert len(machine.asked) == asked


async def test_one_reading_serves_all_steps_that_run_at_once() -> None:
    machine = busy_between(0, 0)
    config = ConcurrencyConfig(2, controller=Script([2]), samplers=machine)
    inner = {f"part{i}": crowd_step(Crowd(1.0), 8, config) for i in range(20)}
    result = await Pipeline([Step.parallel(inner, timeout=None)]).run(1)
    assert result.success
    assert len(machine.asked) in (4, 5)


async def test_the_regulator_moves_on_when_the_step_ends_in_which_it_worked() -> None:
    machine = busy_between(6, 100)
    config = ConcurrencyConfig(8, controller=Halving(), samplers=machine)
    short, long = Crowd(1.0), Crowd(1.0)
    branches = {"short": crowd_step(short, 16, config), "long": crowd_step(long, 120, config)}
    assert (await Pipeline([Step.parallel(branches, timeout=None)]).run(1)).success
    assert short.peak == 8
    assert long.most(1, 6) == 8
    assert long.most(14, 20) == 1


@pytest.mark.slow
async def test_a_cancelled_step_leaves_no_regulator_behind() -> None:
    machine = busy_between(0, 100)
    config = ConcurrencyConfig(8, controller=Halving(), samplers=machine)
    with anyio.move_on_after(3.5) as scope:
        await run(crowd_step(Crowd(1.0), 1000, config))
    assert scope.cancelled_caught
    asked = len(machine.asked)
    assert asked == 4
    await anyio.sleep(10)
    assert len(machine.asked) == asked


async def test_a_step_that_is_cancelled_hands_the_regulator_to_another() -> None:
    machine = busy_between(4, 100)
    config = ConcurrencyConfig(8, controller=Halving(), samplers=machine)
    crowd = Crowd(1.0)
    doomed = crowd_step(Crowd(1.0), 1000, config, timeout=2.5)
    branches = {"doomed": doomed, "other": crowd_step(crowd, 100, config)}
    await Pipeline([Step.parallel(branches, timeout=None)]).run(1)
    assert crowd.most(1, 4) == 8
    assert crowd.most(12, 16) == 1


async def test_a_failing_step_is_not_kept_open() -> None:
    async def fails(_: Any) -> None:
        await anyio.sleep(0.7)
        raise ValueError("broken")

    config = ConcurrencyConfig(3, controller=Script([3]))
    result, heard = await run(crowd_step(fails, 12, config))
    assert result.duration == pytest.approx(2.8)
    loads = [each.load for each in heard if isinstance(each, LoadSampled)]
    assert sum(load.failed for load in loads) == 9
    assert not any(load.finished or load.rejected for load in loads)


# Several --------------------------------------------------------------------------------------


async def test_of_several_limits_one_grows_at_a_time_in_turn() -> None:
    machine = busy_between(0, 0)
    config = ConcurrencyConfig(64, controller=Growing(), samplers=machine)
    inner = {f"part{i}": crowd_step(Crowd(1.0), 200, config) for i in range(3)}
    _, heard = await run(Step.parallel("all", inner, timeout=None))
    grew = [each for each in heard if isinstance(each, LimitChanged) and each.new > each.old]
    moments = [round(each.at, 3) for each in grew]
    assert len(grew) > 6
    assert len(set(moments)) == len(moments)
    assert {each.step for each in grew[:3]} == {each.step for each in grew[3:6]}
    assert len({each.step for each in grew[:3]}) == 3


class Growing:
    """Begin low, and grow whenever asked."""

    def initial(self, bounds: Any) -> tuple[Any, bool]:
        return bounds, True

    def next(self, state: tuple[Any, bool], load: Any) -> Decision:
        bounds, first = state
        limit = 2 if first else min(bounds.ceiling, int(load.limit) + 1)
        return Decision((bounds, False), limit, "growing" if limit != load.limit else "")


async def test_a_law_remembers_only_what_it_was_let_do() -> None:
    laws = [Remembering() for _ in range(3)]
    inner = {
        f"part{i}": crowd_step(
            Crowd(1.0), 200, ConcurrencyConfig(64, controller=law, samplers=busy_between(0, 0))
        )
        for i, law in enumerate(laws)
    }
    await run(Step.parallel("all", inner, timeout=None))
    assert all(law.asked > 10 for law in laws)
    assert not [law.wrong for law in laws if law.wrong]


class Remembering:
    """Grow whenever asked, and compare the limit with what was decided last."""

    def __init__(self) -> None:
        self.asked = 0
        self.wrong: list[tuple[float, float]] = []

    def initial(self, bounds: Any) -> tuple[Any, float | None]:
        return bounds, None

    def next(self, state: tuple[Any, float | None], load: Any) -> Decision:
        bounds, last = state
        self.asked += 1
        if last is not None and last != load.limit:
            self.wrong.append((last, load.limit))
        limit = 2 if last is None else min(bounds.ceiling, int(load.limit) + 1)
        return Decision((bounds, limit), limit, "growing" if limit != load.limit else "")


async def test_memory_that_is_ours_is_told_to_each_by_its_use() -> None:
    laws = Script([6]), Script([2])
    machine = Machine(lambda t: {"own_memory": 800.0, "memory_total": 2.0**31, "memory_used": 1e9})
    steps = {
        name: crowd_step(Crowd(3.0), 20, ConcurrencyConfig(limit, controller=law, samplers=machine))
        for name, limit, law in zip("ab", (6, 2), laws, strict=True)
    }
    await run(Step.parallel("all", steps, timeout=None))
    assert [law.loads[0].own_memory for law in laws] == [600.0, 200.0]


async def test_what_is_shared_is_never_moved() -> None:
    limiter = anyio.CapacityLimiter(5)
    crowd = Crowd(0.5)
    law = Script([1])
    step = crowd_step(crowd, 40, ConcurrencyConfig(9, controller=law))
    await run(step, limiter=limiter)
    assert limiter.total_tokens == 5
    assert crowd.most(0, 0.25) == 5
    assert crowd.most(2, 4) == 1
    shared = Crowd(0.5)
    await Pipeline(
        [Step.parallel({str(i): shared for i in range(40)}, max_concurrency=limiter)]
    ).run(1)
    assert limiter.total_tokens == 5
    assert shared.peak == 5


class TooManyError(Exception):
    status_code = 429


async def test_a_refusal_that_a_retry_makes_good_is_counted_too() -> None:
    refused: set[int] = set()

    async def call(item: int) -> int:
        await anyio.sleep(0.5)
        if item not in refused:
            refused.add(item)
            raise TooManyError
        return item

    step = Step("call", call, retry=Retry(3, wait=0, jitter=0, budget=None))
    config = ConcurrencyConfig(4, controller=Script([4]))
    result, heard = await run(Step.map_over("m", step, items=range(20), concurrency=config))
    assert result.success
    loads = [each.load for each in heard if isinstance(each, LoadSampled)]
    assert sum(load.rejected for load in loads) >= 10
    assert all(load.rejected <= load.failed for load in loads)
