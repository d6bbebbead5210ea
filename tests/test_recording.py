"""A recorder has each outcome before anybody hears of it; its failure stops, or is reported."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from anabranch import ConfigurationError, Job, Outcome, open_scheduler
from tests.branches import fails, read, sleep, statuses, submit


class Kept:
    """Keep outcomes, slowly, and fail at the key that it is told."""

    def __init__(self, seconds: float = 0.0, fails_at: str = "") -> None:
        self.kept: list[Outcome] = []
        self.at_once = 0
        self.peak = 0
        self._seconds = seconds
        self._fails_at = fails_at

    async def record(self, outcome: Outcome) -> None:
        self.at_once += 1
        self.peak = max(self.peak, self.at_once)
        try:
            await anyio.sleep(self._seconds)
        finally:
            self.at_once -= 1
        if outcome.key == self._fails_at:
            raise OSError("the disk is full")
        self.kept.append(outcome)


async def test_an_outcome_is_published_only_after_it_was_recorded() -> None:
    recorder, heard = Kept(0.5), []
    async with open_scheduler(2, recorder=recorder, observer=heard.append) as scheduler:
        for name in "abc":
            submit(scheduler, name, sleep, 0.01)
        async for outcome in scheduler.outcomes:
            assert outcome in recorder.kept
    assert sorted(outcome.key for outcome in recorder.kept) == ["a", "b", "c"]


async def test_a_branch_does_not_wait_until_the_one_before_is_recorded() -> None:
    recorder = Kept(1.0)
    began = anyio.current_time()
    async with open_scheduler(1, recorder=recorder) as scheduler:
        for number in range(20):
            submit(scheduler, str(number), sleep, 0.01)
    assert recorder.peak == 19  # the first alone, then all that ended meanwhile
    assert anyio.current_time() - began < 3


async def test_orders_are_those_of_completion_and_each_outcome_comes_once() -> None:
    recorder = Kept(0.05)
    async with open_scheduler(3, recorder=recorder) as scheduler:
        for number in range(30):
            submit(scheduler, str(number), sleep, 0.01 * (number % 4))
        found = await read(scheduler)
    assert sorted(outcome.order for outcome in found.values()) == list(range(30))
    assert {outcome.key: outcome for outcome in recorder.kept} == found


async def test_a_slow_recorder_slows_a_feed_down() -> None:
    recorder, ahead, pulled = Kept(1.0), [], 0

    def jobs() -> Any:
        nonlocal pulled
        for number in range(300):
            pulled += 1
            ahead.append(pulled - len(recorder.kept))
            yield Job(str(number), sleep, (0.001,))

    async with open_scheduler(2, recorder=recorder) as scheduler:
        scheduler.feed(jobs())
    assert len(recorder.kept) == 300
    assert max(ahead) <= 128 + 2 + 1


async def test_a_cancelled_scheduler_records_what_has_ended_and_what_was_cancelled() -> None:
    recorder = Kept(0.2)
    with anyio.move_on_after(1):
        async with open_scheduler(2, recorder=recorder) as scheduler:
            for name, seconds in {"short": 0.9, "long": 9, "queued": 9}.items():
                submit(scheduler, name, sleep, seconds)
    assert {outcome.key: str(outcome.status) for outcome in recorder.kept} == {
        "short": "succeeded",
        "long": "cancelled",
        "queued": "cancelled",
    }


@pytest.mark.parametrize("patience", [1, None])
async def test_a_recorder_that_hangs_cannot_hold_a_cancellation_for_longer_than_its_grace(
    patience: float | None,
) -> None:
    began = anyio.current_time()
    scheduler = open_scheduler(1, recorder=Kept(3600), recorder_failure="report")
    with anyio.move_on_after(1):
        async with scheduler:
            submit(scheduler, "a", sleep, 0.1)
            if patience:
                await anyio.sleep_forever()
    assert anyio.current_time() - began == pytest.approx(6, abs=0.1)
    assert statuses(await read(scheduler)) == {"succeeded": 1}


async def test_a_failure_of_the_recorder_stops_the_run_and_is_raised() -> None:
    recorder = Kept(fails_at="3")
    scheduler = open_scheduler(1, recorder=recorder)
    with pytest.raises(OSError, match="the disk is full"):
        async with scheduler:
            for number in range(9):
                submit(scheduler, str(number), sleep, 0.1)
    found = await read(scheduler)
    assert len(found) == 9
    assert statuses(found) == {"succeeded": 4, "cancelled": 5}
    assert "the recorder raised OSError" in found["8"].reason


async def test_a_failure_that_is_to_be_reported_is_logged_once_and_the_run_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Kept(fails_at="3")
    with caplog.at_level(logging.ERROR, "anabranch"):
        async with open_scheduler(2, recorder=recorder, recorder_failure="report") as scheduler:
            for number in range(9):
                submit(scheduler, str(number), sleep, 0.1)
            found = await read(scheduler)
    assert statuses(found) == {"succeeded": 9}
    assert len(recorder.kept) == 8
    assert "the disk is full" in caplog.text
    assert "1 outcome was not recorded" in caplog.text


async def test_an_error_of_the_block_and_of_a_branch_are_what_they_were() -> None:
    recorder = Kept(0.1)
    with pytest.raises(ZeroDivisionError):
        async with open_scheduler(2, recorder=recorder) as scheduler:
            submit(scheduler, "bad", fails, ValueError("bad"))
            await anyio.sleep(0.5)
            raise ZeroDivisionError
    assert [str(outcome.status) for outcome in recorder.kept] == ["failed"]


class Grouped(Kept):
    """Keep several at once, and say how many."""

    def __init__(self, seconds: float, fails_at: str = "") -> None:
        super().__init__(seconds, fails_at)
        self.groups: list[int] = []

    async def record_all(self, outcomes: Any) -> None:
        self.groups.append(len(outcomes))
        await anyio.sleep(0.1)
        if any(outcome.key == self._fails_at for outcome in outcomes):
            raise OSError("the disk is full")
        self.kept += outcomes


async def test_a_recorder_that_can_gets_all_that_ended_meanwhile_in_one_go() -> None:
    recorder = Grouped(0.1)
    async with open_scheduler(1, recorder=recorder) as scheduler:
        for number in range(20):
            submit(scheduler, str(number), sleep, 0.01)
    assert len(recorder.kept) == 20
    assert sum(recorder.groups) == 19
    assert len(recorder.groups) <= 3


async def test_a_group_that_fails_stops_the_run() -> None:
    recorder = Grouped(0.1, fails_at="5")
    with pytest.raises(OSError, match="the disk is full"):
        async with open_scheduler(1, recorder=recorder) as scheduler:
            for number in range(50):
                submit(scheduler, str(number), sleep, 0.01)
    assert [outcome.key for outcome in recorder.kept] == ["0"]


async def test_threads_are_recorded_too() -> None:
    recorder = Kept(0.1)
    async with open_scheduler(2, recorder=recorder) as scheduler:
        for number in range(5):
            submit(scheduler, str(number), int, number)
    assert sorted(outcome.value for outcome in recorder.kept) == list(range(5))


@pytest.mark.parametrize("recorder", [1, print, Kept])
def test_what_cannot_record_is_refused(recorder: Any) -> None:
    with pytest.raises(ConfigurationError, match="async method record"):
        open_scheduler(2, recorder=recorder if recorder is not Kept else object())


def test_an_unknown_wish_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="neither 'stop' nor 'report'"):
        open_scheduler(2, recorder=Kept(), recorder_failure="go on")  # type: ignore[arg-type]  # that is the test
