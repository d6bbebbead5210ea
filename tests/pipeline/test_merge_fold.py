"""See how the changes of several branches are put together: strategies, numbers, lists, dicts."""

from __future__ import annotations

import collections
import decimal
import enum
from typing import Any

import pytest

from anabranch import MergeConfig, MergeError, MergeStrategy
from anabranch.pipeline._fields import ABSENT, with_changes
from anabranch.pipeline._merge import merged, short
from anabranch.pipeline._merge_changes import Original
from anabranch.pipeline._merge_terms import MergeTerms

UPDATE, ERROR = MergeStrategy.CONTEXT_UPDATE, MergeStrategy.ERROR_ON_CONFLICT
OVERWRITE, KEEP_FIRST = MergeStrategy.OVERWRITE, MergeStrategy.KEEP_FIRST
ALL = [UPDATE, ERROR, OVERWRITE, KEEP_FIRST]
every_strategy = pytest.mark.parametrize("strategy", ALL, ids=lambda each: each.name)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


def run(work: Any) -> tuple[Any, list[int]]:
    """Run a generator to its end; return its value, and what it yielded."""
    steps: list[int] = []
    while True:
        try:
            steps.append(next(work))
        except StopIteration as end:
            return end.value, steps


def after(
    context: Any, *afters: Any, strategy: Any = UPDATE, fields: Any = None, **config: Any
) -> Any:
    """Merge branches a, b, ... of which each leaves one context behind."""
    changes = []
    for key, left in zip("abcdefgh", afters, strict=False):
        copy = Original(context).copy()
        copy.context.clear()
        copy.context.update(left)
        changes.append((key, copy.changes()))
    terms = MergeTerms(strategy=strategy, config=MergeConfig(**config), fields=fields or {})
    return with_changes(dict(context), run(merged(context, changes, terms))[0])


# Strategies ----------------------------------------------------------------------------------


@every_strategy
def test_different_fields_are_all_kept(strategy: Any) -> None:
    base = {"x": 0, "y": 0, "z": 0, "w": 0}
    found = after(
        base, {**base, "x": 1}, {**base, "y": 2}, {"x": 0, "y": 0, "w": 0}, strategy=strategy
    )
    assert found == {"x": 1, "y": 2, "w": 0}


@every_strategy
def test_who_changed_nothing_never_conflicts(strategy: Any) -> None:
    base = {"x": 0}
    assert after(base, base, {"x": 1}, base, strategy=strategy) == {"x": 1}


def test_the_last_one_wins_or_the_first_one() -> None:
    base = {"x": 0}
    afters = ({"x": 1}, {"x": 2}, {"x": 3})
    assert after(base, *afters, strategy=OVERWRITE) == {"x": 3}
    assert after(base, *afters, strategy=KEEP_FIRST) == {"x": 1}
    assert after(base, {"x": 1}, {}, strategy=OVERWRITE) == {}
    assert after(base, {}, {"x": 1}, strategy=KEEP_FIRST) == {}


@pytest.mark.parametrize("strategy", [UPDATE, ERROR])
def test_a_field_changed_differently_is_an_error_that_names_all(strategy: Any) -> None:
    with pytest.raises(MergeError) as caught:
        after({"total": 0, "n": 0}, {"total": 1, "n": 0}, {"total": 2, "n": 0}, strategy=strategy)
    message = str(caught.value)
    assert "field 'total': branch 'a' set it to 1, branch 'b' set it to 2" in message
    assert "OVERWRITE" in message
    assert (caught.value.field, caught.value.branches) == ("total", ("a", "b"))


def test_one_that_deleted_what_another_set_contradicts_it() -> None:
    with pytest.raises(MergeError, match=r"branch 'a' deleted it, branch 'b' set it to 1"):
        after({"x": 0}, {}, {"x": 1})


