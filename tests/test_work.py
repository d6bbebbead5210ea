"""Jobs: refused where they cannot be meant, with what was seen."""

import functools
import math

import attrs
import pytest

from anabranch._work import Job, Outcome, Status, is_async, makes_generator, name_of
from anabranch.errors import ConfigurationError


async def coroutine():
    pass


def plain():
    pass


def generator():
    yield


async def async_generator():
    yield


class Call:
    def __call__(self):
        pass


class AsyncCall:
    async def __call__(self):
        pass


class GeneratorCall:
    def __call__(self):
        yield


@pytest.mark.parametrize("key", ["", None, 3, b"k", ("a",)])
def test_a_key_is_a_string_that_is_not_empty(key):
    with pytest.raises(ConfigurationError, match="key="):
        Job(key, plain)


@pytest.mark.parametrize("fn", [None, 3, "plain", [plain]])
def test_what_cannot_be_called_is_no_branch(fn):
    with pytest.raises(ConfigurationError, match=r"Job 'k': .* is not callable"):
        Job("k", fn)


@pytest.mark.parametrize(
    "fn",
    [
        generator,
        async_generator,
        functools.partial(generator),
        functools.partial(functools.partial(async_generator)),
        GeneratorCall(),
    ],
)
def test_a_generator_function_is_no_branch(fn):
    with pytest.raises(ConfigurationError, match="generator function"):
        Job("k", fn)
    assert makes_generator(fn)


@pytest.mark.parametrize(
    "fn",
    [coroutine, plain, Call(), AsyncCall(), Call, print, len, "".join, functools.partial(plain)],
)
def test_whatever_else_can_be_called_is_a_branch(fn):
    assert Job("k", fn).fn is fn


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (coroutine, True),
        (plain, False),
        (functools.partial(functools.partial(coroutine)), True),
        (AsyncCall(), True),
        (Call(), False),
        (AsyncCall, False),
        (functools.partial(AsyncCall()), True),
        (print, False),
        (lambda: coroutine(), False),  # noqa: PLW0108  # a plain function
    ],
)
def test_async_functions_are_known_before_the_call(fn, expected):
    assert is_async(fn) is expected


@pytest.mark.parametrize("timeout", [0, -1, math.nan, "3", True, [1], -math.inf])
def test_a_timeout_is_a_positive_number(timeout):
    with pytest.raises(ConfigurationError, match="Job 'k': timeout="):
        Job("k", plain, timeout=timeout)


@pytest.mark.parametrize("timeout", [None, 1, 0.001, math.inf])
def test_a_timeout_may_be_none(timeout):
    assert Job("k", plain, timeout=timeout).timeout == timeout


@pytest.mark.parametrize("priority", [1.5, "1", None, True, math.nan])
def test_a_priority_is_an_integer(priority):
    with pytest.raises(ConfigurationError, match="Job 'k': priority="):
        Job("k", plain, priority=priority)


@pytest.mark.parametrize("lane", ["gpu", "", None, 3, object(), "IO"])
def test_a_lane_is_named_or_has_an_async_run(lane):
    with pytest.raises(ConfigurationError, match="Job 'k': lane="):
        Job("k", plain, lane=lane)


@pytest.mark.parametrize("on_cancel", ["", None, "kill", True])
def test_on_cancel_is_one_of_two_words(on_cancel):
    with pytest.raises(ConfigurationError, match="Job 'k': on_cancel="):
        Job("k", plain, on_cancel=on_cancel)


@pytest.mark.parametrize("args", ["abc", 3, None, b"x"])
def test_args_are_a_sequence_and_no_string(args):
    with pytest.raises(ConfigurationError, match="Job 'k': args="):
        Job("k", plain, args)


@pytest.mark.parametrize("kwargs", ["abc", 3, None, [("a", 1)], {3: 1}])
def test_kwargs_are_a_mapping_of_names(kwargs):
    with pytest.raises(ConfigurationError, match="Job 'k': kwargs="):
        Job("k", plain, (), kwargs)


def test_args_are_kept_as_a_tuple():
    assert Job("k", plain, [1, 2]).args == (1, 2)


def test_a_job_cannot_be_changed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Job("k", plain).key = "other"


def test_a_status_is_a_string():
    assert Status.SUCCEEDED == "succeeded"
    assert f"{Status.ABANDONED}" == "abandoned"


def test_outcomes_compare_by_what_they_say():
    assert Outcome("k", Status.SUCCEEDED, 1) == Outcome("k", Status.SUCCEEDED, 1)
    assert Outcome("k", Status.SUCCEEDED, 1) != Outcome("k", Status.SUCCEEDED, 2)


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain, "plain"),
        (functools.partial(plain, 1), "plain"),
        (Call.__call__, "Call.__call__"),
        (print, "print"),
    ],
)
def test_a_function_is_called_by_its_name(fn, name):
    assert name_of(fn) == name
