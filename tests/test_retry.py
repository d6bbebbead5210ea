"""Retries in the scheduler: when, how often, without a token, never past what ends a branch."""

from __future__ import annotations

import asyncio
import math
import threading
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from anabranch import AttemptFailed, BranchStarted, ConfigurationError, Job, Retry, Status
from anabranch._host import current_host
from anabranch._open import open_scheduler
from anabranch._retry import ALWAYS, allowance, asked, draw, wait_after
from anabranch._work import Outcome
from anabranch.lanes._thread import io_lane
from tests.branches import Watch, read, statuses, submit, with_begun

SURE = Retry(wait=10, wait_max=10, jitter=0)  # ten seconds between two attempts


class Flaky:
    """Fail ``times`` times, then succeed; remember when it was called."""

    def __init__(self, times: float = math.inf, error: type[Exception] = ValueError) -> None:
        self.times = times
        self.error = error
        self.calls = 0
        self.at: list[float] = []

    async def __call__(self, seconds: float = 0.0) -> int:
        self.at.append(anyio.current_time())
        if seconds:
            await anyio.sleep(seconds)
        return self.plain()

    def plain(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error(f"call {self.calls}")
        return self.calls


async def raises(error: BaseException) -> None:
    raise error


def fails_until(path: str, times: int) -> int:
    """Fail as often as that, in whichever process; the file has a byte for each call."""
    with Path(path).open("ab") as file:
        file.write(b".")
    calls = Path(path).stat().st_size
    if calls <= times:
        raise ValueError(calls)
    return calls


def words(outcome: Any) -> list[str]:
    return [str(error) for error in outcome.attempt_errors]


# The law -------------------------------------------------------------------------------------


def test_waits_double_up_to_the_longest_and_keep_their_jitter_there() -> None:
    retry = Retry(attempts=99, wait=0.5, wait_max=6.0, jitter=1.0)
    assert [wait_after(retry, n, 0.0) for n in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert [wait_after(retry, n, 1.0) for n in range(1, 7)] == [1.5, 2.0, 3.0, 5.0, 6.0, 6.0]
    assert wait_after(retry, 10**6, 0.5) == 5.5


def test_a_wait_is_never_shorter_than_the_first_nor_longer_than_the_longest() -> None:
    assert wait_after(Retry(wait=1, wait_max=1, jitter=5), 1, 0.7) == 1
    assert wait_after(Retry(wait=0, wait_max=2, jitter=5), 3, 0.5) == 1
    assert wait_after(Retry(wait=0, jitter=0), 3, 0.9) == 0


def test_a_seed_makes_the_jitter_depend_on_branch_and_attempt_only() -> None:
    retry = Retry(seed=7)
    drawn = [draw(retry, key, n) for key in "ab" for n in (1, 2)]
    assert drawn == [draw(Retry(seed=7), key, n) for key in "ab" for n in (1, 2)]
    assert len(set(drawn)) == 4
    assert drawn != [draw(Retry(seed=8), key, n) for key in "ab" for n in (1, 2)]
    assert all(0 <= draw(Retry(), "a", 1) < 1 for _ in range(100))


def test_on_names_types_or_answers() -> None:
    retry = Retry(on=(ConnectionError, TimeoutError))
    assert asked(retry, ConnectionResetError())
    assert not asked(retry, ValueError())
    assert asked(Retry(on=OSError), OSError())
    group = ExceptionGroup("", [ConnectionError(), ExceptionGroup("", [TimeoutError()])])
    assert asked(retry, group)
    assert not asked(retry, ExceptionGroup("", [ConnectionError(), ValueError()]))
    assert asked(Retry(on=lambda error: "slow" in str(error)), ValueError("slow down")) is True
    assert asked(Retry(on=lambda _: None), ValueError()) is False
    assert asked(Retry(on=lambda _: 2.5), ValueError()) == 2.5
    assert asked(Retry(on=lambda _: timedelta(seconds=3)), ValueError()) == 3
    with pytest.raises(ConfigurationError, match="on= answered -1"):
        asked(Retry(on=lambda _: -1), ValueError())


def test_the_allowance_is_a_share_of_what_has_begun_and_never_small() -> None:
    assert allowance(Retry(), 10) == ALWAYS
    assert allowance(Retry(), 10_000) == 2000
    assert allowance(Retry(attempts=1000), 1) == 999


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attempts": 0}, "attempts=0 calls nothing; give at least 1"),
        ({"attempts": -1}, "attempts=-1 calls nothing"),
        ({"attempts": True}, r"attempts=True \(bool\) is no number of attempts"),
        ({"attempts": 1.5}, r"attempts=1.5 \(float\) is no number of attempts"),
        ({"attempts": "3"}, r"attempts='3' \(str\) is no number of attempts"),
        ({"wait": -1}, "wait=-1 is no time to wait; give a finite number"),
        ({"wait": math.nan}, "wait=nan is no time to wait"),
        ({"wait": math.inf}, "wait=inf is no time to wait"),
        ({"wait": True}, r"wait=True \(bool\) is no number of seconds"),
        ({"wait": "1s"}, r"wait='1s' \(str\) is no number of seconds"),
        ({"wait": None}, r"wait=None \(NoneType\) is no number of seconds"),
        ({"wait_max": math.nan}, "wait_max=nan is no time to wait"),
        ({"wait_max": -0.1}, "wait_max=-0.1 is no time to wait"),
        ({"jitter": -1}, "jitter=-1 is no time to wait"),
        ({"jitter": math.nan}, "jitter=nan is no time to wait"),
        ({"wait": 10}, r"wait=10 is longer than wait_max=5.0; raise wait_max, or wait less"),
        ({"on": ()}, r"on=\(\) never tries again"),
        ({"on": 3}, r"on=3 \(int\) is neither exception types nor callable"),
        ({"on": None}, r"on=None \(NoneType\) is neither"),
        ({"on": int}, r"on= holds <class 'int'> \(type\), which is no exception type"),
        ({"on": ("a",)}, r"on= holds 'a' \(str\), which is no exception type"),
        ({"on": BaseException}, "holds BaseException, which is no Exception: a cancellation"),
        ({"on": (ValueError, KeyboardInterrupt)}, "holds KeyboardInterrupt, which is no Exc"),
        ({"on": lambda: True}, "cannot be called with the error alone"),
        ({"on": raises}, "is an async function; give a plain one"),
        ({"budget": -1}, "budget=-1 is no share of the branches"),
        ({"budget": math.nan}, "budget=nan is no share"),
        ({"budget": "20%"}, r"budget='20%' \(str\) is no share"),
        ({"budget": True}, r"budget=True \(bool\) is no share"),
        ({"budget": 20}, "budget=20 is more retries for each branch .* it is a fraction: 0.2 for"),
        ({"seed": 1.5}, r"seed=1.5 \(float\) is no seed"),
        ({"atempts": 3}, "takes no option 'atempts': did you mean 'attempts'"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Retry(**options)


@pytest.mark.parametrize(("given", "hint"), [(5, "attempts=5"), (True, "attempts=3"), ("x", "")])
def test_a_job_takes_a_retry_and_nothing_else(given: Any, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Job 'a': retry=.* is no Retry; .*{hint}"):
        Job("a", raises, retry=given)


# Attempts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane", ["auto", "inline"])
async def test_a_branch_is_tried_again_until_it_succeeds(lane: str) -> None:
    flaky = Flaky(2)
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky if lane == "auto" else flaky.plain, retry=SURE, lane=lane)
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.value, outcome.attempts) == (Status.SUCCEEDED, 3, 3)
    assert words(outcome) == ["call 1", "call 2"]
    assert outcome.error is None
    assert outcome.ran_s == pytest.approx(20)
    assert outcome.queued_s == 0


async def test_the_last_error_is_the_branches_and_notes_tell_those_before() -> None:
    flaky = Flaky()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=Retry(attempts=12, jitter=0))
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts, flaky.calls) == (Status.FAILED, 12, 12)
    assert str(outcome.error) == "call 12"
    assert words(outcome) == [f"call {n}" for n in range(1, 12)]
    notes = outcome.error.__notes__
    assert notes[0] == "attempt 1 raised ValueError: call 1"
    assert notes[-1] == "... and 1 attempts more"