def test_who_agrees_may_or_may_not() -> None:
    base = {"x": [0], "y": 0}
    agree = {"x": [0, 1]}
    assert after(base, agree, agree, agree) == agree
    with pytest.raises(MergeError, match=r"field 'x': branch 'a' set it to \[0, 1\], branch 'b'"):
        after(base, agree, agree, strategy=ERROR)


def test_further_contradictions_are_named_in_a_note() -> None:
    base = dict.fromkeys("uvwx", 0)
    with pytest.raises(MergeError, match="field 'u'") as caught:
        after(base, dict.fromkeys("uvwx", 1), dict.fromkeys("uvwx", 2))
    assert caught.value.__notes__ == ["3 more: v, w, x"]


def test_values_are_shown_short_whatever_they_are() -> None:
    class Nasty:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    values = [b"x" * 10_000_000, "y" * 10_000_000, list(range(10**6)), Nasty(), {"a": Nasty()}]
    for value in values:
        assert len(short(value)) <= 80
    assert "10000000" in short(values[0])


# What is left out ----------------------------------------------------------------------------


def test_only_the_mapped_fields_of_a_branch_merge() -> None:
    base = {"x": 0, "y": 0}
    both = {"x": 1, "y": 1}
    assert after(base, both, {"x": 2, "y": 2}, fields={"a": {"x"}, "b": {"y"}}) == {"x": 1, "y": 2}
    assert after(base, both, base, fields={"a": set()}) == base
    assert after(base, both, base, fields={"b": {"x"}}) == both
    assert after(base, {**base, "new": 3}, fields={"a": {"new"}}) == {**base, "new": 3}


def test_a_mapped_field_that_no_one_set_is_an_error() -> None:
    with pytest.raises(MergeError, match=r"'resutl' from branch 'a'.*did you mean 'result'") as e:
        after({"x": 0}, {"x": 0, "result": 1}, fields={"a": {"resutl"}})
    assert (e.value.field, e.value.branches) == ("resutl", ("a",))


@every_strategy
def test_excluded_fields_never_merge(strategy: Any) -> None:
    base = {"x": 0, "scratch": 0}
    found = after(
        base,
        {"x": 0, "scratch": 1},
        {"x": 1, "scratch": 2, "tmp": 3},
        strategy=strategy,
        excluded_fields=["scratch", "tmp"],
    )
    assert found == {"x": 1, "scratch": 0}


# Numbers -------------------------------------------------------------------------------------


@every_strategy
def test_counters_add_up_what_each_added(strategy: Any) -> None:
    base = {"hits": 10, "cost": 0.5, "money": decimal.Decimal(1)}
    afters = [{"hits": 13, "cost": 0.75, "money": decimal.Decimal(2)}, {**base, "hits": 8}]
    found = after(base, *afters, strategy=strategy, accumulate_counters=True)
    assert found == {"hits": 11, "cost": 0.75, "money": decimal.Decimal(2)}


def test_only_named_counters_add_up_if_some_are_named() -> None:
    base = {"hits": 1, "level": 1}
    for switch in ({}, {"accumulate_counters": True}):
        assert after(base, {"hits": 2, "level": 1}, {"hits": 3, "level": 5},
                     counter_fields=["hits"], **switch) == {"hits": 4, "level": 5}  # fmt: skip
        with pytest.raises(MergeError, match="level"):
            after(base, {"hits": 2, "level": 2}, {"hits": 3, "level": 5},
                  counter_fields=["hits"], **switch)  # fmt: skip


def test_a_counter_that_was_not_there_begins_at_nothing() -> None:
    assert after({}, {"n": 2}, {"n": 3}, counter_fields=["n"]) == {"n": 5}
    tallies = ({"n": collections.Counter("ab")}, {"n": collections.Counter("b")})
    assert after({}, *tallies, counter_fields=["n"]) == {"n": {"a": 1, "b": 2}}


