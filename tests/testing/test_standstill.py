"""See that a program which waits for ever ends, and that the error says who waits where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from anabranch.errors import DeadlockError
from anabranch.testing._schedules import run_asyncio, run_trio

both = pytest.mark.parametrize("run", [run_trio, run_asyncio], ids=["trio", "asyncio"])
Run = Callable[..., Any]


async def waits() -> None:
    await anyio.sleep(5)
    await anyio.Event().wait()


async def waits_in_a_shield() -> None:
    with anyio.CancelScope(shield=True):
        await waits()


async def waits_for_a_shielded_child() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(waits_in_a_shield)


async def swallows_its_end() -> str:
    try:
        await waits()
    except BaseException:
        return "as if nothing had been"
    return "never"


async def fails_at_its_end() -> None:
    try:
        await waits()
    finally:
        raise ValueError


@both
@pytest.mark.parametrize(
    "program",
    [waits, waits_in_a_shield, waits_for_a_shielded_child, swallows_its_end, fails_at_its_end],
    ids=lambda program: program.__name__,
)
def test_waiting_for_ever_is_an_error_that_says_who_waits_where(run: Run, program: Run) -> None:
    with pytest.raises(DeadlockError, match="at 5 s everything waits") as caught:
        run(program, seed=1)
    assert "in waits" in str(caught.value)


@both
def test_waiting_for_idle_is_no_deadlock(run: Run) -> None:
    async def main() -> str:
        await anyio.wait_all_tasks_blocked()
        return "went on"

    assert run(main, seed=1) == "went on"