async def test_waits_are_as_long_as_they_are_said_to_be() -> None:
    flaky = Flaky()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=Retry(attempts=5, wait=1, wait_max=3, jitter=0))
    assert [late - soon for soon, late in zip(flaky.at, flaky.at[1:], strict=False)] == (
        pytest.approx([1, 2, 3, 3])
    )


async def test_a_seed_makes_the_waits_the_same_in_every_run() -> None:
    runs = []
    for _ in range(2):
        flaky = [Flaky(), Flaky()]
        begun = anyio.current_time()
        async with open_scheduler(2) as scheduler:
            for number, fn in enumerate(flaky):
                submit(scheduler, str(number), fn, retry=Retry(attempts=4, seed="s"))
        runs.append([at - begun for fn in flaky for at in fn.at])
    assert runs[0] == pytest.approx(runs[1])


async def test_what_on_does_not_name_is_final() -> None:
    flaky = Flaky(error=KeyError)
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=Retry(on=(ValueError, OSError)))
        outcome = (await read(scheduler))["a"]
    assert (outcome.attempts, outcome.attempt_errors) == (1, ())
    assert isinstance(outcome.error, KeyError)
    assert not hasattr(outcome.error, "__notes__")


async def test_on_may_say_how_long_to_wait() -> None:
    flaky = Flaky(1)
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=Retry(on=lambda _: 42.0))
        assert (await read(scheduler))["a"].ran_s == pytest.approx(42)


