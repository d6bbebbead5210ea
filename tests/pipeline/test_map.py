"""See that a map pulls its items only as fast as they run, and tells how each ended."""

import gc
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import psutil
import pytest

from anabranch import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    Pipeline,
    Status,
    Step,
    StepResult,
    UnboundedWarning,
)
from anabranch.pipeline._config import default_limit

IGNORE = BranchFailureStrategy.IGNORE


async def double(data: int) -> int:
    await anyio.sleep(0)
    return data * 2


async def odd_fails(data: int) -> int:
    if data % 2:
        raise ValueError(f"{data} is odd")
    return data


async def slow(data: int) -> int:
    await anyio.sleep(1)
    return data


class Pulled:
    """Count how many items were taken, and how far that is ahead of what has ended."""

    def __init__(self, total: float = 100) -> None:
        self.total = total
        self.taken = self.ended = self.ahead = 0
        self.closed = False

    def __iter__(self) -> Iterator[int]:
        try:
            for number in itertools.count():
                if number >= self.total:
                    return
                self.taken += 1
                self.ahead = max(self.ahead, self.taken - self.ended)
                yield number
        finally:
            self.closed = True

    async def work(self, data: int) -> int:
        await anyio.sleep(1)
        self.ended += 1
        return data


async def arrive(total: int) -> AsyncIterator[int]:
    for number in range(total):
        await anyio.sleep(0)
        yield number


async def run(step: Any, data: Any = None, **options: Any) -> StepResult[Any]:
    result = await Pipeline([step]).run(data, **options)
    return result.step_history[-1]


@pytest.mark.parametrize(
    "items",
    [
        [0, 1, 2],
        (0, 1, 2),
        range(3),
        {0: "a", 1: "b", 2: "c"},
        lambda _: [0, 1, 2],
        lambda _: arrive(3),
        lambda _: iter(range(3)),
    ],
    ids=["list", "tuple", "range", "mapping", "callable", "async", "iterator"],
)
async def test_items_may_be_anything_that_can_be_iterated(items: Any) -> None:
    result = await run(Step.map_over("m", double, items=items))
    assert result.output == [0, 2, 4]
    assert list(result.branches) == ["0", "1", "2"]
    assert result.counts == {"succeeded": 3}


async def test_items_come_from_the_input_if_none_are_given() -> None:
    step = Step.map_over("m", double)
    assert (await run(step, [5, 6])).output == [10, 12]
    assert (await run(step, (i for i in range(3)))).output == [0, 2, 4]
    assert (await run(step, arrive(3))).output == [0, 2, 4]


async def test_a_callable_is_given_the_steps_input() -> None:
    assert (await run(Step.map_over("m", double, items=range), 4)).output == [0, 2, 4, 6]


async def test_a_map_can_be_run_again() -> None:
    step = Step.map_over("m", double, items=[1, 2])
    assert (await run(step)).output == (await run(step)).output == [2, 4]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_items_are_pulled_only_as_fast_as_they_run(kind: str) -> None:
    pulled = Pulled(50)

    async def arriving() -> AsyncIterator[int]:
        for number in pulled:
            yield number

    items = arriving() if kind == "async" else iter(pulled)
    result = await run(Step.map_over("m", pulled.work, items=lambda _: items, max_concurrency=4))
    assert result.output == list(range(50))
    assert pulled.taken == 50
    assert pulled.ahead <= 5  # those that run, and one that is about to


