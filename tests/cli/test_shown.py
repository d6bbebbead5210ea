"""Any value is written, also one that cannot write itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anabranch import Pipeline, PipelineResult, Status, Step, StepResult
from anabranch.cli._json import line_of_result
from anabranch.cli._report import text_of
from anabranch.cli._shown import laid_out, plain, shown


class Mute:
    """Cannot write itself."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class Broken(dict[str, Any]):
    """Cannot be looked at."""

    def items(self) -> Any:
        raise OSError("no items")


class Talkative:
    """Writes what is no one's business."""

    def __repr__(self) -> str:
        return "it is\x1b[31m red"


def holding_itself() -> list[Any]:
    inner: list[Any] = [1]
    inner.append({"again": inner})
    return inner


def nested(depth: int) -> list[Any]:
    outer: list[Any] = []
    for _ in range(depth):
        outer = [outer]
    return outer


MUTE = "<Mute, whose repr raises ValueError>"


def test_what_cannot_write_itself_has_a_stand_in() -> None:
    assert shown(Mute()) == MUTE
    assert shown([1]) == "[1]"
    assert shown(nested(5_000)) == "<list, whose repr raises RecursionError>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1}, '{\n  "a": 1\n}'),
        (["é", "日本"], '[\n  "é",\n  "日本"\n]'),
        (["\x9b31m\x7f\u202e"], '[\n  "\\u009b31m\\u007f\\u202e"\n]'),
        ([1, Mute()], f"[1, {MUTE}]"),
        ({"a": {"b": Mute()}}, f"{{'a': {{'b': {MUTE}}}}}"),
        ({Mute.__repr__: float("nan")}, None),
        ([Broken(a=1), 1], "[<Broken, whose repr raises OSError>, 1]"),
        (nested(5_000), "<list, whose repr raises RecursionError>"),
    ],
)
def test_a_dict_or_list_is_json_if_it_can_be(value: Any, text: str | None) -> None:
    assert text in (None, laid_out(value))
    assert laid_out(value)


def test_what_is_laid_out_as_json_is_the_value() -> None:
    value = {"a\x9b": ["\u2028", "\ud800", "\x00", 1.5, None, True, "\n"]}
    assert json.loads(laid_out(value)) == value


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({1: (2, {3})}, {"1": [2, "{3}"]}),
        ({None: float("inf"), "a": -float("inf")}, {"None": "inf", "a": "-inf"}),
        ({Mute(): Mute()}, {MUTE: MUTE}),
        ([Broken(a=1), b"b"], ["{'a': 1}", "b'b'"]),
        ([10**5000], ["<int, whose repr raises ValueError>"]),
        (holding_itself(), [1, {"again": "[1, {'again': [...]}]"}]),
    ],
)
def test_plain_values_are_what_json_can_hold(value: Any, found: Any) -> None:
    assert plain(value) == found
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == found


@pytest.mark.parametrize("value", [nested(5_000), [holding_itself()] * 3, Mute(), {Mute(): 1}])
def test_a_result_is_a_line_of_json_whatever_it_holds(value: Any) -> None:
    failed = StepResult(
        name="f", success=False, status=Status.FAILED, output=value, error=KeyError(value)
    )
    step = StepResult(
        name="s", success=True, status=Status.SUCCEEDED, output=value, branches={"f": failed}
    )
    result = PipelineResult(
        name="p", success=True, output=value, step_history=(step,), context={"c": value}
    )
    line = line_of_result(result)
    found = json.loads(line)
    assert "\n" not in line
    assert found["event"] == "result"
    assert found["step_history"][0]["status"] == "succeeded"
    assert found["step_history"][0]["branches"]["f"]["status"] == "failed"


def test_a_line_has_the_same_fields_whether_the_result_is_odd_or_not() -> None:
    names = []
    for output in (1, holding_itself()):
        result = Pipeline([Step("one", lambda _, output=output: output)]).run_sync(1)
        found = json.loads(line_of_result(result))
        names.append((list(found), list(found["step_history"][0])))
    assert names[0] == names[1]


def test_output_is_printed_as_it_is() -> None:
    assert text_of(None) is None
    assert text_of("a\nb\x1b") == "a\nb\x1b"
    assert text_of(Talkative()) == "it is\x1b[31m red"
    assert text_of(Mute()) == MUTE