async def test_an_on_that_raises_ends_the_branch_with_both_errors() -> None:
    def on(error: Exception) -> bool:
        raise RuntimeError("on itself")

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(), retry=Retry(on=on))
        outcome = (await read(scheduler))["a"]
    assert outcome.status is Status.FAILED
    assert str(outcome.error) == "on itself"
    assert words(outcome) == ["call 1"]
    assert outcome.error.__cause__ is outcome.attempt_errors[0]


async def test_one_error_object_raised_each_time_is_told_once() -> None:
    error = ValueError("the same")
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", raises, error, retry=Retry(attempts=4, jitter=0))
        outcome = (await read(scheduler))["a"]
    assert (outcome.error, outcome.attempt_errors, outcome.attempts) == (error, (), 4)
    assert not hasattr(error, "__notes__")


class FrozenError(Exception):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no words")

    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")


async def test_an_error_that_can_be_neither_written_nor_noted_costs_nothing() -> None:
    async def fails() -> None:
        raise FrozenError

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", fails, retry=Retry(jitter=0))
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts) == (Status.FAILED, 3)
    assert [type(error) for error in (*outcome.attempt_errors, outcome.error)] == [FrozenError] * 3


async def test_each_attempt_has_the_contextvars_of_the_job_and_not_of_the_last_one() -> None:
    var: ContextVar[int] = ContextVar("var", default=0)
    seen: list[int] = []

    async def fails() -> None:
        seen.append(var.get())
        var.set(1)
        raise ValueError

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", fails, retry=Retry(jitter=0))
    assert seen == [0, 0, 0]


