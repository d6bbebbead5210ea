"""Classes of errors: how grave, of what kind, what may help; and the user's own."""

import asyncio
import errno

import pytest

from anabranch import (
    CircuitOpenError,
    Classifier,
    ConfigurationError,
    ErrorClass,
    Job,
    Retry,
    UsageLimitExceededError,
    classify,
    open_scheduler,
)
from tests.branches import read


class PDFParseError(ValueError):
    """A user's own."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError(), "low network retry"),
        (TimeoutError(), "low timeout retry"),
        (FileNotFoundError(), "medium io skip"),
        (PermissionError(), "medium permission abort"),
        (OSError(errno.EMFILE, "too many"), "high resource wait"),
        (OSError(errno.EHOSTUNREACH, "no route"), "low network retry"),
        (OSError("odd"), "medium io fallback"),
        (MemoryError(), "critical resource wait"),
        (ValueError(), "medium data skip"),
        (PDFParseError(), "medium data skip"),
        (KeyError(), "medium data skip"),
        (TypeError(), "medium program abort"),
        (RuntimeError(), "medium unknown fallback"),
        (CircuitOpenError("open", 3), "high overload wait"),
        (ConfigurationError(), "medium configuration abort"),
        (UsageLimitExceededError("spent"), "high resource abort"),
        (KeyboardInterrupt(), "critical cancelled abort"),
        (asyncio.CancelledError(), "low cancelled skip"),
        (ExceptionGroup("two", [ConnectionError(), MemoryError()]), "critical resource wait"),
    ],
    ids=repr,
)
def test_errors_have_a_class(error, words):
    found = classify(error)
    assert f"{found.severity} {found.category} {found.recovery}" == words


def test_users_add_rules_and_the_most_special_counts():
    mine = classify.with_rule(PDFParseError, ErrorClass("high", "data", "abort"))
    assert mine(PDFParseError()).recovery == "abort"
    assert mine(ValueError()).recovery == "skip"
    assert classify(PDFParseError()).recovery == "skip"


def test_a_rule_may_look_at_the_error_and_leave_it_to_the_next():
    def answer(error):
        return ErrorClass("low", "network", "retry") if "again" in str(error) else None

    mine = Classifier().with_rule(ValueError, answer)
    assert mine(ValueError("again")).category == "network"
    assert mine(ValueError("no")).category == "unknown"


async def test_a_retry_follows_the_classes():
    calls = []

    async def fails(error):
        calls.append(error)
        raise error

    retry = Retry(attempts=3, wait=0.01, jitter=0, on=classify.retries)
    async with open_scheduler(2) as scheduler:
        for key, error in {"net": ConnectionError(), "data": ValueError()}.items():
            scheduler.submit(Job(key, fails, (error,), retry=retry))
        found = await read(scheduler)
    assert {key: outcome.attempts for key, outcome in found.items()} == {"net": 3, "data": 1}
    assert classify.retries(CircuitOpenError("open", 7.5)) == 7.5


@pytest.mark.parametrize(
    "bad",
    [
        lambda: classify("ValueError"),
        lambda: classify.with_rule("ValueError", ErrorClass("low", "io", "skip")),
        lambda: classify.with_rule(ValueError, "skip"),
        lambda: classify.with_rule(ValueError, lambda error: "skip")(ValueError()),
        lambda: ErrorClass("lowest", "io", "skip"),
    ],
    ids=["no error", "no type", "no class", "no answer", "no word"],
)
def test_what_cannot_be_meant_is_refused(bad):
    with pytest.raises(ConfigurationError):
        bad()
