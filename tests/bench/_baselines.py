"""Do by hand what a parallel step does: what a user writes who has only the loop's library.

Every one of them is given the same branch, keys made beforehand and a limit, and returns
``{key: output}``, as a step does; none of them keeps more. ``kept_*`` are the exception: they keep
as much as a step (a deadline, errors as values, times, the order of completion), by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import anyio
import trio

Branch = Callable[[Any], Awaitable[Any]]
DEADLINE = 30.0  # what a step has unless told otherwise


async def gather(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    tokens = asyncio.Semaphore(limit)

    async def one(data: Any) -> Any:
        async with tokens:
            return await branch(data)

    return dict(zip(keys, await asyncio.gather(*[one(1) for _ in keys]), strict=True))


async def asyncio_group(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    tokens = asyncio.Semaphore(limit)
    outputs: dict[str, Any] = dict.fromkeys(keys)

    async def one(key: str) -> None:
        async with tokens:
            outputs[key] = await branch(1)

    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(one(key))
    return outputs


async def trio_nursery(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    limiter = trio.CapacityLimiter(limit)
    outputs: dict[str, Any] = dict.fromkeys(keys)

    async def one(key: str) -> None:
        async with limiter:
            outputs[key] = await branch(1)

    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(one, key)
    return outputs


async def anyio_group(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    limiter = anyio.CapacityLimiter(limit)
    outputs: dict[str, Any] = dict.fromkeys(keys)

    async def one(key: str) -> None:
        async with limiter:
            outputs[key] = await branch(1)

    async with anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(one, key)
    return outputs


async def kept_trio(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    kept = _Kept(keys, trio.CapacityLimiter(limit), trio.current_time)
    with trio.move_on_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(kept.one, branch, key)
    return kept.outputs


async def kept_anyio(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    kept = _Kept(keys, anyio.CapacityLimiter(limit), time.monotonic)
    with anyio.move_on_after(DEADLINE):
        async with anyio.create_task_group() as group:
            for key in keys:
                group.start_soon(kept.one, branch, key)
    return kept.outputs


class _Kept:
    """Keep of each branch what a step keeps of it."""

    def __init__(self, keys: Sequence[str], limiter: Any, clock: Callable[[], float]) -> None:
        self.outputs: dict[str, Any] = dict.fromkeys(keys)
        self.order: list[str] = []
        self.times: dict[str, tuple[float, float, float]] = {}
        self._limiter = limiter
        self._clock = clock

    async def one(self, branch: Branch, key: str) -> None:
        queued_at = self._clock()
        async with self._limiter:
            started_at = self._clock()
            try:
                self.outputs[key] = await branch(1)
            except Exception as error:
                self.outputs[key] = error
            self.times[key] = (queued_at, started_at, self._clock())
            self.order.append(key)


async def bare_asyncio(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    outputs: dict[str, Any] = dict.fromkeys(keys)
    left = iter(keys)

    async def loop() -> None:
        for key in left:
            outputs[key] = await branch(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(keys))):
            group.create_task(loop())
    return outputs


async def bare_trio(branch: Branch, keys: Sequence[str], limit: int) -> dict[str, Any]:
    outputs: dict[str, Any] = dict.fromkeys(keys)
    left = iter(keys)

    async def loop() -> None:
        for key in left:
            outputs[key] = await branch(1)

    async with trio.open_nursery() as nursery:
        for _ in range(min(limit, len(keys))):
            nursery.start_soon(loop)
    return outputs


async def pool(executor: Executor, fn: Callable[[Any], Any], keys: Sequence[str]) -> dict[str, Any]:
    """Block the loop meanwhile: there is nothing else on it."""
    return dict(zip(keys, executor.map(fn, [1] * len(keys)), strict=True))
