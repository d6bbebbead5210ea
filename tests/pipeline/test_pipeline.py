"""See that steps follow one another, that unnamed ones are numbered, and that >> joins them."""

import logging
from typing import Any

import anyio
import pytest

from anabranch import (
    BranchFinished,
    BranchQueued,
    BranchStarted,
    ExecutionConfig,
    Pipeline,
    Step,
    StepFinished,
    StepStarted,
)


async def echo(data: Any) -> Any:
    await anyio.sleep(0)
    return data


async def add(data: int) -> int:
    return data + 1


async def fail(data: Any) -> Any:
    raise ValueError(data)


async def test_each_step_gets_the_output_of_the_one_before() -> None:
    result = await Pipeline([Step("a", add), Step("b", add), Step("c", add)]).run(1)
    assert result.output == 4
    assert [step.output for step in result.step_history] == [2, 3, 4]
    assert list(Pipeline([Step("a", add), Step("b", add)]).steps) == ["a", "b"]


async def test_unnamed_steps_are_numbered() -> None:
    parallel = Step.parallel({"a": echo})
    pipeline = Pipeline([parallel, parallel, Step("parallel-3", echo), parallel])
    assert list(pipeline.steps) == ["parallel", "parallel-2", "parallel-3", "parallel-4"]
    nested = Pipeline([Pipeline([add]), Pipeline([add])])
    assert list(nested.steps) == ["pipeline", "pipeline-2"]
    assert (await nested.run(1)).output == 3


async def test_a_function_twice_is_no_name_twice() -> None:
    assert (await Pipeline([add, add, add]).run(1)).output == 4
    assert list(Pipeline([add, add]).steps) == ["add", "add-2"]
    assert (await (Step("a", add) >> add >> add).run(1)).output == 4
    assert list(Pipeline([lambda x: x, lambda x: x]).steps) == ["<lambda>", "<lambda>-2"]


async def test_arrows_join_steps_functions_and_pipelines() -> None:
    both = Step("a", add) >> Step("b", add)
    assert isinstance(both, Pipeline)
    assert list((both >> Step("c", add)).steps) == ["a", "b", "c"]
    assert list((Step("c", add) >> both).steps) == ["c", "a", "b"]
    assert (await (add >> both >> add).run(1)).output == 5
    parallel = Step.parallel({"x": add})
    assert list((parallel >> parallel).steps) == ["parallel", "parallel-2"]
    assert (await (both >> parallel).run(1)).output == {"x": 4}


async def test_a_pipeline_with_a_name_or_a_config_stays_whole() -> None:
    named = Pipeline([Step("a", add)], name="inner")
    limited = Pipeline([Step("b", add)], execution_config=ExecutionConfig(max_parallel_steps=1))
    joined = named >> limited
    assert list(joined.steps) == ["inner", "pipeline"]
    result = await joined.run(1)
    assert result.output == 3
    assert [step.name for step in result.step_history] == ["inner", "pipeline"]


async def test_a_nested_pipeline_that_fails_says_where() -> None:
    inner = Pipeline([Step("good", add), Step("bad", fail), Step("never", add)], name="inner")
    result = await Pipeline([inner, Step("after", add)]).run(1)
    assert [step.name for step in result.step_history] == ["inner"]
    assert result.feedback == "step 'inner': step 'bad': raised ValueError: 2"
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def test_an_observer_hears_of_each_branch_and_step() -> None:
    events: list[Any] = []
    inner = Step.parallel("inner", {"x": echo})
    step = Step.parallel("p", {"a": echo, "n": inner})
    result = await Pipeline([step]).run(1, observer=events.append)
    assert result.success
    kinds = [type(event) for event in events]
    assert kinds[0] is StepStarted
    assert kinds[-1] is StepFinished
    for kind in (BranchQueued, BranchStarted, BranchFinished):
        assert sorted(e.key for e in events if type(e) is kind) == ["a", "n", "n/x"]
    assert sorted(e.step for e in events if type(e) is StepFinished) == ["n/inner", "p"]


async def test_an_observer_that_raises_harms_nobody() -> None:
    def observer(_: Any) -> None:
        raise RuntimeError("not me")

    result = await Pipeline([Step.parallel("p", {"a": echo})]).run(1, observer=observer)
    assert result.success


def test_run_sync_runs_on_both_loops_and_gives_the_same() -> None:
    pipeline = Pipeline([Step("a", add), Step.parallel("p", {"x": add, "y": echo})])
    assert pipeline.run_sync(1).output == {"x": 3, "y": 2}
    assert pipeline.run_sync(1, loop="asyncio").output == {"x": 3, "y": 2}
    assert pipeline.run_sync(1, timeout=3, context={}).success


def test_an_interrupt_comes_out_of_run_sync_as_it_is() -> None:
    async def interrupts(_: Any) -> None:
        raise KeyboardInterrupt

    for loop in ("trio", "asyncio"):
        for step in (Step("a", interrupts), Step.parallel("p", {"a": interrupts, "b": echo})):
            with pytest.raises(KeyboardInterrupt):
                Pipeline([step]).run_sync(1, loop=loop)


async def test_the_log_tells_what_failed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="anabranch"):
        await Pipeline([Step("a", fail)], name="p").run("words")
    assert "step 'a': raised ValueError: words" in caplog.text
