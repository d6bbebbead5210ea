"""A keyword that is not there, or is there twice, is refused in words."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from anabranch import ConfigurationError, Job, Pipeline, Step, UnknownOptionError, open_scheduler
from anabranch._options import exact


async def echo(data: Any) -> Any:
    return data


TWICE = {
    "parallel": (lambda: Step.parallel("n", {"a": echo}, branches={"b": echo}), "branches"),
    "parallel's name": (lambda: Step.parallel("n", {"a": echo}, name="m"), "name"),
    "map_over": (lambda: Step.map_over("m", echo, step=echo), "step"),
    "Step": (lambda: Step("a", echo, fn=echo), "fn"),
    "Pipeline": (lambda: Pipeline([echo], steps=[echo]), "steps"),
    "Job": (lambda: Job("k", echo, fn=echo), "fn"),
    "open_scheduler": (lambda: open_scheduler(1, limit=2), "limit"),
    "run_sync": (lambda: Pipeline([echo]).run_sync(1, data=2), "data"),
    "with an unknown one": (lambda: Step("a", echo, fn=echo, tiemout=1), "fn"),
}


@pytest.mark.parametrize(("make", "name"), TWICE.values(), ids=TWICE)
def test_what_is_given_twice_is_refused_by_name(make: Any, name: str) -> None:
    words = f": {name} is given twice, in its place and as {name}=; give it once"
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_branches_that_come_first_and_by_name_are_given_twice() -> None:
    with pytest.raises(ConfigurationError, match="branches are given twice"):
        Step.parallel({"a": echo}, branches={"b": echo})


async def test_an_async_function_is_refused_before_it_begins() -> None:
    with pytest.raises(ConfigurationError, match="data is given twice"):
        await Pipeline([echo]).run(1, data=2)


@exact("it")
def either(one: Any, two: Any = 2, /, three: Any = 3, *rest: Any, four: Any = 4) -> Any:
    return one, two, three, rest, four


def test_places_and_keywords_are_told_apart() -> None:
    assert either(1) == (1, 2, 3, (), 4)
    assert either(1, three=5) == (1, 2, 5, (), 4)
    assert either(1, 2, 3, 7, four=5) == (1, 2, 3, (7,), 5)
    assert list(inspect.signature(either).parameters) == ["one", "two", "three", "rest", "four"]
    with pytest.raises(ConfigurationError, match="it: three is given twice"):
        either(1, 2, 3, three=3)
    with pytest.raises(UnknownOptionError, match="one"):
        either(1, one=1)  # it has no name for callers
