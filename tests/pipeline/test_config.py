"""See that limits mean what they say: a config, its short spelling, and the defaults."""

from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest

from anabranch import (
    ConcurrencyConfig,
    ConfigurationError,
    ExecutionConfig,
    Pipeline,
    ResourceLimits,
    Step,
)
from anabranch.pipeline import _config
from anabranch.pipeline._config import default_limit


class Peak:
    """Count how many run at once, and the most that ever did."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.now = self.most = self.starts = 0
        self.seconds = seconds

    async def __call__(self, data: Any) -> Any:
        self.now += 1
        self.starts += 1
        self.most = max(self.most, self.now)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.now -= 1
        return data


def wide(peak: Peak, count: int = 30, **options: Any) -> Step[Any, Any]:
    return Step.parallel({f"b{i}": peak for i in range(count)}, **options)


def test_a_config_has_the_seeds_fields_and_defaults() -> None:
    config = ConcurrencyConfig()
    assert attrs.asdict(config) == {
        "max_concurrent_branches": None,
        "adaptive_limits": True,
        "cpu_based_limits": True,
        "memory_based_limits": True,
        "completion_tracking": True,
        "individual_cancellation": True,
        "breach_watcher": True,
        "controller": None,
        "samplers": None,
    }
    assert ConcurrencyConfig(3, False) == ConcurrencyConfig(
        max_concurrent_branches=3, adaptive_limits=False
    )


def test_configs_are_frozen_values() -> None:
    for config in (ConcurrencyConfig(), ExecutionConfig(), ResourceLimits()):
        assert config == type(config)()
        assert hash(config) == hash(type(config)())
        for field in attrs.fields(type(config)):
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                setattr(config, field.name, None)
    assert attrs.evolve(ConcurrencyConfig(), max_concurrent_branches=2).initial_limit() == 2


@pytest.mark.parametrize(("cores", "limit"), [(0.5, 1), (1, 2), (2, 4), (4.5, 9), (64, 10)])
def test_the_default_limit_follows_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: float, limit: int
) -> None:
    monkeypatch.setattr(_config, "cores", lambda: cores)
    default_limit.cache_clear()
    try:
        assert ConcurrencyConfig().initial_limit() == limit
        assert ConcurrencyConfig(cpu_based_limits=False).initial_limit() == 10
    finally:
        default_limit.cache_clear()


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"max_concurrency": 3}, 3),
        ({"max_concurrency": 1}, 1),
        ({"concurrency": ConcurrencyConfig(max_concurrent_branches=4)}, 4),
        ({"concurrency": ConcurrencyConfig(5, adaptive_limits=False)}, 5),
        ({"concurrency": ConcurrencyConfig(cpu_based_limits=False)}, 10),
        ({"max_concurrency": 1000}, 30),
        ({}, 30),
    ],
    ids=str,
)
async def test_a_limit_is_reached_and_not_exceeded(options: dict[str, Any], most: int) -> None:
    peak = Peak()
    result = await Pipeline([wide(peak, **options)]).run(7)
    assert result.success
    assert (peak.most, peak.starts) == (most, 30)


async def test_a_config_without_a_number_takes_the_default_limit() -> None:
    peak = Peak()
    await Pipeline([wide(peak, concurrency=ConcurrencyConfig())]).run(7)
    assert peak.most == default_limit()


async def test_a_limiter_of_the_host_is_shared_with_code_that_is_not_ours(
    all_home: Callable[[Any], Any],
) -> None:
    limiter = all_home(anyio.CapacityLimiter(3))
    peak = Peak()

    async def foreign() -> None:
        for _ in range(20):
            async with limiter:
                await peak(None)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(foreign)
        result = await Pipeline([wide(peak, max_concurrency=limiter)]).run(7)
    assert result.success
    assert limiter.total_tokens == 3
    assert peak.most == 3


@pytest.mark.trio_only
async def test_a_limiter_of_trios_own_is_a_limit(all_home: Callable[[Any], Any]) -> None:
    import trio

    peak = Peak()
    limiter = all_home(trio.CapacityLimiter(2))
    result = await Pipeline([wide(peak, max_concurrency=limiter)]).run(7)
    assert result.success
    assert peak.most == 2


@pytest.mark.asyncio_only
async def test_a_limiter_of_another_loop_is_refused_in_words() -> None:
    import trio

    peak = Peak()
    with pytest.raises(ConfigurationError, match="a CapacityLimiter of trio, and asyncio runs"):
        await Pipeline([wide(peak, max_concurrency=trio.CapacityLimiter(2))]).run(7)
    with pytest.raises(ConfigurationError, match="a CapacityLimiter of trio, and asyncio runs"):
        await Pipeline([Step.map_over("m", peak, max_concurrency=trio.CapacityLimiter(2))]).run([7])
    with pytest.raises(ConfigurationError, match="a CapacityLimiter of trio, and asyncio runs"):
        await Pipeline([wide(peak)]).run(7, limiter=trio.CapacityLimiter(2))
    assert peak.starts == 0


async def test_the_pipelines_limit_holds_over_nested_steps_with_limits_of_their_own() -> None:
    peak = Peak()
    inner = wide(peak, 5, max_concurrency=5)
    middle = Step.parallel({"x": inner, "y": inner}, max_concurrency=2)
    outer = Step.parallel({"a": middle, "b": middle, "c": peak}, max_concurrency=3)
    for limit in (1, 2, 3):
        peak.most = peak.starts = 0
        config = ExecutionConfig(max_parallel_steps=limit)
        result = await Pipeline([outer, outer], execution_config=config).run(7)
        assert result.success
        assert (peak.most, peak.starts) == (limit, 42)


async def test_a_nested_pipelines_limit_is_its_own_and_the_outer_ones_too() -> None:
    peak = Peak()
    inner = Pipeline([wide(peak, 10)], execution_config=ExecutionConfig(max_parallel_steps=2))
    outer = Pipeline(
        [Step.parallel({"a": inner, "b": inner})],
        execution_config=ExecutionConfig(max_parallel_steps=3),
    )
    assert (await outer.run(7)).success
    assert peak.most == 3


async def test_a_handed_in_limiter_is_shared_between_two_runs(
    all_home: Callable[[Any], Any],
) -> None:
    peak = Peak()
    limiter = all_home(anyio.CapacityLimiter(3))
    pipeline = Pipeline(
        [wide(peak, max_concurrency=10)], execution_config=ExecutionConfig(max_parallel_steps=1)
    )
    results = []

    async def run() -> None:
        results.append(await pipeline.run(7, limiter=limiter))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
    assert all(result.success for result in results)
    assert (peak.most, peak.starts) == (3, 60)


async def test_three_levels_on_one_limiter_of_one_end(all_home: Callable[[Any], Any]) -> None:
    limiter = all_home(anyio.CapacityLimiter(1))
    peak = Peak()
    step: Any = peak
    for _ in range(3):
        step = Step.parallel({"a": step, "b": step, "c": step}, max_concurrency=limiter)
    with anyio.fail_after(1000):
        result = await Pipeline([step]).run(7, limiter=limiter)
    assert result.success
    assert (peak.most, peak.starts) == (1, 27)