async def test_the_observer_hears_of_one_start_and_of_each_attempt_that_is_followed() -> None:
    events: list[Any] = []
    async with open_scheduler(1, observer=events.append) as scheduler:
        submit(scheduler, "a", Flaky(2), retry=SURE)
    started = [event for event in events if isinstance(event, BranchStarted)]
    failed = [event for event in events if isinstance(event, AttemptFailed)]
    assert len(started) == 1
    assert [(event.key, event.attempt, event.wait) for event in failed] == [
        ("a", 1, 10),
        ("a", 2, 10),
    ]
    assert events[-1].outcome.attempts == 3


# No token is held while a branch waits -------------------------------------------------------


async def test_another_branch_runs_while_one_waits_for_its_next_attempt() -> None:
    watch, order = Watch(), []

    async def flaky() -> None:
        order.append(("a", anyio.current_time() - begun))
        await watch.sleeps("a", 1)
        raise ValueError

    async def other() -> None:
        order.append(("b", anyio.current_time() - begun))
        await watch.sleeps("b", 3)

    begun = anyio.current_time()
    limiter = anyio.CapacityLimiter(1)
    async with open_scheduler(limiter) as scheduler:
        submit(scheduler, "a", flaky, retry=Retry(attempts=2, wait=10, wait_max=10, jitter=0))
        submit(scheduler, "b", other)
        await anyio.sleep(5)
        assert limiter.borrowed_tokens == 0
        found = await read(scheduler)
    assert watch.peak == 1
    assert order == [("a", 0), ("b", pytest.approx(1)), ("a", pytest.approx(11))]
    assert (found["a"].order, found["b"].order) == (1, 0)


async def test_a_branch_goes_ahead_of_those_that_came_later_and_behind_more_urgent_ones() -> None:
    order: list[str] = []

    async def notes(key: str) -> None:
        order.append(key)
        await anyio.sleep(1)
        if key == "a" and order.count("a") == 1:
            raise ValueError

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", notes, "a", retry=Retry(wait=0.5, jitter=0))
        for key in ("b", "c", "d"):
            submit(scheduler, key, notes, key)
        await anyio.sleep(1.1)
        submit(scheduler, "urgent", notes, "urgent", priority=1)
    assert order == ["a", "b", "urgent", "a", "c", "d"]


async def test_without_a_wait_it_is_tried_again_at_once() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(4), retry=Retry(attempts=5, wait=0, jitter=0))
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts, outcome.ran_s) == (Status.SUCCEEDED, 5, 0)


async def test_a_fed_branch_is_tried_again_with_its_priority_kept() -> None:
    flaky = {key: Flaky(1) for key in "abc"}
    jobs = [Job(key, fn, priority=n, retry=SURE) for n, (key, fn) in enumerate(flaky.items())]
    async with open_scheduler(2) as scheduler:
        scheduler.feed(jobs)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 3}
    assert {outcome.attempts for outcome in found.values()} == {2}


async def test_hands_that_wait_for_the_reader_take_up_a_branch_whose_wait_is_over() -> None:
    flaky = Flaky(1)
    fillers = (Job(str(n), anyio.sleep, (0,)) for n in range(100))
    async with open_scheduler(1) as scheduler:
        scheduler.feed([Job("a", flaky, retry=SURE)])
        scheduler.feed(fillers)
        await anyio.sleep(20)
        assert flaky.calls == 2
        found = await read(scheduler)
    assert len(found) == 101


@pytest.mark.slow
async def test_a_thousand_that_wait_are_all_called_again_and_never_too_many_at_once() -> None:
    watch = Watch()
    calls: dict[int, int] = {}

    async def flaky(number: int) -> None:
        await watch.sleeps(number, 0.1)
        calls[number] = calls.get(number, 0) + 1
        if calls[number] == 1:
            raise ValueError

    async with open_scheduler(50) as scheduler:
        for number in range(1000):
            submit(scheduler, str(number), flaky, number, retry=Retry(budget=None, seed=1))
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 1000}
    assert set(calls.values()) == {2}
    assert watch.peak == 50


