"""Why a branch waits: for a thread, for its next attempt, behind threads that cannot be stopped."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from anabranch import ConcurrencyConfig, ExecutionConfig, Pipeline, Retry, Step
from anabranch.pipeline._waiting import named


def test_a_few_are_named_and_the_rest_counted() -> None:
    assert named([]) == ""
    assert named(["a", "b"]) == "; threads that could not be stopped hold theirs: a, b"
    assert named([str(i) for i in range(9)]).endswith("0, 1, 2, 3, 4 and 4 more")


@pytest.mark.slow
@pytest.mark.real_clock
async def test_threads_that_could_not_be_stopped_are_named() -> None:
    go = threading.Event()

    def stuck(_: Any) -> None:
        go.wait(20)

    branches = {f"b{i}": Step("s", stuck, timeout=0.1 if i < 2 else None) for i in range(6)}
    config = ExecutionConfig(io_limit=64)
    step = Step.parallel(branches, concurrency=ConcurrencyConfig(3), timeout=None)
    async with Pipeline([step], execution_config=config).open(1) as live:
        try:
            await anyio.sleep(0.5)
            why = live.why_waiting("b5")
            assert why.startswith("3 of 3 tokens in use; ")
            assert why.endswith("threads that could not be stopped hold theirs: b0, b1")
            assert live.why_waiting("b2") == "it does not wait: it runs"
        finally:
            go.set()


async def test_a_branch_between_two_attempts_waits_for_the_next_one() -> None:
    async def fails(_: Any) -> None:
        raise ValueError("again")

    async def sleeps(_: Any) -> None:
        await anyio.sleep(1)

    step = Step.parallel(
        {"a": Step("s", fails, retry=Retry(attempts=2, wait=5)), "b": sleeps}, max_concurrency=2
    )
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(0.5)
        assert live.why_waiting("a") == "it waits for its next attempt, without a token"
        assert "has ended, or there is none" in live.why_waiting("nobody")