async def test_the_limit_holds() -> None:
    now = most = 0

    async def count(_: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(1)
        now -= 1

    for options, limit in (
        ({"max_concurrency": 3}, 3),
        ({"concurrency": ConcurrencyConfig(max_concurrent_branches=2)}, 2),
    ):
        most = 0
        assert (await run(Step.map_over("m", count, items=range(9), **options))).success
        assert most == limit
    most = 0
    assert (await run(Step.map_over("m", count, items=lambda _: iter(range(30))))).success
    assert most == default_limit()


async def test_many_items_of_known_number_without_a_limit_are_warned_of() -> None:
    with pytest.warns(UnboundedWarning, match="100 branches at once"):
        result = await run(Step.map_over("m", slow, items=range(100)))
    assert result.latency_s == pytest.approx(1, abs=0.01)


async def test_failures_stand_in_the_output_in_order() -> None:
    result = await run(Step.map_over("m", odd_fails, items=range(5), max_concurrency=2))
    assert not result.success
    assert result.feedback == "3 of 5 branches succeeded"
    assert [result.output[i] for i in (0, 2, 4)] == [0, 2, 4]
    assert result.output[3] is result.branches["3"]
    assert isinstance(result.output[3].error, ValueError)
    assert result.counts == {"succeeded": 3, "failed": 2}
    notes = [error.__notes__ for error in result.error.exceptions]
    assert notes == [["item 1 of step m"], ["item 3 of step m"]]
    ignored = await run(Step.map_over("m", odd_fails, items=range(5), on_branch_failure=IGNORE))
    assert ignored.success


@pytest.mark.parametrize("items", [[], (), iter(())], ids=["list", "tuple", "iterator"])
@pytest.mark.parametrize("strategy", list(BranchFailureStrategy))
async def test_no_items_is_a_success_of_none(items: Any, strategy: Any) -> None:
    result = await run(Step.map_over("m", double, items=items, on_branch_failure=strategy))
    assert (result.success, result.output, result.status) == (True, [], Status.SUCCEEDED)
    assert "no item" in result.feedback


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_items_that_raise_midway_fail_the_step_with_what_they_raised(kind: str) -> None:
    def breaks() -> Iterator[int]:
        yield from range(3)
        raise KeyError("no more")

    async def breaks_later() -> AsyncIterator[int]:
        for number in breaks():
            yield number

    items = breaks() if kind == "plain" else breaks_later()
    result = await run(Step.map_over("m", double, items=lambda _: items, max_concurrency=2))
    assert not result.success
    assert result.status is Status.FAILED
    assert isinstance(result.error, KeyError)
    assert "the items raised KeyError" in result.feedback
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert caught.value.exceptions == (result.error,)


async def test_a_callable_that_raises_fails_the_step() -> None:
    def raises(_: Any) -> Any:
        raise KeyError("none to be had")

    result = await run(Step.map_over("m", double, items=raises))
    assert not result.success
    assert isinstance(result.error, KeyError)


@pytest.mark.parametrize("data", [3, None, object()])
async def test_an_input_that_cannot_be_iterated_fails_the_step_in_words(data: Any) -> None:
    result = await run(Step.map_over("m", double), data)
    assert not result.success
    assert "is not iterable" in result.feedback
    result = await run(Step.map_over("m", double, items=lambda _: 3))
    assert "is not iterable" in result.feedback


@pytest.mark.real_clock
async def test_plain_functions_run_in_threads() -> None:
    step = Step.map_over("m", lambda _: threading.get_ident(), max_concurrency=2)
    result = await run(step, range(9))
    assert threading.get_ident() not in result.output


async def test_a_step_or_a_pipeline_may_be_mapped() -> None:
    nested = Step.parallel({"a": double, "b": Step("b", double)})
    result = await run(Step.map_over("m", nested, max_concurrency=2), [1, 2])
    assert result.output == [{"a": 2, "b": 2}, {"a": 4, "b": 4}]
    assert list(result.branches["1"].branches) == ["a", "b"]
    piped = await run(Step.map_over("m", Step("x", double) >> double), [1, 2])
    assert piped.output == [4, 8]
    mapped = await run(Step.map_over("m", Step.map_over("n", double)), [[1], [2, 3]])
    assert mapped.output == [[2], [4, 6]]


async def test_a_nested_step_per_item_ends_on_a_limit_of_one() -> None:
    nested = Step.parallel({"a": slow, "b": slow}, max_concurrency=1)
    step = Step.map_over("m", nested, max_concurrency=1)
    pipeline = Pipeline([step], execution_config=ExecutionConfig(max_parallel_steps=1))
    result = await pipeline.run(range(3))
    assert result.output == [{"a": i, "b": i} for i in range(3)]
    assert result.duration == pytest.approx(6, abs=0.1)


async def test_an_infinite_generator_ends_with_the_timeout() -> None:
    pulled = Pulled(float("inf"))
    step = Step.map_over("m", pulled.work, items=iter(pulled), max_concurrency=3, timeout=4.5)
    result = await run(step)
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 4.5 s (timeout=)"
    assert result.counts == {"succeeded": 12, "cancelled": 3}
    taken = pulled.taken
    await anyio.sleep(10)
    assert pulled.taken == taken == 15


async def test_a_map_has_no_timeout_of_its_own() -> None:
    result = await run(Step.map_over("m", slow, items=range(100), max_concurrency=1))
    assert result.success
    assert result.latency_s == pytest.approx(100, abs=1)


# Streamed ------------------------------------------------------------------------------------


async def test_a_streamed_map_keeps_counts_and_no_branches() -> None:
    async with Pipeline([Step.map_over("m", odd_fails)]).open(range(10)) as live:
        keys = [outcome.key async for outcome in live.outcomes]
    step = live.result.step_history[0]
    assert sorted(keys) == [str(i) for i in range(10)]
    assert step.counts == {"succeeded": 5, "failed": 5}
    assert len(step.branches) == 0
    assert step.output is None
    assert step.feedback == "5 of 10 branches succeeded"


async def test_a_map_before_the_last_step_keeps_its_output_for_the_next() -> None:
    total = Step("sum", sum, lane="inline")
    async with Pipeline([Step.map_over("m", double), total]).open(range(10)) as live:
        pass
    assert live.result.output == 90


async def test_a_reader_that_does_not_read_holds_the_items_back() -> None:
    pulled = Pulled(float("inf"))
    step = Step.map_over("m", pulled.work, items=iter(pulled), max_concurrency=3)
    async with Pipeline([step]).open() as live:
        await anyio.sleep(100)
        assert pulled.taken <= 2 * 3 + 3
        async for outcome in live.outcomes:
            if outcome.value == 20:
                break
        assert pulled.taken <= 21 + 2 * 3 + 3
        live.cancel("**", reason="enough")
        pulled.total = 0  # the generator ends, and so does the block


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_reader_that_dawdles_misses_nothing(kind: str) -> None:
    items = (lambda _: arrive(50)) if kind == "async" else (lambda _: iter(range(50)))
    seen = []
    async with Pipeline(
        [Step.map_over("m", double, items=items, max_concurrency=2)]
    ).open() as live:
        async for outcome in live.outcomes:
            seen.append(outcome.value)
            await anyio.sleep(10)
    assert sorted(seen) == [2 * i for i in range(50)]
    assert live.result.step_history[0].counts == {"succeeded": 50}


async def test_a_block_that_is_left_early_still_sees_the_items_to_their_end() -> None:
    step = Step.map_over("m", double, items=lambda _: iter(range(50)), max_concurrency=2)
    async with Pipeline([step]).open() as live:
        await anyio.sleep(10)
    assert live.result.step_history[0].counts == {"succeeded": 50}


async def test_an_infinite_map_is_left_by_an_exception() -> None:
    pulled = Pulled(float("inf"))
    step = Step.map_over("m", pulled.work, items=iter(pulled), max_concurrency=3)
    with pytest.raises(KeyError):
        async with Pipeline([step]).open() as live:
            async for _ in live.outcomes:
                raise KeyError("seen enough")
    taken = pulled.taken
    await anyio.sleep(10)
    assert pulled.taken == taken


async def test_an_infinite_map_is_ended_by_the_runs_timeout() -> None:
    pulled = Pulled(float("inf"))
    step = Step.map_over("m", pulled.work, items=iter(pulled), max_concurrency=3)
    seen = 0
    async with Pipeline([step]).open(timeout=4.5) as live:
        async for outcome in live.outcomes:
            seen += outcome.status is Status.SUCCEEDED
    assert seen == 12
    assert live.result.reason == "deadline: 4.5 s (timeout= of the pipeline)"


@pytest.mark.slow
async def test_memory_stays_flat_over_many_items() -> None:
    async def nothing(_: int) -> None:
        return None

    step = Step.map_over("m", nothing, items=lambda n: iter(range(n)), max_concurrency=10)
    pipeline = Pipeline([step])

    async def through(count: int) -> int:
        async with pipeline.open(count) as live:
            seen = 0
            async for _ in live.outcomes:
                seen += 1
        assert seen == count
        assert live.result.step_history[0].counts == {"succeeded": count}
        return seen

    await through(20_000)
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    await through(100_000)
    assert process.memory_info().rss - before < 3_000_000
