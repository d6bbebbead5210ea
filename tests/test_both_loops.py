"""See that each async test runs on the loop which its parameter names, in the time it asks for."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import pytest
import trio

from anabranch.testing._clock import VirtualLoop

HOUR = 3600.0


def running() -> str:
    if trio.lowlevel.in_trio_task():
        return "trio"
    assert asyncio.current_task() is not None
    return "asyncio"


async def test_an_async_test_runs_on_the_loop_that_its_parameter_names(
    anyio_backend: tuple[str, dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    assert running() == anyio_backend[0]
    assert f"[{anyio_backend[0]}]" in request.node.name


async def test_an_hour_of_virtual_time_costs_less_than_a_minute() -> None:
    started, real = anyio.current_time(), time.perf_counter()
    await anyio.sleep(HOUR)
    assert anyio.current_time() - started == HOUR
    assert time.perf_counter() - real < 60


@pytest.mark.real_clock
async def test_a_real_clock_test_has_real_time() -> None:
    started, real = anyio.current_time(), time.perf_counter()
    await anyio.sleep(0.02)
    assert 0.02 <= time.perf_counter() - real < HOUR
    assert 0.019 <= anyio.current_time() - started < HOUR
    if running() == "asyncio":
        assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.trio_only
async def test_a_trio_only_test_runs_on_trio() -> None:
    assert running() == "trio"


@pytest.mark.asyncio_only
async def test_an_asyncio_only_test_runs_on_asyncio() -> None:
    assert running() == "asyncio"


@pytest.fixture
async def loop_of_the_fixture() -> str:
    return running()


async def test_an_async_fixture_shares_the_loop_of_its_test(loop_of_the_fixture: str) -> None:
    assert loop_of_the_fixture == running()