def test_tallies_add_up_by_key() -> None:
    base = {"n": collections.Counter(a=5, gone=1, kept=0)}
    one, other = collections.Counter(a=6, b=1, kept=0), collections.Counter(a=3, gone=1, b=2)
    found = after(base, {"n": one}, {"n": other}, accumulate_counters=True)["n"]
    assert found == collections.Counter(a=4, b=3)
    assert type(found) is collections.Counter
    assert base["n"] == collections.Counter(a=5, gone=1)


@pytest.mark.parametrize("value", [True, "2", None, Level.HIGH, [1]], ids=repr)
def test_what_is_no_number_is_no_counter(value: Any) -> None:
    with pytest.raises(MergeError, match=r"field 'n': branch 'a'"):
        after({"n": 0}, {"n": value}, {"n": 7}, accumulate_counters=True)
    with pytest.raises(MergeError, match=r"field 'n' is a counter, and branch 'b' set it to"):
        after({"n": 0}, {"n": 5}, {"n": value}, counter_fields=["n"])
    with pytest.raises(MergeError, match=r"field 'n' is a counter, and the context holds"):
        after({"n": value}, {"n": 7}, counter_fields=["n"])


def test_a_named_counter_that_was_deleted_cannot_be_added_up() -> None:
    with pytest.raises(MergeError, match=r"branch 'b' deleted it, which cannot be added up"):
        after({"n": 0}, {"n": 5}, {}, counter_fields=["n"])


# Lists ---------------------------------------------------------------------------------------


@every_strategy
def test_lists_are_joined_and_every_value_is_there_once(strategy: Any) -> None:
    base = {"x": [1, 2, 3]}
    afters = [{"x": [1, 2, 3, 4, 5]}, {"x": [0, 1, 3, 4]}, base]
    found = after(base, *afters, strategy=strategy, deduplicate_lists=True)
    assert found == {"x": [1, 3, 4, 5, 0]}


def test_what_cannot_be_hashed_is_there_once_too() -> None:
    base = {"x": [{"a": [1]}, [1, 2], {1}]}
    odd = [complex(1), {"b": {3}}]
    afters = [{"x": [*base["x"], *odd, [1, 2]]}, {"x": [{"a": [1]}, {1}, *odd, (1, 2), [], {}]}]
    found = after(base, *afters, deduplicate_lists=True)
    assert found == {"x": [{"a": [1]}, {1}, *odd, (1, 2), [], {}]}


def test_a_list_that_one_branch_changed_is_taken_as_it_is() -> None:
    assert after({"x": [2, 1]}, {"x": [1, 1, 2]}, deduplicate_lists=True) == {"x": [1, 1, 2]}


def test_lists_that_were_not_there_are_joined() -> None:
    assert after({}, {"x": [1]}, {"x": [2, 1]}, deduplicate_lists=True) == {"x": [1, 2]}


def test_without_the_option_two_lists_contradict_each_other() -> None:
    with pytest.raises(MergeError, match="field 'x'"):
        after({"x": []}, {"x": [1]}, {"x": [2]})


# Dicts ---------------------------------------------------------------------------------------


@every_strategy
def test_dicts_merge_key_by_key(strategy: Any) -> None:
    base = {"x": {"keep": 0, "gone": 0, "deep": {"n": 0, "m": 0}}}
    one = {"x": {"keep": 0, "gone": 0, "new": 1, "deep": {"n": 1, "m": 0}}}
    other = {"x": {"keep": 0, "deep": {"n": 0, "m": 2}}}
    found = after(base, one, other, strategy=strategy, deep_merge_dicts=True)
    assert found == {"x": {"keep": 0, "new": 1, "deep": {"n": 1, "m": 2}}}
    assert base == {"x": {"keep": 0, "gone": 0, "deep": {"n": 0, "m": 0}}}


def test_a_contradiction_in_a_dict_is_named_by_its_path() -> None:
    with pytest.raises(MergeError, match=r"field 'x\.y\.z': branch 'a' set it to 1"):
        after({"x": {"y": {"z": 0}}}, {"x": {"y": {"z": 1}}}, {"x": {"y": {"z": 2}}},
              deep_merge_dicts=True)  # fmt: skip