# What ends a branch that waits ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "predicate"])
async def test_a_branch_that_waits_is_cancelled_at_once(how: str) -> None:
    which: Any = "a*" if how == "cancel" else (lambda key: key == "ab")
    flaky = Flaky()
    async with open_scheduler(1) as scheduler:
        begun = anyio.current_time()
        submit(scheduler, "ab", flaky, retry=SURE)
        await anyio.sleep(1)
        assert scheduler.cancel(which, reason="no longer wanted") == 1
        assert scheduler.cancel(which) == 0
        outcome = (await read(scheduler))["ab"]
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "no longer wanted")
    assert (outcome.attempts, str(outcome.error)) == (1, "call 1")
    assert anyio.current_time() - begun == pytest.approx(1)
    assert flaky.calls == 1


async def test_a_branch_that_is_queued_for_its_next_attempt_is_cancelled_at_once() -> None:
    flaky = Flaky()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=SURE)
        await anyio.sleep(5)
        submit(scheduler, "b", anyio.sleep, 100)
        await anyio.sleep(10)
        assert scheduler.cancel("a") == 1
        found = await read(scheduler)
    assert (found["a"].status, found["a"].attempts) == (Status.CANCELLED, 1)
    assert found["a"].order == 0


async def test_a_cancelled_attempt_is_not_tried_again_whatever_it_raises() -> None:
    calls = []

    async def stubborn() -> None:
        calls.append(1)
        try:
            await anyio.sleep(100)
        finally:
            raise ValueError("while cancelled")

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", stubborn, retry=SURE)
        await anyio.sleep(1)
        scheduler.cancel("a", reason="enough")
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.reason, len(calls)) == (Status.CANCELLED, "enough", 1)
    assert str(outcome.error) == "while cancelled"


@pytest.mark.asyncio_only
async def test_a_cancelled_error_of_asyncio_is_not_tried_again() -> None:
    calls = []

    async def cancels() -> None:
        calls.append(1)
        raise asyncio.CancelledError

    async def mixes() -> None:
        calls.append(2)
        raise BaseExceptionGroup("", [asyncio.CancelledError(), ValueError("mixed")])

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", cancels, retry=SURE)
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, calls) == (Status.CANCELLED, [1])
    with pytest.raises(BaseExceptionGroup):  # the cancellation goes on
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "b", mixes, retry=SURE)
    assert calls == [1, 2]


async def test_leaving_the_block_waits_for_the_last_attempt() -> None:
    flaky = Flaky(2)
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=SURE)
    assert flaky.calls == 3


async def test_an_exception_in_the_block_ends_waits() -> None:
    flaky = Flaky()
    begun = anyio.current_time()
    with pytest.raises(KeyError):
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "a", flaky, retry=SURE)
            await anyio.sleep(1)
            raise KeyError("block")
    outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts) == (Status.CANCELLED, 1)
    assert outcome.reason.startswith("the block raised KeyError")
    assert anyio.current_time() - begun == pytest.approx(1)


async def test_stop_ends_waits_at_once() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(), retry=SURE)
        await anyio.sleep(1)
        scheduler.stop("stopped by hand")
    outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.reason) == (Status.CANCELLED, "stopped by hand")
    assert (outcome.attempts, str(outcome.error)) == (1, "call 1")


async def test_there_is_no_wait_that_would_outlast_a_deadline_outside() -> None:
    with anyio.move_on_after(1):
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "a", Flaky(), retry=Retry(wait=0.4, jitter=0, attempts=9))
            outcome = (await read(scheduler))["a"]
    # Attempts at 0 and 0.4; the third would begin at 1.2.
    assert (outcome.status, outcome.attempts) == (Status.FAILED, 2)
    assert outcome.ran_s == pytest.approx(0.4)
    assert outcome.error.__notes__[-1] == (
        "no further attempt: it would begin 0.8 s later, past the deadline of a scope outside"
    )


