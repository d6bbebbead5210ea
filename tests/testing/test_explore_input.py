"""What explore refuses: tests that are not deterministic, lines of other versions, bad options."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from anabranch import ConfigurationError, HostLoopError, UnknownOptionError
from anabranch.testing import (
    NotDeterministicError,
    ScheduleFailedError,
    explore,
    run_virtual,
)
from anabranch.testing._schedule import VERSION, Schedule, parse
from tests.testing import faulty


@pytest.mark.parametrize("dice", [random.random, time.perf_counter])
def test_a_test_that_is_not_deterministic_is_told_so(dice: Callable[[], float]) -> None:
    async def program() -> None:
        for _ in range(round(dice() * 1e9) % 1000):
            await checkpoint()

    with pytest.raises(NotDeterministicError, match="go two ways") as caught:
        explore(program, seeds=200)
    assert "program" in str(caught.value)


def test_a_fault_that_comes_once_is_not_taken_for_one_of_the_schedule() -> None:
    runs = 0

    async def program() -> None:
        nonlocal runs
        runs += 1
        await checkpoint()
        assert runs != 9

    with pytest.raises(NotDeterministicError):
        explore(program, seeds=50)


def test_a_fault_of_what_earlier_runs_have_left_is_not_taken_for_one_of_the_schedule() -> None:
    left: list[int] = []

    async def program() -> None:
        left.append(1)
        await checkpoint()
        assert len(left) < 9

    with pytest.raises(NotDeterministicError, match="what an earlier run has left"):
        explore(program, seeds=50)


def test_a_line_of_another_version_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="written by version 7 of schedules"):
        explore(faulty.sound, replay="7:trio:cancel=3")
    with pytest.raises(ConfigurationError, match="written by version 2 of schedules"):
        explore(faulty.sound, replay="2:curio:whatever")


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@pytest.mark.parametrize(
    ("disturbance", "says"),
    [
        ("order=1>8.7.6.5.4.3.2.1.0", "decision 1 is of"),
        ("order=5000>1.0", "none of number 5000"),
        ("cancel=5000", "steps to cancel, and none of number 5000"),
        ("fail=5000", "waits to fail, and none of number 5000"),
    ],
)
def test_a_line_that_no_longer_fits_its_test_is_refused(
    loop: str, disturbance: str, says: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"does not fit.*{says}"):
        explore(faulty.sound, replay=f"{VERSION}:{loop}:{disturbance}")


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_line_fits_up_to_the_last_step_of_its_test_and_no_further(loop: str) -> None:
    there = explore(faulty.sound, seeds=1, loops=loop)
    explore(faulty.sound, replay=f"{VERSION}:{loop}:cancel={there.steps[loop] - 1}")
    explore(faulty.sound, replay=f"{VERSION}:{loop}:fail={there.waits[loop] - 1}")
    for beyond in (f"cancel={there.steps[loop]}", f"fail={there.waits[loop]}"):
        with pytest.raises(ConfigurationError, match="does not fit"):
            explore(faulty.sound, replay=f"{VERSION}:{loop}:{beyond}")


@pytest.mark.parametrize(
    "line",
    ["", "x", "1", "1:curio", "1:trio:cancel=", "1:trio:cancel=x", "1:trio:cancel=1:cancel=2",
     "1:trio:order=1>0.0", "1:trio:order=1", "1:trio:cancel=1.5", "1:trio:other=1", 7],
)  # fmt: skip
def test_what_is_no_line_is_refused(line: Any) -> None:
    with pytest.raises(ConfigurationError, match="replay="):
        explore(faulty.sound, replay=line)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(loop="trio"),
        Schedule(loop="asyncio", cancel=0, fail=12),
        Schedule(loop="trio", moves={0: (1, 0), 12: (2, 0, 1)}, fail=3),
    ],
)
def test_a_schedule_is_read_as_it_was_written(schedule: Schedule) -> None:
    assert parse("test", schedule.line()) == schedule


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 0}, {"seeds": True}, {"seeds": "7"}, {"seeds": [-1]}, {"seeds": 1.5},
        {"loops": []}, {"loops": ["curio"]}, {"disturb": ["sleep"]}, {"disturb": 3},
        {"may_fail": [print]}, {"may_fail": 3}, {"max_steps": 0},
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused(options: Any) -> None:
    with pytest.raises(ConfigurationError, match="explore: "):
        explore(faulty.sound, **options)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UnknownOptionError, match="seeds"):
        explore(faulty.sound, seed=3)  # type: ignore[call-arg]  # on purpose


async def of_asyncio() -> None:
    await asyncio.sleep(1)


def test_a_test_of_one_loop_is_told_how_to_say_so() -> None:
    with pytest.raises(ScheduleFailedError, match="asyncio alone, give loops='asyncio'"):
        explore(of_asyncio)
    assert explore(of_asyncio, loops="asyncio").steps
    with pytest.raises(RuntimeError) as caught:
        run_virtual(of_asyncio)
    assert "give loop='asyncio'" in caught.value.__notes__[0]


@pytest.mark.parametrize("given", [3, print, faulty.Gate, lambda: None])
def test_what_is_no_test_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="no async function"):
        explore(given)


def test_a_test_that_takes_arguments_is_refused() -> None:
    async def program(limiter: object) -> None:
        """Take something."""

    with pytest.raises(ConfigurationError, match="takes limiter"):
        explore(program)


async def test_it_is_refused_where_a_loop_runs() -> None:
    await checkpoint()
    with pytest.raises(HostLoopError, match="plain function"):
        explore(faulty.sound)
