"""See that what cannot be meant about merging is refused when the step is made, by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from anabranch import ConfigurationError, MergeConfig, MergeStrategy, Step, UnknownOptionError

OVERWRITE = MergeStrategy.OVERWRITE
CONFIG = MergeConfig(deep_merge_dicts=True)


async def branch(data: Any, *, context: Any) -> None: ...


def one(context: Any) -> None: ...


def makes_generator(context: Any, branches: Any) -> Any:
    yield context


def make(**options: Any) -> Any:
    return Step.parallel("s", {"alpha": branch, "beta": branch}, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"merge_strategy": "overwrite"}, r"no MergeStrategy; did you mean 'OVERWRITE'\?"),
        ({"merge_strategy": None}, r"merge_strategy=None .* give one, MergeStrategy"),
        ({"merge_strategy": 3}, "is no MergeStrategy"),
        ({"merge_strategy": dict}, "is no MergeStrategy"),
        ({"merge_strategy": MergeStrategy}, "is no MergeStrategy"),
        ({"merge_strategy": one}, r"two arguments .* fn\(context, \{key"),
        ({"merge_strategy": makes_generator}, "generator"),
        ({"merge_order": "complete"}, r"'complete' is no order; did you mean 'completed'\?"),
        ({"merge_order": None}, "None is no order"),
        ({"merge_order": ["declared"]}, "is no order"),
        ({"merge_config": {}}, r"merge_config=\{\} \(dict\) is no MergeConfig"),
        ({"field_mapping": ["x"]}, "field_mapping=.* is no mapping"),
        ({"field_mapping": {"beto": ["x"]}}, r"the branch 'beto'.* did you mean 'beta'\?"),
        ({"field_mapping": {"alpha": "x"}}, "field_mapping: alpha='x' .str. is no list"),
        ({"field_mapping": {"alpha": [1]}}, "is no list of field names"),
        ({"context_include_keys": "x"}, "context_include_keys='x' .str. is no list"),
        ({"context_include_keys": [None]}, "is no list of field names"),
        (
            {"merge_config": MergeConfig(excluded_fields=["x"]), "field_mapping": {"beta": ["x"]}},
            "takes 'x' from branch 'beta', and excluded_fields",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^Step\.parallel 's'") as caught:
        make(**{"merge_strategy": OVERWRITE, **options})
    assert re.search(words, str(caught.value)), caught.value


@pytest.mark.parametrize(
    "options",
    [{"merge_config": CONFIG}, {"merge_order": "completed"}, {"field_mapping": {"alpha": ["x"]}}],
    ids=lambda options: next(iter(options)),
)
def test_an_option_without_effect_is_refused_and_says_why(options: dict[str, Any]) -> None:
    (option,) = options
    with pytest.raises(ConfigurationError, match=rf"{option}=.* has no effect: nothing is merged"):
        make(**options)
    if option != "merge_order":
        with pytest.raises(ConfigurationError, match=rf"{option}=.* has no effect: .* a function"):
            make(merge_strategy=lambda context, branches: None, **options)


def test_what_can_be_meant_is_not_refused() -> None:
    for strategy in [each for each in MergeStrategy if each is not MergeStrategy.NO_MERGE]:
        make(merge_strategy=strategy, merge_order="completed", merge_config=CONFIG)
        make(merge_strategy=strategy, field_mapping={"alpha": [], "beta": {"x"}})
    make(merge_strategy=dict.update, merge_order="completed", context_include_keys=("x",))
    make(context_include_keys=[])
    make(merge_strategy=OVERWRITE, merge_config=None, field_mapping=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"counter_fields": "hits"}, "counter_fields='hits' .str. is no list of field names"),
        ({"counter_fields": [1]}, "counter_fields=.* is no list of field names"),
        ({"counter_fields": None}, "is no list of field names"),
        ({"excluded_fields": {"x": 1}}, "excluded_fields=.* is no list of field names"),
        ({"deep_merge_dicts": 1}, "is neither True nor False"),
        ({"deduplicate_lists": "yes"}, "is neither True nor False"),
        ({"accumulate_counters": None}, "is neither True nor False"),
        ({"counter_fields": ["a", "x"], "excluded_fields": {"x"}}, "'x' is in counter_fields and"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"MergeConfig: {words}|MergeConfig: .*{words}"):
        MergeConfig(**options)


def test_a_config_is_a_value() -> None:
    assert MergeConfig() == MergeConfig(counter_fields=[], excluded_fields=())
    assert MergeConfig(counter_fields={"b", "a"}).counter_fields == ("a", "b")
    assert hash(MergeConfig(excluded_fields=["x"]))
    with pytest.raises(UnknownOptionError, match="did you mean 'deep_merge_dicts'"):
        MergeConfig(deep_merge=True)  # type: ignore[call-arg]  # that is the question
