"""See what is told of a branch's copy: what changed, and nothing that was left alone."""

import array
import collections
import dataclasses
import datetime as dt
import pickle
import threading
import uuid
from typing import Any

import attrs
import pydantic
import pytest

from anabranch.pipeline._fields import ABSENT, with_changes
from anabranch.pipeline._merge_changes import Original, is_equal
from tests.pipeline.contexts import OBJECTS, Attrs, Data, Frozen, FrozenData, FrozenModel, Model


class Plain:
    """Be compared by identity, as most objects are."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


class Slotted:
    __slots__ = ("n",)

    def __init__(self, n: int) -> None:
        self.n = n


class Raises:
    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    __hash__ = None  # type: ignore[assignment]  # as a class with __eq__ has none


class Elementwise:
    """Answer as an array does; it has the buffer protocol of none."""

    def __init__(self, *items: int) -> None:
        self.items = items

    def __eq__(self, other: object) -> Any:
        return Elementwise(*[1 for _ in self.items])

    def __bool__(self) -> bool:
        raise ValueError("the truth of several is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # as a class with __eq__ has none


class Scalar:
    """Answer with a bool of its own, as numpy's scalars do."""

    shape = ()

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> Any:
        return Scalar(isinstance(other, Scalar) and self.n == other.n)

    def __bool__(self) -> bool:
        return bool(self.n)

    __hash__ = None  # type: ignore[assignment]  # as a class with __eq__ has none


LEFT_ALONE = {
    "number": 3,
    "nan": float("nan"),
    "list": [1, [2], {"a": 3}],
    "tuple": ([1], 2),
    "set": {1, 2},
    "deque": collections.deque([[1]], maxlen=3),
    "ordered": collections.OrderedDict(a=[1]),
    "default": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("aab"),
    "attrs": Attrs(1, [[1]]),
    "frozen": FrozenData(1, [[1]]),
    "model": Model(n=1, items=[[1]]),
    "plain": Plain(n=1, inner=[Plain(n=2)]),
    "slotted": [Slotted(3)],
    "raises": Raises(1),
    "several": [Elementwise(1, 2)],
    "scalar": Scalar(2),
    "datetime": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    "uuid": uuid.UUID(int=3),
    "array": array.array("d", [1.0]),
    "bytes": b"x" * 100,
    "lock": threading.Lock(),
    "function": len,
    "class": Data,
}


def changes(context: Any, change: Any, only: Any = None) -> Any:
    copy = Original(context, only).copy()
    change(copy.context)
    return copy.changes()


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_was_left_alone_did_not_change(name: str) -> None:
    assert changes({name: LEFT_ALONE[name], "n": 1}, lambda c: c.update(n=2)) == {"n": 2}


def set_to(name: str, value: Any) -> Any:
    return lambda c: c.__setitem__(name, value)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (1, set_to("x", 2)),
        (None, set_to("x", 0)),
        ([1], lambda c: c["x"].append(2)),
        ([[1]], lambda c: c["x"][0].append(2)),
        ([1, 2], lambda c: c["x"].reverse()),
        ({"a": {"b": 1}}, lambda c: c["x"]["a"].update(b=2)),
        ({"a": None}, lambda c: c["x"].update(b=c["x"].pop("a"))),
        ({1}, lambda c: c["x"].add(2)),
        (collections.deque([1]), lambda c: c["x"].append(2)),
        (collections.OrderedDict(a=1, b=2), lambda c: c["x"].move_to_end("a")),
        (collections.Counter("a"), lambda c: c["x"].update("a")),
        (([1],), lambda c: c["x"][0].append(2)),
        (Attrs(), lambda c: c["x"].items.append(1)),
        (Attrs(), lambda c: setattr(c["x"], "never_set", 1)),
        (Frozen(), lambda c: c["x"].items.append(1)),
        (Model(), lambda c: setattr(c["x"], "n", 1)),
        (Plain(n=1), lambda c: setattr(c["x"], "n", 2)),
        (Plain(inner=[Plain(n=2)]), lambda c: c["x"].inner[0].__init__(n=3)),
        (Slotted(1), lambda c: setattr(c["x"], "n", 2)),
        (Raises(1), lambda c: setattr(c["x"], "n", 2)),
        (Elementwise(1), lambda c: setattr(c["x"], "items", (2,))),
        (float("nan"), set_to("x", float("nan"))),
    ],
)
def test_a_change_is_seen_however_deep_it_is(before: Any, change: Any) -> None:
    context = {"x": before, "other": [1]}
    assert list(changes(context, change)) == ["x"]