async def test_a_cancellation_from_outside_that_nobody_could_foresee_ends_the_wait() -> None:
    with anyio.CancelScope() as scope:
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "a", Flaky(), retry=SURE)
            await anyio.sleep(1)
            scope.cancel()
    outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.reason, outcome.attempts) == (Status.CANCELLED, "outer", 1)


async def test_a_limit_of_0_meanwhile_holds_the_next_attempt_back() -> None:
    flaky = Flaky(1)
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=SURE)
        await anyio.sleep(1)
        scheduler.limiter.total_tokens = 0
        await anyio.sleep(100)
        assert flaky.calls == 1
        scheduler.limiter.total_tokens = 1
        assert (await read(scheduler))["a"].status is Status.SUCCEEDED
    assert flaky.at[1] - flaky.at[0] == pytest.approx(101)


async def test_a_branch_that_waits_under_a_limit_of_0_is_cancelled_and_the_block_is_left() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(), retry=SURE)
        await anyio.sleep(1)
        scheduler.limiter.total_tokens = 0
        await anyio.sleep(20)
        assert scheduler.cancel("a") == 1
    assert (await read(scheduler))["a"].status is Status.CANCELLED


# A branch's own timeout ----------------------------------------------------------------------


async def test_a_timeout_counts_attempts_and_waits_together() -> None:
    flaky = Flaky()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, 4, retry=SURE, timeout=16)
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts) == (Status.TIMED_OUT, 2)
    assert outcome.reason == "deadline: 16 s (timeout= of the branch)"
    assert outcome.ran_s == pytest.approx(16)
    assert words(outcome) == ["call 1"]
    assert isinstance(outcome.error, TimeoutError)


async def test_there_is_no_wait_that_would_outlast_the_timeout() -> None:
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(), 4, retry=SURE, timeout=14)
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.attempts) == (Status.FAILED, 1)
    assert outcome.ran_s == pytest.approx(4)
    (note,) = outcome.error.__notes__
    assert note == (
        "no further attempt: it would begin 10 s later, "
        "past the deadline: 14 s (timeout= of the branch)"
    )


async def test_a_timeout_strikes_a_branch_that_is_queued_for_its_next_attempt() -> None:
    begun = anyio.current_time()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(), retry=SURE, timeout=15)
        await anyio.sleep(1)
        submit(scheduler, "b", anyio.sleep, 100)
        async for outcome in scheduler.outcomes:
            assert outcome.key == "a"
            break
        assert anyio.current_time() - begun == pytest.approx(15)
    assert (outcome.status, outcome.attempts) == (Status.TIMED_OUT, 1)
    assert outcome.reason == "deadline: 15 s (timeout= of the branch)"
    assert str(outcome.error) == "call 1"


async def test_a_timeout_is_over_when_the_branch_has_ended() -> None:
    begun = anyio.current_time()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", Flaky(1), retry=SURE, timeout=1000)
    assert anyio.current_time() - begun == pytest.approx(10)


# The budget ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_storm_makes_no_more_retries_than_the_budget_allows() -> None:
    flaky = Flaky()
    async with open_scheduler(100) as scheduler:
        for number in range(1000):
            submit(scheduler, str(number), flaky, 1, retry=Retry(attempts=5))
        found = await read(scheduler)
    assert statuses(found) == {"failed": 1000}
    assert flaky.calls == 1200
    assert sum(outcome.attempts for outcome in found.values()) == 1200
    refused = [note for each in found.values() for note in getattr(each.error, "__notes__", ())]
    assert any("the retry budget is spent" in note for note in refused)


async def test_a_branch_alone_has_all_its_attempts() -> None:
    flaky = Flaky()
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", flaky, retry=Retry(attempts=300, wait=0, jitter=0))
    assert flaky.calls == 300


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "calls"), [(None, 3000), (0.5, 1500), (0, 1100), (2, 3000)])
async def test_the_budget_is_the_users_to_set(budget: float | None, calls: int) -> None:
    flaky = Flaky()
    async with open_scheduler(math.inf) as scheduler:
        for number in range(1000):
            submit(scheduler, str(number), flaky, retry=Retry(budget=budget))
    assert flaky.calls == calls