def test_all_rules_hold_within_a_dict() -> None:
    base = {"x": {"hits": 1, "rows": [1]}}
    afters = ({"x": {"hits": 2, "rows": [1, 2]}}, {"x": {"hits": 4, "rows": [1, 3]}})
    config = dict.fromkeys(("deep_merge_dicts", "accumulate_counters", "deduplicate_lists"), True)
    assert after(base, *afters, **config) == {"x": {"hits": 5, "rows": [1, 2, 3]}}


def test_a_dict_keeps_its_class_and_the_order_of_its_keys() -> None:
    base = {"x": collections.OrderedDict(b=1, a=2)}
    afters = [
        {"x": collections.OrderedDict(b=1, a=3)},
        {"x": collections.OrderedDict(b=1, a=2, c=4)},
    ]
    found = after(base, *afters, deep_merge_dicts=True)["x"]
    assert type(found) is collections.OrderedDict
    assert list(found.items()) == [("b", 1), ("a", 3), ("c", 4)]


def test_dicts_that_were_not_there_merge_too() -> None:
    assert after({}, {"x": {"a": 1}}, {"x": {"b": 2}}, deep_merge_dicts=True) == {
        "x": {"a": 1, "b": 2}
    }


def test_fields_that_shared_a_dict_share_what_it_becomes() -> None:
    shared: dict[str, int] = {}
    base = {"x": shared, "y": shared}
    changes = []
    for key in "ab":
        copy = Original(base).copy()
        copy.context["x"][key] = 1
        changes.append((key, copy.changes()))
    terms = MergeTerms(strategy=UPDATE, config=MergeConfig(deep_merge_dicts=True))
    found = run(merged(base, changes, terms))[0]
    assert found["x"] is found["y"]
    assert found["x"] == {"a": 1, "b": 1}
    assert shared == {}


def test_a_dict_that_holds_itself_still_does() -> None:
    inner: dict[str, Any] = {}
    inner["self"] = inner
    base = {"x": inner}
    changes = []
    for key in "ab":
        copy = Original(base).copy()
        copy.context["x"][key] = 1
        changes.append((key, copy.changes()))
    terms = MergeTerms(strategy=UPDATE, config=MergeConfig(deep_merge_dicts=True))
    found = run(merged(base, changes, terms))[0]["x"]
    assert found["self"] is found
    assert {key for key in found if key != "self"} == {"a", "b"}


# Work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "each"),
    [
        (5000, lambda i: {f"f{i % 100}": i}),
        (2, lambda i: {f"f{n}": i for n in range(20_000)}),
        (20, lambda i: {"x": {f"f{n}": i for n in range(5000)}}),
        (20, lambda i: {"x": list(range(i, 5000))}),
        (20_000, lambda i: {"same": 1}),
        (20_000, lambda i: {"x": [i]}),
    ],
    ids=["branches", "fields", "keys", "items", "agreeing", "lists"],
)
def test_work_is_told_in_small_pieces(count: int, each: Any) -> None:
    changes = [(str(i), each(i)) for i in range(count)]
    config = MergeConfig(deep_merge_dicts=True, deduplicate_lists=True)
    strategy = UPDATE if "same" in each(0) else OVERWRITE
    _, steps = run(merged({}, changes, MergeTerms(strategy=strategy, config=config)))
    largest = max(
        len(value) for value in [each(0), *each(0).values()] if not isinstance(value, int)
    )
    assert max(steps) <= max(1024, largest + 1)


def test_absent_is_never_a_value() -> None:
    found = after({"x": {"a": 1}}, {"x": {}}, {"x": {"a": 1, "b": 2}}, deep_merge_dicts=True)
    assert ABSENT not in found["x"].values()
    assert found == {"x": {"b": 2}}