@pytest.mark.parametrize(
    "new", [Raises(1), Elementwise(1), Plain(n=1), array.array("d", [2.0])], ids=type
)
def test_another_object_that_is_not_known_to_be_equal_is_a_change(new: Any) -> None:
    before = type(new)(n=1) if isinstance(new, (Raises, Plain)) else [1]
    assert list(changes({"x": before}, set_to("x", new))) == ["x"]


def test_another_object_that_is_equal_is_none() -> None:
    assert changes({"x": [1]}, set_to("x", [1])) == {}
    assert changes({"x": Scalar(1)}, set_to("x", Scalar(1))) == {}
    assert changes({"x": Data(3)}, set_to("x", Data(3))) == {}
    assert changes({"x": 1}, set_to("x", 1.0)) == {}


def test_a_key_deleted_and_a_key_added_are_changes() -> None:
    def change(c: Any) -> None:
        del c["b"]
        c["z"] = 1
        c["a"] = 5

    found = changes({"a": 1, "b": 2, "c": 3}, change)
    assert found == {"a": 5, "b": ABSENT, "z": 1}
    assert list(found) == ["a", "b", "z"]
    assert pickle.loads(pickle.dumps(found))["b"] is ABSENT


@pytest.mark.parametrize("make", OBJECTS)
def test_the_fields_of_an_object_are_told_one_by_one(make: Any) -> None:
    def change(c: Any) -> None:
        c.items.append(1)
        object.__setattr__(c, "n", 7)

    assert changes(make(), lambda c: c) == {}
    assert changes(make(), lambda c: c.items.append(1)) == {"items": [1]}
    assert changes(make(), change) == {"n": 7, "items": [1]}


def test_a_field_that_is_set_for_the_first_time_or_deleted_is_a_change() -> None:
    assert changes(Attrs(), lambda c: setattr(c, "never_set", 1)) == {"never_set": 1}
    assert changes(Attrs(), lambda c: delattr(c, "n")) == {"n": ABSENT}


def test_what_pydantic_takes_beyond_its_fields_is_told_too() -> None:
    context = FrozenModel(extra=[1])  # type: ignore[call-arg]  # it allows extra
    found = changes(context, lambda c: c.extra.append(2))
    assert found == {"extra": [1, 2]}
    assert context.extra == [1]  # type: ignore[attr-defined]  # it allows extra
    assert with_changes(context, found).extra == [1, 2]


# What is held in common ----------------------------------------------------------------------


def merged(context: Any, change: Any) -> Any:
    return with_changes(context, changes(context, change))


def test_two_fields_that_share_a_list_share_it_afterwards() -> None:
    shared = [1]
    context = merged({"a": shared, "b": shared}, lambda c: c["a"].append(2))
    assert context["a"] is context["b"]
    assert context["a"] == [1, 2]


def test_a_reference_that_was_moved_is_to_the_contexts_own_object() -> None:
    users = {"x": {"n": 1}, "y": {"n": 2}}
    own = users["y"]
    context = merged({"users": users, "current": None}, lambda c: c.update(current=c["users"]["y"]))
    assert context["current"] is own is context["users"]["y"]


def test_a_reference_from_something_new_is_to_the_contexts_own_object() -> None:
    users = {"x": {"n": 1}}

    def change(c: Any) -> None:
        c["seen"] = [(c["users"]["x"], 1), Data(items=[c["users"]["x"]])]

    context = merged({"users": users}, change)
    assert context["seen"][0][0] is users["x"]
    assert context["seen"][1].items[0] is users["x"]


