"""See that each branch has a context of its own, copied down to what cannot change."""

import array
import collections
import dataclasses
import enum
import threading
import tracemalloc
from typing import Any

import anyio
import attrs
import pydantic
import pytest

from anabranch import Pipeline, Step
from anabranch.pipeline._context import copy_for_branch


@attrs.define
class Attrs:
    items: list[Any] = attrs.field(factory=list)
    never_set: int = attrs.field(init=False)


@attrs.frozen
class Frozen:
    items: list[Any] = attrs.field(factory=list)


@dataclasses.dataclass
class Data:
    items: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenData:
    items: list[Any] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    items: list[Any] = []


class Colour(enum.Enum):
    RED = 1


async def append(data: Any, *, context: Any) -> int:
    items = context["items"] if isinstance(context, dict) else context.items
    items.append(data)
    await anyio.sleep(0)
    return len(items)


KINDS = [Attrs, Frozen, Data, FrozenData, Model]


@pytest.mark.parametrize("make", [lambda: {"items": []}, *KINDS])
async def test_each_branch_has_a_copy_of_its_own_and_steps_share_the_context(make: Any) -> None:
    context = make()
    steps = [
        Step("before", append),
        Step.parallel({f"b{i}": append for i in range(5)}),
        Step("after", append),
    ]
    result = await Pipeline(steps).run(1, context=context)
    before, branches, after = result.step_history
    assert before.output == 1
    assert set(branches.output.values()) == {2}
    assert after.output == 2
    assert result.context is context


async def test_nested_branches_have_copies_of_their_branchs_copy() -> None:
    inner = Step("x", append) >> Step.parallel({"a": append, "b": append})
    context: dict[str, Any] = {"items": []}
    result = await Pipeline([Step.parallel({"i": inner, "j": inner})]).run(1, context=context)
    assert context == {"items": []}
    assert set(result.output["i"].values()) == {2}


async def test_without_a_context_there_is_none() -> None:
    async def see(data: Any, context: Any) -> Any:
        return context

    result = await Pipeline([Step("a", see), Step.parallel({"b": see})]).run(1)
    assert result.output == {"b": None}


async def test_who_takes_a_context_is_known_by_its_name() -> None:
    async def first(context: Any) -> Any:
        return context

    async def keywords(data: Any, **options: Any) -> Any:
        return options

    result = await Pipeline([Step.parallel({"a": first, "b": keywords})]).run(3, context={"k": 1})
    assert result.output == {"a": 3, "b": {}}


@pytest.mark.real_clock
async def test_a_plain_function_gets_a_copy_too() -> None:
    def add(data: Any, context: Any) -> int:
        context["items"].append(data)
        return len(context["items"])

    context: dict[str, Any] = {"items": []}
    branches = {"a": add, "b": Step("b", add, lane="inline")}
    result = await Pipeline([Step.parallel(branches)]).run(3, context=context)
    assert result.output == {"a": 1, "b": 1}
    assert context == {"items": []}


def test_containers_are_copied_down_to_their_leaves() -> None:
    leaf = [1]
    context = {
        "list": [leaf],
        "tuple": (leaf, "x"),
        "dict": {"deep": {"deeper": leaf}},
        "set": {1, 2},
        "deque": collections.deque([leaf], maxlen=3),
        "defaultdict": collections.defaultdict(list, a=leaf),
        "ordered": collections.OrderedDict(a=leaf),
        "counter": collections.Counter("aab"),
        "attrs": Attrs([leaf]),
        "frozen": Frozen([leaf]),
        "data": FrozenData([leaf]),
        "model": Model(items=[leaf]),
        "bytearray": bytearray(b"x"),
    }
    copied = copy_for_branch(context)
    copied["list"][0].append(2)
    copied["tuple"][0].append(2)
    copied["dict"]["deep"]["deeper"].append(2)
    copied["set"].add(3)
    copied["deque"][0].append(2)
    copied["defaultdict"]["a"].append(2)
    copied["ordered"]["a"].append(2)
    copied["counter"]["z"] += 1
    for name in ("attrs", "frozen", "data", "model"):
        copied[name].items[0].append(2)
    assert leaf == [1]
    assert context["set"] == {1, 2}
    assert context["counter"] == {"a": 2, "b": 1}
    assert copied["deque"].maxlen == 3
    assert copied["defaultdict"].default_factory is list
    for name, value in context.items():
        assert type(copied[name]) is type(value)


def test_what_is_held_twice_is_copied_once() -> None:
    leaf: list[int] = []
    copied = copy_for_branch({"a": leaf, "b": leaf})
    assert copied["a"] is copied["b"]


def test_cycles_are_copied() -> None:
    context: dict[str, Any] = {"list": []}
    context["self"] = context
    context["list"].append(context["list"])
    node = Data()
    node.items.append(node)
    context["node"] = node
    copied = copy_for_branch(context)
    assert copied["self"] is copied is not context
    assert copied["list"][0] is copied["list"] is not context["list"]
    assert copied["node"].items[0] is copied["node"] is not node
    cycle: list[Any] = []
    tuple_of_itself = (cycle,)
    cycle.append(tuple_of_itself)
    assert copy_for_branch({"t": tuple_of_itself})["t"][0] is not cycle


def test_what_cannot_change_and_arrays_are_shared() -> None:
    context = {
        "bytes": b"x" * 10,
        "array": array.array("d", [1.0]),
        "memoryview": memoryview(b"x"),
        "string": "words",
        "frozenset": frozenset({1}),
        "enum": Colour.RED,
        "function": len,
        "class": Data,
        "lock": threading.Lock(),
        "event": threading.Event(),
        "generator": (i for i in range(3)),
        "module": threading,
    }
    copied = copy_for_branch(context)
    for name in (
        "bytes",
        "array",
        "memoryview",
        "string",
        "frozenset",
        "enum",
        "function",
        "class",
    ):
        assert copied[name] is context[name], name
    for name in ("lock", "generator", "module"):
        assert copied[name] is context[name], name


def test_a_buffer_that_cannot_be_shown_is_shared_too() -> None:
    """As numpy's arrays of dates: they have the protocol, and a ValueError for who asks."""
    gone = memoryview(b"abc")
    gone.release()
    with pytest.raises(ValueError, match="released"):
        memoryview(gone)
    assert copy_for_branch({"a": [gone]})["a"][0] is gone


def test_an_object_that_refuses_to_be_copied_is_shared() -> None:
    class Refuses:
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("not me")

        def __copy__(self) -> Any:
            raise RuntimeError("not me")

    thing = Refuses()
    assert copy_for_branch({"a": [thing]})["a"][0] is thing


def test_a_slot_that_was_never_set_stays_so() -> None:
    copied = copy_for_branch(Attrs([1]))
    assert copied.items == [1]
    with pytest.raises(AttributeError):
        _ = copied.never_set


def test_plain_objects_are_copied_deeply() -> None:
    class Plain:
        def __init__(self) -> None:
            self.items = [[1]]

    plain = Plain()
    copied = copy_for_branch({"a": plain})["a"]
    copied.items[0].append(2)
    assert plain.items == [[1]]


async def test_a_hundred_megabytes_are_not_copied() -> None:
    async def size(data: Any, context: Any) -> int:
        return len(context["deep"]["big"][0])

    context = {"deep": {"big": [bytes(100_000_000)]}}
    step = Step.parallel({f"b{i}": size for i in range(20)}, max_concurrency=20)
    tracemalloc.start()
    try:
        result = await Pipeline([step]).run(context=context)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert set(result.output.values()) == {100_000_000}
    assert peak < 5_000_000
