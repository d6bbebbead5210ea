"""See that a run can be followed while it goes on, and stopped in part or as a whole."""

from typing import Any

import anyio
import pytest

from anabranch import AnabranchError, ConfigurationError, Pipeline, Status, Step


def sleeper(seconds: float) -> Any:
    async def sleep(_: Any) -> float:
        await anyio.sleep(seconds)
        return seconds

    return sleep


async def test_outcomes_come_in_the_order_of_completion_with_nested_paths() -> None:
    inner = Step.parallel("inner", {"x": sleeper(2), "y": sleeper(4)})
    pipeline = Pipeline([Step.parallel("p", {"a": sleeper(3), "n": inner, "b": sleeper(1)})])
    keys = []
    async with pipeline.open() as run:
        async for outcome in run.outcomes:
            keys.append(outcome.key)
            assert outcome.status is Status.SUCCEEDED
        result = run.result
    assert keys == ["b", "n/x", "a", "n/y", "n"]
    assert result.success
    assert result is run.result
    assert result.output == {"a": 3, "n": {"x": 2, "y": 4}, "b": 1}


async def test_outcomes_of_all_steps_come_in_one_stream() -> None:
    steps = [Step.parallel("p", {"a": sleeper(1)}), Step.parallel("q", {"b": sleeper(1)})]
    async with Pipeline(steps).open() as run:
        assert [outcome.key async for outcome in run.outcomes] == ["a", "b"]
        assert [outcome.key async for outcome in run.outcomes] == []


@pytest.mark.parametrize(
    ("which", "count", "cancelled"),
    [
        ("a*", 2, {"a1", "a2"}),
        ("*", 4, {"a1", "a2", "n", "z"}),
        ("n/*", 2, {"n/a1", "n/b"}),
        ("**/a1", 1, {"n/a1"}),
        ("nobody", 0, set()),
        (lambda key: key.endswith("a1"), 2, {"a1", "n/a1"}),
    ],
)
async def test_branches_are_cancelled_by_glob_or_predicate(
    which: Any, count: int, cancelled: set[str]
) -> None:
    inner = Step.parallel("inner", {"a1": sleeper(5), "b": sleeper(5)})
    branches = {"a1": sleeper(5), "a2": sleeper(5), "n": inner, "z": sleeper(5)}
    found = {}
    async with Pipeline([Step.parallel("p", branches)]).open() as run:
        await anyio.sleep(1)
        assert run.cancel(which, reason="enough") == count
        async for outcome in run.outcomes:
            found[outcome.key] = outcome
    assert cancelled <= {key for key, o in found.items() if o.status is Status.CANCELLED}
    for key in cancelled:
        assert found[key].reason == "enough"
        assert found[key].ran_s == pytest.approx(1, abs=0.01)
    for key in {"a1", "a2", "z"} - cancelled:
        assert found[key].status is Status.SUCCEEDED


async def test_what_is_queued_is_cancelled_too_and_never_starts() -> None:
    started = []

    async def start(_: Any) -> None:
        started.append(1)
        await anyio.sleep(2)

    step = Step.parallel("p", {f"b{i}": start for i in range(9)}, max_concurrency=2)
    async with Pipeline([step]).open() as run:
        await anyio.sleep(1)
        assert run.cancel("**") == 9
        outcomes = [outcome async for outcome in run.outcomes]
    assert len(started) == 2
    assert {outcome.status for outcome in outcomes} == {Status.CANCELLED}
    assert {outcome.reason for outcome in outcomes} == {"cancelled"}
    result = run.result.step_history[0]
    assert not result.success
    assert result.feedback == "0 of 9 branches succeeded, 9 were stopped"


@pytest.mark.parametrize("which", ["", None, 3])
async def test_what_chooses_nothing_is_refused(which: Any) -> None:
    async with Pipeline([Step.parallel("p", {"a": sleeper(1)})]).open() as run:
        with pytest.raises(ConfigurationError, match="chooses no branch; give a glob"):
            run.cancel(which)


@pytest.mark.parametrize("reason", ["", "  ", None, 3])
async def test_a_reason_that_says_nothing_is_refused(reason: Any) -> None:
    async with Pipeline([Step.parallel({"a": sleeper(1)})]).open(1) as run:
        for stop in (lambda: run.cancel("*", reason=reason), lambda: run.stop(reason)):
            with pytest.raises(ConfigurationError, match="says nothing; give a few words"):
                stop()
    assert run.result.success


