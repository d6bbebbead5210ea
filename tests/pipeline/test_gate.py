"""The gate: one at a time while it holds back, and what has begun is never kept."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from anabranch._host import current_host
from anabranch._runtime import current
from anabranch._token import Held
from anabranch.abc import Limiter
from anabranch.pipeline._gate import Gate


@pytest.fixture
async def gate() -> Gate:
    return Gate(current())


async def test_it_is_a_limiter(gate: Gate) -> None:
    assert isinstance(gate, Limiter)
    assert gate.total_tokens == math.inf
    assert gate.statistics().tasks_waiting == 0


async def test_open_it_lets_everybody_begin(gate: Gate) -> None:
    for i in range(1000):
        gate.acquire_on_behalf_of_nowait(i)
    assert gate.borrowed_tokens == 1000
    assert gate.statistics().borrowers == list(range(1000))


async def test_holding_back_it_lets_one_begin_when_nobody_is_at_work(gate: Gate) -> None:
    gate.acquire_on_behalf_of_nowait("a")
    gate.acquire_on_behalf_of_nowait("b")
    gate.total_tokens = 1
    would_block = current_host().runtime.WouldBlock
    with pytest.raises(would_block):
        gate.acquire_on_behalf_of_nowait("c")
    gate.release_on_behalf_of("a")
    with pytest.raises(would_block):
        gate.acquire_on_behalf_of_nowait("c")
    gate.release_on_behalf_of("b")
    gate.acquire_on_behalf_of_nowait("c")


async def test_who_waits_is_served_in_turn_and_all_at_once_when_it_opens(gate: Gate) -> None:
    gate.total_tokens = 1
    gate.acquire_on_behalf_of_nowait("first")
    served: list[str] = []

    async def wait(name: str) -> None:
        await gate.acquire_on_behalf_of(name)
        served.append(name)

    async with anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
        assert gate.statistics().tasks_waiting == 4
        gate.release_on_behalf_of("first")
        await anyio.wait_all_tasks_blocked()
        assert served == ["a"]
        gate.total_tokens = math.inf
        await anyio.wait_all_tasks_blocked()
    assert sorted(served) == ["a", "b", "c", "d"]
    assert gate.borrowed_tokens == 4


async def test_nobody_overtakes_who_waits(gate: Gate) -> None:
    gate.total_tokens = 1
    gate.acquire_on_behalf_of_nowait("first")
    async with anyio.create_task_group() as group:
        group.start_soon(gate.acquire_on_behalf_of, "waits")
        await anyio.wait_all_tasks_blocked()
        gate.release_on_behalf_of("first")
        with pytest.raises(current_host().runtime.WouldBlock):
            gate.acquire_on_behalf_of_nowait("overtakes")
    assert gate.statistics().borrowers == ["waits"]


async def test_who_lent_its_token_gets_it_back_at_once(gate: Gate) -> None:
    held = Held((gate,))
    gate.acquire_on_behalf_of_nowait(held)
    held.lend(gate)
    gate.total_tokens = 1
    gate.acquire_on_behalf_of_nowait("other")
    with anyio.fail_after(1):
        await gate.acquire_on_behalf_of(held)
    assert gate.borrowed_tokens == 2


async def test_a_cancelled_wait_leaves_nothing(gate: Gate) -> None:
    gate.total_tokens = 1
    gate.acquire_on_behalf_of_nowait("first")
    with anyio.move_on_after(1) as scope:
        await gate.acquire_on_behalf_of("waits")
    assert scope.cancelled_caught
    assert gate.statistics().tasks_waiting == 0
    gate.release_on_behalf_of("first")
    assert gate.borrowed_tokens == 0


async def test_who_is_served_and_cancelled_in_one_turn_keeps_no_token(gate: Gate) -> None:
    gate.total_tokens = 1
    gate.acquire_on_behalf_of_nowait("first")
    got: list[Any] = []

    async def wait(scope: anyio.CancelScope) -> None:
        with scope:
            await gate.acquire_on_behalf_of("waits")
            got.append("token")

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(wait, scope)
        await anyio.wait_all_tasks_blocked()
        gate.release_on_behalf_of("first")
        scope.cancel()
    assert gate.borrowed_tokens == len(got)


async def test_a_cancelled_scope_takes_no_token(gate: Gate) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await gate.acquire_on_behalf_of("never")
    assert gate.borrowed_tokens == 0
