"""What a law is told of a step, what becomes of one that is broken, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from anabranch import (
    ConcurrencyConfig,
    ConfigurationError,
    Decision,
    LimitChanged,
    LoadSampled,
    Pipeline,
    Step,
)
from anabranch.controllers import AIMD, Shadow, from_json, replay, to_json
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
from tests.pipeline.machine import LIMIT, loaded
from tests.pipeline.machine import run as run_limited

# What a law is told ---------------------------------------------------------------------------


async def test_a_law_is_told_exactly_what_its_branches_did() -> None:
    law = Script([4])
    config = ConcurrencyConfig(4, controller=law)
    await run(crowd_step(Crowd(0.5), 40, config))
    first, second, third, *_ = law.loads
    assert [round(load.t - first.t, 6) for load in (second, third)] == [1.0, 2.0]
    assert (first.started, first.finished, first.in_use, first.peak) == (4, 0, 4, 4)
    assert first.ages == pytest.approx((0.25,) * 4)
    assert first.queued == 36
    assert (second.started, second.finished, second.peak) == (8, 8, 4)
    assert second.latencies == pytest.approx((0.5,) * 8)
    assert sum(load.started for load in law.loads) == 36  # the last four began after 4.25 s


async def test_a_cancelled_branch_counts_neither_as_success_nor_as_failure() -> None:
    law = Script([4])
    step = crowd_step(Crowd(2.0), 6, ConcurrencyConfig(4, controller=law))
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(0.5)
        assert live.cancel("0", reason="not wanted") == 1
    assert [load.started for load in law.loads[:2]] == [4, 1]
    assert (law.loads[1].finished, law.loads[1].failed) == (0, 0)
    assert sum(load.started for load in law.loads) == 6


class FullError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


async def test_refusals_are_told_apart_from_other_failures() -> None:
    law = Script([2])

    async def call(number: Any) -> None:
        await anyio.sleep(0.1)
        if number % 3 == 0:
            raise FullError(429)
        if number % 3 == 1:
            raise OSError(24, "Too many open files")
        raise FullError(404)

    step = Step.map_over("calls", Step("call", call), items=range(30), timeout=None,
                         concurrency=ConcurrencyConfig(2, controller=law))  # fmt: skip
    await run(step)
    ended = sum(load.failed for load in law.loads), sum(load.rejected for load in law.loads)
    assert ended[0] >= 20
    assert ended[1] == pytest.approx(ended[0] * 2 / 3, abs=2)


async def test_a_law_may_say_itself_what_a_refusal_is() -> None:
    class Picky(Script):
        def rejected(self, error: BaseException) -> bool:
            return "busy" in str(error)

    async def call(_: Any) -> None:
        await anyio.sleep(0.1)
        raise ValueError("the printer is busy")

    law = Picky([2])
    await run(crowd_step(call, 30, ConcurrencyConfig(2, controller=law)))
    assert sum(load.rejected for load in law.loads) == sum(load.failed for load in law.loads) > 20


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, {"cpu", "memory_used", "memory_total"}),
        ({"cpu_based_limits": False}, {"memory_used", "memory_total"}),
        ({"memory_based_limits": False}, {"cpu"}),
        ({"cpu_based_limits": False, "memory_based_limits": False}, set()),
    ],
    ids=["all", "no-cpu", "no-memory", "none"],
)
async def test_a_config_chooses_what_its_law_listens_to(
    options: dict[str, bool], known: set[str]
) -> None:
    law = Script([3])
    machine = Machine(lambda t: {"cpu": 0.5, "memory_used": 2.0**30, "memory_total": 2.0**31})
    config = ConcurrencyConfig(3, controller=law, samplers=machine, **options)
    await run(crowd_step(Crowd(1.0), 9, config))
    told = {name: getattr(law.loads[0], name) for name in ("cpu", "memory_used", "memory_total")}
    assert {name for name, value in told.items() if value is not None} == known
    assert all((load.loop_lag is None) == (not options.get("cpu_based_limits", True))
               for load in law.loads)  # fmt: skip


# Without signals, and with broken samplers -------------------------------------------------------


async def test_without_any_signal_the_limit_is_a_fixed_one_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "anabranch")
    crowd = Crowd(1.0)
    machine = Machine(lambda t: {})
    step = crowd_step(crowd, 40, ConcurrencyConfig(4, samplers=machine))
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(5.5)
        (snapshot,) = live.snapshot().steps
    assert snapshot.limit == 4
    assert "nothing is known" in snapshot.reason
    assert crowd.peak == 4
    assert live.result.duration == pytest.approx(10)
    said = [each for each in caplog.messages if "nothing is known" in each]
    assert len(said) == 1


async def test_the_real_machine_is_not_read_in_virtual_time() -> None:
    crowd = Crowd(1.0)
    _, heard = await run(crowd_step(crowd, 100, ConcurrencyConfig(4)))
    assert not [each for each in heard if isinstance(each, (LimitChanged, LoadSampled))]
    assert crowd.peak == 4


async def test_a_sampler_that_raises_or_talks_nonsense_is_unknown_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def raises(t: float) -> Any:
        raise OSError("gone")

    law = Script([4])
    machines = [Machine(raises), Machine(lambda t: {"cpu": 95.0, "memory_used": math.nan})]
    await run(crowd_step(Crowd(1.0), 20, ConcurrencyConfig(4, controller=law, samplers=machines)))
    assert {(load.cpu, load.memory_used) for load in law.loads} == {(None, None)}
    assert len([each for each in caplog.messages if "gone" in each]) == 1
    assert len([each for each in caplog.messages if "is 0.95 meant?" in each]) == 1


# Shadow, and replay ---------------------------------------------------------------------------


async def test_a_law_in_shadow_tells_what_it_would_do_and_does_nothing() -> None:
    crowd = Crowd(0.5)
    config = ConcurrencyConfig(8, controller=Shadow(Halving()), samplers=busy_between(0, 99))
    _, heard = await run(crowd_step(crowd, 80, config))
    told = [each for each in heard if isinstance(each, LoadSampled)]
    assert {(each.limit, each.reason, each.acts) for each in told} == {(4, "cpu 99%", False)}
    assert changes(heard) == []
    assert crowd.most(3, 4) == 8


@pytest.mark.slow
@pytest.mark.parametrize("law", [AIMD(), Halving(), "weir", "gradient"], ids=str)
async def test_replaying_the_loads_of_a_run_gives_the_very_same_decisions(law: Any) -> None:
    machine = Machine(
        lambda t: {"cpu": (t * 37 % 100) / 100, "cores": 4.0, "cpu_pressure": (t * 13 % 50) / 50}
    )
    config = ConcurrencyConfig(20, controller=law, samplers=machine)
    _, heard = await run(crowd_step(Crowd(0.3), 1500, config))
    told = [each for each in heard if isinstance(each, LoadSampled)]
    assert len(told) > 20
    loads = [from_json(to_json(each.load)) for each in told]
    adaptive = config.adaptive()
    assert adaptive is not None
    again = replay(adaptive.controller, loads, adaptive.bounds)  # type: ignore[arg-type]  # a law was given
    assert [(each.limit, each.reason) for each in again] == [
        (each.limit, each.reason) for each in told
    ]


# Bad input ------------------------------------------------------------------------------------


class Asking(Halving):
    async def next(self, state: Any, load: Any) -> Any:  # type: ignore[override]  # wrong on purpose
        return None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"controller": "wier"}, "did you mean 'weir'"),
        ({"controller": 3}, "controller"),
        ({"controller": Halving}, "class"),
        ({"controller": Asking()}, r"next\(\) is async"),
        ({"controller": Shadow(Halving()), "adaptive_limits": False}, "leave one of them out"),
        ({"samplers": object()}, "no sampler"),
        ({"samplers": [Halving()]}, "no sampler"),
        ({"samplers": []}, "reads nothing"),
        ({"samplers": Machine}, "it is a class"),
        ({"controller": "weir", "adaptive_limits": False}, "leave one of them out"),
    ],
)
def test_what_is_no_controller_or_sampler_is_refused_at_once(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ConcurrencyConfig(4, **options)


# Explained -----------------------------------------------------------------------------------


async def test_a_queued_branch_is_told_which_limit_is_reached_and_what_lowered_it() -> None:
    law = Script([4, Decision(9, 3, "memory 91 % of 2.0 GiB: 4 -> 3"), 3])
    step = crowd_step(Crowd(2.0), 12, ConcurrencyConfig(4, controller=law))
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(3)
        words = "3 of 3 tokens in use; limit lowered from 4: memory 91 % of 2.0 GiB"
        assert live.why_waiting("11") == words
        snapshot = live.snapshot()
        assert snapshot.why_waiting("11") == words
        assert live.why_waiting("5") == snapshot.why_waiting("5") == "it does not wait: it runs"
        assert "has ended, or there is none" in live.why_waiting("0")
        (now,) = snapshot.steps
        assert (now.limit, now.in_use, now.queued) == (3, 3, 5)
        assert now.reason == "limit lowered from 4: memory 91 % of 2.0 GiB"


async def test_a_limit_around_the_step_is_named_too() -> None:
    step = crowd_step(Crowd(2.0), 12, ConcurrencyConfig(4))
    async with Pipeline([step]).open(1, limiter=anyio.CapacityLimiter(2)) as live:
        await anyio.sleep(1)
        why = live.why_waiting("11")
    assert why == "2 of 2 tokens in use of a limit around the step (max_parallel_steps=, limiter=)"


async def test_a_runs_own_limit_of_memory_is_told_as_the_memory_that_there_is() -> None:
    law = Script([4])
    machine = Machine(lambda t: {"memory_used": 2.0**30, "memory_total": 2.0**40})
    with loaded() as load:
        branches = {str(i): load.takes(str(i), 100, 1.0) for i in range(8)}
        config = ConcurrencyConfig(4, controller=law, samplers=machine)
        await run_limited(Step.parallel(branches, concurrency=config, timeout=None))
    assert law.loads[0].memory_total == LIMIT * 2**20
    assert law.loads[1].memory_used == 400 * 2**20  # the first may be read before they begin