async def test_a_snapshot_tells_what_runs_and_what_waits() -> None:
    branches = {f"b{i}": sleeper(2) for i in range(5)}
    inner = Step.parallel("inner", branches, max_concurrency=2)
    async with Pipeline([Step.parallel("outer", {"n": inner, "a": sleeper(9)})]).open() as run:
        await anyio.sleep(3)
        outer, nested = run.snapshot().steps
        assert (outer.step, outer.running, outer.queued, outer.ended) == ("outer", ("a", "n"), 0, 0)
        assert nested.step == "n/inner"
        assert nested.limit == 2
        assert nested.running == ("n/b2", "n/b3")
        assert (nested.queued, nested.ended) == (1, 2)
        assert run.snapshot().abandoned == ()
    assert run.snapshot().steps == ()


async def test_leaving_the_block_waits_for_the_run() -> None:
    async with Pipeline([Step.parallel("p", {"a": sleeper(1), "b": sleeper(3)})]).open() as run:
        async for _ in run.outcomes:
            break
    assert run.result.output == {"a": 1, "b": 3}


async def test_a_run_that_nobody_reads_ends() -> None:
    step = Step.map_over("m", sleeper(1), max_concurrency=2)
    async with Pipeline([step]).open(range(20)) as run:
        pass
    assert run.result.step_history[0].counts == {"succeeded": 20}


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, ExceptionGroup])
async def test_an_exception_in_the_block_cancels_the_run_and_comes_out_as_it_is(kind: Any) -> None:
    ended = []

    async def watched(_: Any) -> None:
        try:
            await anyio.sleep(100)
        finally:
            ended.append(anyio.current_time())

    error = kind("words", [ValueError()]) if kind is ExceptionGroup else kind("words")
    start = anyio.current_time()
    with pytest.raises(kind) as caught:
        async with Pipeline([Step.parallel("p", {"a": watched, "b": watched})]).open() as run:
            await anyio.sleep(1)
            raise error
    assert caught.value is error
    assert [when - start for when in ended] == pytest.approx([1, 1], abs=0.01)
    with pytest.raises(AnabranchError, match="stopped from outside, or by an exception"):
        _ = run.result


async def test_a_cancellation_in_the_block_goes_on_its_way() -> None:
    start = anyio.current_time()
    with anyio.move_on_after(2) as scope:
        async with Pipeline([Step.parallel("p", {"a": sleeper(100)})]).open() as run:
            async for _ in run.outcomes:
                pass
        raise AssertionError("the cancellation was swallowed")
    assert scope.cancelled_caught
    assert anyio.current_time() - start == pytest.approx(2, abs=0.01)


async def test_there_is_no_result_before_the_end() -> None:
    async with Pipeline([Step.parallel("p", {"a": sleeper(1)})]).open() as run:
        with pytest.raises(AnabranchError, match="read its outcomes to the end, or leave"):
            _ = run.result
        await anyio.sleep(2)
        assert run.result.success


async def test_a_live_run_is_opened_once() -> None:
    live = Pipeline([Step.parallel("p", {"a": sleeper(1)})]).open()
    async with live:
        pass
    with pytest.raises(AnabranchError, match="opened before"):
        async with live:
            pass


async def test_what_a_live_run_has_is_refused_in_words_before_it_is_entered() -> None:
    live = Pipeline([Step.parallel("p", {"a": sleeper(1)})]).open()
    with pytest.raises(AnabranchError, match="async with"):
        _ = live.outcomes
    with pytest.raises(AnabranchError, match="no result yet"):
        _ = live.result
    assert live.cancel("**") == 0


async def test_a_failing_run_is_a_result_and_no_exception() -> None:
    async def fail(_: Any) -> None:
        raise ValueError("words")

    async with Pipeline([Step.parallel("p", {"a": fail}), Step("never", fail)]).open() as run:
        outcomes = [outcome async for outcome in run.outcomes]
    assert [type(outcome.error) for outcome in outcomes] == [ValueError]
    assert not run.result.success
    assert len(run.result.step_history) == 1


async def test_a_run_of_steps_alone_has_no_outcomes_and_a_result() -> None:
    async with Pipeline([Step("a", sleeper(1)), Step("b", sleeper(1))]).open() as run:
        assert [outcome async for outcome in run.outcomes] == []
        assert run.result.success


async def test_a_run_that_was_cancelled_says_why_it_has_no_result() -> None:
    async def wait(_: Any) -> None:
        await anyio.sleep(100)

    run = Pipeline([Step.parallel({"a": wait})]).open(1)
    with anyio.move_on_after(1):
        async with run:
            await anyio.sleep(50)
    with pytest.raises(AnabranchError, match="stopped from outside"):
        _ = run.result
