"""Make the subjects: the same branch under a step of ours, and under what is written by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import trio

from anabranch import ConcurrencyConfig, Pipeline, Step
from tests.bench import _baselines
from tests.bench._measure import Once, Subject

LIMIT = 10
LOOPS = ("trio", "asyncio")

number: ContextVar[int] = ContextVar("number", default=0)


async def checkpoint_trio(data: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return data


async def checkpoint_asyncio(data: Any) -> Any:
    await asyncio.sleep(0)
    return data


async def setting_trio(data: Any) -> Any:
    number.set(data)
    await trio.lowlevel.checkpoint()
    return data


async def setting_asyncio(data: Any) -> Any:
    number.set(data)
    await asyncio.sleep(0)
    return data


CHECKPOINT = {"trio": checkpoint_trio, "asyncio": checkpoint_asyncio}
SETTING = {"trio": setting_trio, "asyncio": setting_asyncio}

Branches = dict[str, Any]  # a loop's name to the branch that runs on it
ByHand = Callable[[Any, Any, int], Awaitable[dict[str, Any]]]


def keys_of(size: int) -> list[str]:
    return [str(i) for i in range(size)]


def pipeline_of(size: int, branch: Any, limit: int = LIMIT) -> Pipeline[Any, Any]:
    """Make a pipeline of one parallel step; made beforehand, as steps are, and not measured."""
    # One Step in all branches costs like a function in each, and is made in a seventh of the time.
    part = branch if isinstance(branch, Step) else Step("branch", branch)
    concurrency = ConcurrencyConfig(limit)
    return Pipeline([Step.parallel(dict.fromkeys(keys_of(size), part), concurrency=concurrency)])


def step(loop: str, size: int, branches: Branches, limit: int = LIMIT) -> Subject:
    """Run a whole pipeline of one parallel step, and see that its branches succeeded."""

    def prepare() -> AbstractContextManager[Once]:
        pipeline = pipeline_of(size, branches[loop], limit)

        async def once() -> None:
            assert (await pipeline.run(1)).success

        return nullcontext(once)

    return Subject(f"Step.parallel on {loop}", loop, prepare)


class _Ear:
    """Hear events and do nothing else."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, event: object) -> None:
        self.heard += 1

    def wait(self, expected: int) -> None:
        """Wait until nothing more comes: what the observer's thread costs is the step's cost.

        A short run has told it all when it ends; a long one has it wait for a tenth of a second
        and may leave events out, which are counted to it as one.
        """
        before = -1
        while self.heard < expected and self.heard != before:
            before = self.heard
            time.sleep(0.005)


def observed_step(loop: str, size: int, branches: Branches, rounds: int) -> Subject:
    """Run a step with an observer, up to the last event that it hears."""

    def prepare() -> AbstractContextManager[Once]:
        pipeline = pipeline_of(size, branches[loop])

        async def once() -> None:
            ear = _Ear()
            assert (await pipeline.run(1, observer=ear)).success
            ear.wait(3 * size + 2)  # queued, started, finished; and the step's two

        return nullcontext(once)

    return Subject(f"Step.parallel on {loop}, with an observer", loop, prepare, rounds)


def by_hand(
    name: str,
    loop: str,
    fn: ByHand,
    size: int,
    branches: Branches,
    rounds: int | None = None,
    limit: int = LIMIT,
) -> Subject:
    """Run what is written by hand, with the same branch and the same limit."""

    def prepare() -> AbstractContextManager[Once]:
        return nullcontext(partial(fn, branches[loop], keys_of(size), limit))

    return Subject(name, loop, prepare, rounds)


def gather(size: int, branches: Branches) -> Subject:
    return by_hand("asyncio.gather + Semaphore", "asyncio", _baselines.gather, size, branches)


def asyncio_group(size: int, branches: Branches, rounds: int | None = None) -> Subject:
    name, fn = "asyncio.TaskGroup + Semaphore", _baselines.asyncio_group
    return by_hand(name, "asyncio", fn, size, branches, rounds)


def nursery(
    loop: str, size: int, branches: Branches, rounds: int | None = None, limit: int = LIMIT
) -> Subject:
    fn = _baselines.trio_nursery if loop == "trio" else _baselines.anyio_group
    name = {
        "trio": "trio nursery + CapacityLimiter",
        "asyncio": "anyio task group + CapacityLimiter on asyncio",
    }[loop]
    return by_hand(name, loop, fn, size, branches, rounds, limit)


def kept(loop: str, size: int, branches: Branches, rounds: int | None = None) -> Subject:
    fn = _baselines.kept_trio if loop == "trio" else _baselines.kept_anyio
    name = f"the same by hand on {loop}, keeping what a step keeps"
    return by_hand(name, loop, fn, size, branches, rounds)


def bare(loop: str, size: int, branches: Branches, rounds: int | None = None) -> Subject:
    fn = _baselines.bare_trio if loop == "trio" else _baselines.bare_asyncio
    return by_hand(f"bare loops on {loop} (the floor)", loop, fn, size, branches, rounds)


# Sleeps: branches that wait, and nothing else -----------------------------------------------


async def millisecond_trio(data: Any) -> Any:
    await trio.sleep(0.001)
    return data


async def millisecond_asyncio(data: Any) -> Any:
    await asyncio.sleep(0.001)
    return data


MILLISECOND = {"trio": millisecond_trio, "asyncio": millisecond_asyncio}


def bare_sleeps(loop: str, size: int, limit: int) -> Subject:
    """Run ``limit`` loops, each of its share of sleeps: nothing is shared between them."""

    async def share() -> None:
        for _ in range(size // limit):
            await MILLISECOND[loop](1)

    async def on_trio() -> None:
        async with trio.open_nursery() as block:
            for _ in range(limit):
                block.start_soon(share)

    async def on_asyncio() -> None:
        async with asyncio.TaskGroup() as block:
            for _ in range(limit):
                block.create_task(share())

    once = on_trio if loop == "trio" else on_asyncio
    return Subject(f"bare loops of sleeps on {loop}", loop, lambda: nullcontext(once))


# Lanes: plain functions, in threads and in processes ----------------------------------------


def tiny(data: Any) -> Any:
    return data


def lane(kind: str, loop: str, size: int, limit: int) -> Subject:
    """Run tiny plain functions in the io or cpu lane."""

    def prepare() -> AbstractContextManager[Once]:
        pipeline = pipeline_of(size, Step("tiny", tiny, lane=kind), limit)

        async def once() -> None:
            assert (await pipeline.run(1)).success

        return nullcontext(once)

    return Subject(f"{kind} lane on {loop}", loop, prepare)


def executor(name: str, make: Callable[[int], Any], size: int, limit: int) -> Subject:
    """Map tiny plain functions over a pool that was made beforehand, as the lanes' are."""

    @contextmanager
    def prepare() -> Iterator[Once]:
        with make(limit) as pool:
            yield partial(_baselines.pool, pool, tiny, keys_of(size))

    return Subject(name, "asyncio", prepare)
