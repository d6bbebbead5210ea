"""See that contexts are copied and compared as the graphs that they are, whatever leads where."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch import ConfigurationError, MergeStrategy, Pipeline, Step
from anabranch.pipeline._context import copy_for_branch

UPDATE = MergeStrategy.CONTEXT_UPDATE
DEPTH = 60  # levels of pairs: as a tree these are 2 ** 60 leaves


class Link:
    """Be a plain object that leads to another one."""

    def __init__(self, following: Link | None) -> None:
        self.following = following


def pairs_of(leaf: Any) -> Any:
    for _ in range(DEPTH):
        leaf = (leaf, leaf)
    return leaf


def leaf_of(pairs: Any) -> Any:
    for _ in range(DEPTH):
        pairs = pairs[1]
    return pairs


async def set_number(_: Any, context: Any) -> None:
    context["number"] = 1


async def append_to_leaf(_: Any, context: Any) -> None:
    leaf_of(context["pairs"]).append(1)


async def test_a_tuple_that_is_held_often_is_looked_at_once() -> None:
    step = Step.parallel({"a": set_number, "b": append_to_leaf}, merge_strategy=UPDATE)
    context = {"pairs": pairs_of([]), "number": 0}
    result = await Pipeline([step]).run(context=context)
    assert result.success
    assert context["number"] == 1
    assert leaf_of(context["pairs"]) == [1]
    assert context["pairs"][0] is context["pairs"][1]


async def test_a_tuple_of_what_cannot_change_is_shared_however_deep() -> None:
    pairs = pairs_of(1)
    assert copy_for_branch({"pairs": pairs})["pairs"] is pairs


def test_a_tuple_that_holds_itself_does_so_in_its_copy() -> None:
    ring: Any = ([],)
    ring[0].append(ring)
    copied = copy_for_branch({"ring": ring})["ring"]
    assert copied is not ring
    assert copied[0][0] is copied


async def test_what_is_too_deep_to_be_copied_fails_the_branch_that_wants_it_in_words() -> None:
    async def plain(_: Any) -> int:
        return 1

    flat: Any = []
    chain = None
    for _ in range(20_000):
        flat = [flat]
    for _ in range(5_000):
        chain = Link(chain)
    for deep in (flat, chain):
        step = Step.parallel({"a": set_number, "plain": plain}, merge_strategy=UPDATE)
        result = await Pipeline([step]).run(context={"number": 0, "deep": deep})
        branches = result.step_history[0].branches
        assert isinstance(branches["a"].error, ConfigurationError)
        assert "nested too deeply" in branches["a"].feedback
        assert branches["plain"].success


# Tables, whose == gives no bool and which copy themselves --------------------------------------


class Column:
    """Compare element by element, as an array does."""

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def __eq__(self, other: object) -> Any:
        assert isinstance(other, Column)
        return Column([a == b for a, b in zip(self.values, other.values, strict=True)])

    def __bool__(self) -> bool:
        raise ValueError("it is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # what compares like this cannot be hashed


class Table:
    """Be made of columns, and copy itself: nobody is told which column is a copy of which."""

    def __init__(self, values: list[int]) -> None:
        self.columns = [Column(values)]
        self.itself = self

    def __deepcopy__(self, memo: Any) -> Table:
        return Table(list(self.columns[0].values))

    def __eq__(self, other: object) -> Any:
        return self.columns[0]

    __hash__ = None  # type: ignore[assignment]  # what compares like this cannot be hashed


async def set_name(_: Any, context: Any) -> None:
    context["name"] = "changed"


async def append_to_column(_: Any, context: Any) -> None:
    context["table"].columns[0].values.append(3)


@pytest.mark.parametrize("table", [Column([1, 2]), Table([1, 2])])
async def test_a_table_that_nobody_changed_is_no_change(table: Any) -> None:
    branches = {"a": set_number, "b": set_name}
    step = Step.parallel(branches, merge_strategy=MergeStrategy.ERROR_ON_CONFLICT)
    context = {"table": table, "number": 0, "name": ""}
    result = await Pipeline([step]).run(context=context)
    assert result.success, result.feedback
    assert context == {"table": table, "number": 1, "name": "changed"}
    assert context["table"] is table


async def test_a_table_that_one_branch_changed_comes_from_that_branch() -> None:
    branches = {"a": set_number, "b": append_to_column}
    step = Step.parallel(branches, merge_strategy=MergeStrategy.ERROR_ON_CONFLICT)
    table = Table([1, 2])
    context = {"table": table, "number": 0}
    result = await Pipeline([step]).run(context=context)
    assert result.success, result.feedback
    assert context["table"].columns[0].values == [1, 2, 3]
    assert table.columns[0].values == [1, 2]
