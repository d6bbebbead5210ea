"""An error says by its notes which way it came: one note for each level of nesting."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from anabranch import Pipeline, Step


async def fail(data: Any) -> None:
    raise ValueError(data)


async def echo(data: Any) -> Any:
    return data


async def sleep(data: Any) -> None:
    await anyio.sleep(9)


async def error_of(step: Any, data: Any = 1) -> ExceptionGroup[Exception]:
    with pytest.raises(ExceptionGroup) as caught:
        (await Pipeline([step]).run(data)).unwrap()
    return caught.value


def notes_within(error: BaseException) -> Iterator[list[str]]:
    """Yield the notes of an error and of all in it, outermost first."""
    yield list(getattr(error, "__notes__", ()))
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from notes_within(inner)


async def test_each_level_of_nested_parallel_steps_has_its_note() -> None:
    deep = Step.parallel("deep", {"z": fail})
    middle = Step.parallel("middle", {"y": deep})
    error = await error_of(Step.parallel("top", {"x": middle}))
    assert list(notes_within(error)) == [
        [],
        ["branch x of step top"],
        ["branch y of step middle"],
        ["branch z of step deep"],
    ]
    words = "".join(traceback.format_exception(error))
    for note in ("branch x of step top", "branch y of step middle", "branch z of step deep"):
        assert words.count(note) == 1


async def test_items_of_a_map_are_levels_too() -> None:
    error = await error_of(Step.map_over("m", Step.parallel("in", {"a": fail})), [1, 2])
    assert list(notes_within(error)) == [
        [],
        ["item 0 of step m"],
        ["branch a of step in"],
        ["item 1 of step m"],
        ["branch a of step in"],
    ]


async def test_a_pipeline_within_is_a_level() -> None:
    inner = Pipeline([Step("fine", echo), Step("bad", fail)], name="inner")
    error = await error_of(Step.parallel("top", {"x": inner}))
    notes = ["step bad", "step bad of pipeline inner", "branch x of step top"]
    assert list(notes_within(error)) == [[], notes]
    error = await error_of(Pipeline([Step.parallel("p", {"a": fail})], name="inner"))
    assert list(notes_within(error)) == [["step p of pipeline inner"], ["branch a of step p"]]


async def test_a_note_is_made_once_however_often_results_are_looked_at() -> None:
    step = Step.parallel("top", {"x": Step.parallel("in", {"a": fail})})
    result = (await Pipeline([step]).run(1)).step_history[0]
    assert result.branches["x"].error.__notes__ == ["branch x of step top"]
    with pytest.raises(ExceptionGroup):
        result.unwrap()
    assert result.branches["x"].error.__notes__ == ["branch x of step top"]
    assert result.branches["x"].branches["a"].error.__notes__ == ["branch a of step in"]


async def test_what_had_failed_in_a_nested_step_that_is_stopped_has_its_notes() -> None:
    inner = Step.parallel("in", {"a": fail, "b": sleep})
    result = await Pipeline([Step.parallel("top", {"x": inner}, timeout=1)]).run(1)
    found = result.step_history[0].branches["x"]
    assert found.status == "cancelled"
    assert list(notes_within(found.error)) == [["branch x of step top"], ["branch a of step in"]]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("plain 名", "plain 名"),
        ("a\x1b[31m\nb", r"a\x1b[31m\nb"),
        ("it's \u202e", r"it's \u202e"),
        ("x" * 200, "x" * 200),
        ("x" * 10_000, "x" * 199 + "…"),
    ],
)
async def test_a_name_in_a_note_is_one_short_line(name: str, written: str) -> None:
    error = await error_of(Step.parallel(name, {name: fail}))
    assert error.message == f"1 of 1 branches of step {written}"
    assert list(notes_within(error))[1] == [f"branch {written} of step {written}"]
    single = await Pipeline([Step(name, fail)]).run(1)
    assert single.step_history[0].error.__notes__ == [f"step {written}"]
