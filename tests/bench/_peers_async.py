"""Ask a peer that runs coroutines what it costs: a branch, a small step, an item, a cancellation.

Each question is a function of a peer and an extent that returns what was found, by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import trio

from tests.bench._measure import Subject, ratios, sample, spread
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import Peer, beside
from tests.bench._scripts import Peak
from tests.bench._subjects import CHECKPOINT, LIMIT

Values = dict[str, Any]


@attrs.define
class Count:
    """Count branches that run, that have started, and the most that ran at once."""

    running: int = 0
    started: int = 0
    peak: int = 0

    def __enter__(self) -> None:
        self.started += 1
        self.running += 1
        self.peak = max(self.peak, self.running)

    def __exit__(self, *_: object) -> None:
        self.running -= 1


def on_loop(loop: str, fn: Callable[[], Awaitable[Values]]) -> Values:
    return trio.run(fn) if loop == "trio" else asyncio.run(fn())


def cost(peer: Peer, extent: PeersExtent) -> Values:
    """Return what a branch costs, and a step of 2 and 20, beside ours in turns: CPU."""
    found: Values = {}
    for name, size in (("branch", extent.branches // peer.slow), ("two", 2), ("twenty", 20)):
        pair = [_subject(peer, size), _subject(beside(peer), size)][: 2 - (peer is beside(peer))]
        times = [_times(each) if size < 100 else 1 for each in pair]
        taken: dict[str, list[Any]] = {each.name: [] for each in pair}
        for number in range(extent.rounds):
            order = list(zip(pair, times, strict=True))
            for each, count in order if number % 2 else reversed(order):
                took = sample(each, count, warm_up=min(count - 1, 2))
                taken[each.name].append(attrs.evolve(took, cpu=took.cpu / count))
        cpu = spread([took.cpu for took in taken[peer.name]]).median * 1e6
        found[name] = cpu / size if name == "branch" else cpu
        if len(pair) > 1:
            found[f"{name}_ratio"] = ratios(taken, peer.name, pair[1].name).median
    return found


def _subject(peer: Peer, size: int) -> Subject:
    branch = CHECKPOINT[peer.loop]
    items = range(size)
    opens = peer.opens if size > 20 else peer.opens_small or peer.opens

    def prepare() -> Any:
        run: Any = None

        async def once() -> None:
            nonlocal run
            run = run or opens(LIMIT)
            await run(branch, items)

        return contextlib.nullcontext(once)

    return Subject(peer.name, peer.loop, prepare)


def _times(subject: Subject, wanted: float = 0.04) -> int:
    """Say how often a small step is called in one sample; at least three times."""
    once = sample(subject, 3, warm_up=1).wall / 3
    return max(3, min(500, int(wanted / max(once, 1e-6))))


def memory(peer: Peer, extent: PeersExtent) -> Values:
    """Return how much the process grows while so many items are queued, in bytes for each."""
    size = extent.items // peer.slow

    async def measured() -> Values:
        run = peer.opens(LIMIT)
        await run(CHECKPOINT[peer.loop], range(100))
        with Peak() as peak:
            await run(CHECKPOINT[peer.loop], range(size))
        return {"bytes": peak.grown_mb * 2**20 / size, "items": size}

    return on_loop(peer.loop, measured)


def cancel(peer: Peer, extent: PeersExtent) -> Values:
    """Cancel a run with many running: how many are left when it returns, how long until quiet.

    It is done some times, in turns with ours.
    """
    both, found = list(dict.fromkeys([peer, beside(peer)])), []
    for number in range(min(3, extent.rounds)):
        order = both if number % 2 else both[::-1]
        took = {each: _cancelled_once(each, extent.running) for each in order}
        found.append([took[each] for each in both])
    seconds = [[each["quiet_s"] for each in turn] for turn in found]
    values: Values = {
        "quiet_s": spread([each[0] for each in seconds]).median,
        "running": extent.running,
        "left": max(turn[0]["left"] for turn in found),
    }
    if len(both) > 1:
        values["quiet_s_ratio"] = spread([mine / ours for mine, ours in seconds]).median
    return values


def _cancelled_once(peer: Peer, size: int) -> Values:
    count = Count()

    async def sleeper(item: object) -> None:
        with count:
            await anyio.sleep(60)

    async def quiet(returned: Awaitable[object]) -> Values:
        start = time.perf_counter()
        await returned
        left = count.running
        while count.running:
            await anyio.sleep(0.001)
        return {"quiet_s": time.perf_counter() - start, "left": left}

    async def measured() -> Values:
        run, found = peer.opens(size), {}
        if peer.loop == "trio":
            ended = trio.Event()
            async with trio.open_nursery() as block:
                block.start_soon(_whole, run(sleeper, range(size)), ended)
                await _reached(count, size)
                block.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    found = await quiet(ended.wait())
        else:
            running = asyncio.ensure_future(run(sleeper, range(size)))
            await _reached(count, size)
            running.cancel()
            found = await quiet(asyncio.wait([running]))
        return found

    return on_loop(peer.loop, measured)


async def _whole(running: Awaitable[object], ended: trio.Event) -> None:
    try:
        await running
    finally:
        ended.set()


async def _reached(count: Count, size: int) -> None:
    while count.running < size:
        await anyio.sleep(0.005)


QUESTIONS = {"cost": cost, "memory": memory, "cancel": cancel}
