"""Why a branch waits: for a thread, for its next attempt, behind threads that cannot be stopped."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from anabranch import ConcurrencyConfig, Decision, ExecutionConfig, Pipeline, Retry, Step
from anabranch.pipeline._waiting import named
from tests.pipeline.adaptive import Crowd, Script


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


async def test_an_item_that_was_not_pulled_yet_is_told_what_keeps_it() -> None:
    law = Script([4, Decision(9, 3, "memory 91 % of 2.0 GiB: 4 -> 3"), 3])
    inner = Step.map_over("in", Step("s", Crowd(2.0)), items=range(30), timeout=None,
                          concurrency=ConcurrencyConfig(4, controller=law))  # fmt: skip
    async with Pipeline([Step.parallel({"a": inner, "b": Crowd(9.0)})]).open(1) as live:
        await anyio.sleep(3)
        words = "3 of 3 tokens in use; limit lowered from 4: memory 91 % of 2.0 GiB"
        assert live.why_waiting("a/29") == f"its item was not pulled yet: {words}"
        (now,) = [each for each in live.snapshot().steps if each.step == "a/in"]
        assert (now.queued, now.pulled, now.why) == (0, 7, words)
        assert live.why_waiting("a/6") == "it does not wait: it runs"
        for key in ("a/3", "a/x", "29", "b/29", "a/29/29", ""):
            assert "has ended, or there is none" in live.why_waiting(key)
        await anyio.sleep(60)
        assert "has ended, or there is none" in live.why_waiting("a/29")


async def test_a_map_that_waits_for_its_reader_says_so() -> None:
    step = Step.map_over("m", Step("s", Crowd(0.1)), items=range(30), max_concurrency=2)
    async with Pipeline([step]).open(1) as live:
        await anyio.sleep(3)
        why = live.why_waiting("29")
        live.stop()
    assert why == "its item was not pulled yet: outcomes have to be read before more begins"