# Threads and processes -----------------------------------------------------------------------


@pytest.mark.real_clock
@pytest.mark.parametrize("limit", [1, 3])
async def test_plain_functions_in_threads_are_tried_again(limit: int) -> None:
    flaky = {str(number): Flaky(number % 3) for number in range(30)}
    begun = io_lane(current_host()).limiter.borrowed_tokens
    async with open_scheduler(limit) as scheduler:
        for key, fn in flaky.items():
            submit(scheduler, key, fn.plain, retry=Retry(wait=0.001, jitter=0.001))
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 30}
    for key, fn in flaky.items():
        assert found[key].attempts == fn.calls == fn.times + 1
        assert len(found[key].attempt_errors) == fn.times
    assert io_lane(current_host()).limiter.borrowed_tokens == begun


@pytest.mark.real_clock
async def test_a_coroutine_that_a_plain_function_returns_is_tried_again() -> None:
    flaky = Flaky(1)

    def plain() -> Any:
        return flaky()

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", plain, retry=Retry(wait=0.001, jitter=0))
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.value, outcome.attempts) == (Status.SUCCEEDED, 2, 2)


@pytest.mark.real_clock
async def test_a_thread_that_was_cancelled_and_then_raises_is_not_tried_again() -> None:
    begun, go = threading.Event(), threading.Event()
    calls = []

    def stuck() -> None:
        calls.append(1)
        begun.set()
        go.wait(5)
        raise ValueError("late")

    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", stuck, retry=SURE, on_cancel="wait")
        while not begun.is_set():
            await anyio.sleep(0.001)
        scheduler.cancel("a", reason="enough")
        go.set()
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.reason, calls) == (Status.CANCELLED, "enough", [1])
    assert str(outcome.error) == "late"


@pytest.mark.real_clock
async def test_a_thread_that_is_abandoned_is_not_tried_again() -> None:
    go = threading.Event()
    calls: list[int] = []

    async def attempt(seconds: float, begun: threading.Event) -> Outcome:
        def stuck() -> None:
            calls.append(1)
            begun.set()
            go.wait(60)

        async with open_scheduler(2) as scheduler:
            submit(scheduler, "a", stuck, retry=SURE, timeout=seconds)
            return (await read(scheduler))["a"]

    try:
        outcome = await with_begun(attempt)
    finally:
        go.set()
    assert (outcome.status, outcome.attempts, calls) == (Status.ABANDONED, 1, [1])
    while io_lane(current_host()).limiter.borrowed_tokens:
        await anyio.sleep(0.001)


@pytest.mark.real_clock
@pytest.mark.slow
async def test_the_cpu_lane_is_tried_again(tmp_path: Any) -> None:
    async with open_scheduler(1) as scheduler:
        retry = Retry(wait=0.001, jitter=0)
        submit(scheduler, "a", fails_until, str(tmp_path / "n"), 2, lane="cpu", retry=retry)
        outcome = (await read(scheduler))["a"]
    assert (outcome.status, outcome.value, outcome.attempts) == (Status.SUCCEEDED, 3, 3)
    assert [type(error) for error in outcome.attempt_errors] == [ValueError, ValueError]


async def test_what_comes_out_the_same_each_time_is_not_tried_again_unless_it_is_named() -> None:
    calls: list[int] = []

    async def wrong() -> None:
        calls.append(1)
        raise ConfigurationError("it stays wrong")

    for on, count in (((Exception,), 1), ((ConfigurationError,), 3)):
        calls.clear()
        async with open_scheduler(1) as scheduler:
            scheduler.submit(Job("a", wrong, retry=Retry(3, wait=0, jitter=0, on=on)))
        assert len(calls) == count