def test_what_was_left_alone_beside_a_change_stays_the_object_that_it_was() -> None:
    rows = [{"n": i} for i in range(3)]
    first, second, third = rows
    context = merged({"rows": rows}, lambda c: c["rows"][1].update(n=7))
    assert context["rows"] == [{"n": 0}, {"n": 7}, {"n": 2}]
    assert context["rows"][0] is first
    assert context["rows"][2] is third
    assert context["rows"][1] is not second
    assert second == {"n": 1}


def test_a_context_that_holds_itself_still_does() -> None:
    context: dict[str, Any] = {"n": 1, "inner": {}}
    context["self"] = context["inner"]["up"] = context
    found = changes(context, lambda c: c.update(n=2))
    assert found == {"n": 2}
    assert with_changes(context, found)["self"] is context


def test_a_child_that_is_new_has_the_context_for_its_parent() -> None:
    @attrs.define
    class Node:
        parent: Any
        children: list[Any] = attrs.field(factory=list)

    root = Node(None)
    root.children.append(Node(root))
    first = root.children[0]
    after = merged(root, lambda c: c.children.append(Node(c)))
    assert after is root
    assert after.children[0] is first
    assert [child.parent is root for child in after.children] == [True, True]


def test_what_goes_round_in_circles_ends() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    pair: list[Any] = []
    for _ in range(60):  # as a tree it would have 2 ** 60 leaves
        pair = [pair, pair]
    context = {"loop": loop, "pair": pair, "n": 1}
    assert changes(context, lambda c: c.update(n=2)) == {"n": 2}
    assert list(changes(context, lambda c: c["loop"].append(2))) == ["loop"]


def test_what_is_too_deep_to_be_compared_counts_as_changed() -> None:
    deep: list[Any] = []
    inner = deep
    for _ in range(5000):
        inner.append([])
        inner = inner[0]
    assert list(changes({"x": None}, set_to("x", deep))) == ["x"]
    assert not is_equal(deep, [deep])


# What branches are given ---------------------------------------------------------------------


def test_only_what_is_named_is_given_and_the_rest_is_no_deletion() -> None:
    big = [object()]
    copy = Original({"a": [1], "big": big}, ("a",)).copy()
    assert copy.context == {"a": [1]}
    copy.context["a"].append(2)
    copy.context["new"] = 3
    assert copy.changes() == {"a": [1, 2], "new": 3}


@pytest.mark.parametrize("make", [*OBJECTS, lambda **parts: collections.OrderedDict(parts)])
def test_a_field_that_is_not_given_is_not_there_but_may_be_set(make: Any) -> None:
    context = make(n=1, items=[1])
    copy = Original(context, ("items",)).copy()
    mapping = isinstance(context, dict)
    if make is Data:  # its class has an attribute of that name, the default
        assert copy.context.n == 0
    else:
        with pytest.raises(KeyError if mapping else AttributeError):
            _ = copy.context["n"] if mapping else copy.context.n
    assert copy.changes() == {}
    if mapping:
        copy.context["n"] = 5
    else:
        object.__setattr__(copy.context, "n", 5)
    assert copy.changes() == {"n": 5}


def test_a_branch_cannot_see_what_another_put_into_an_attribute_that_is_no_field() -> None:
    class Private(pydantic.BaseModel):
        _cache: dict[str, int] = pydantic.PrivateAttr(default_factory=dict)

    @dataclasses.dataclass
    class Cached:
        n: int = 0

        def __post_init__(self) -> None:
            self.cache: dict[str, int] = {}

    for context, name in ((Private(), "_cache"), (Cached(), "cache")):
        copy = Original(context).copy()
        getattr(copy.context, name)["a"] = 1
        assert getattr(context, name) == {}
        assert copy.changes() == {}
