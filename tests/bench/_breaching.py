"""Measure how long a breach takes until all is quiet, against one cancel of bare sleepers."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import anyio
import trio

from anabranch import Budget, Pipeline, Step, UsageLimitExceededError, charge
from tests.bench._core import Case, Tell
from tests.bench._extent import Extent
from tests.bench._measure import Took, run_on, spread
from tests.bench._report import Row
from tests.bench._subjects import LOOPS, keys_of

BREACH_BAR = 1.8
SLEEPS: dict[str, Callable[[], Awaitable[object]]] = {
    "trio": trio.sleep_forever,
    "asyncio": lambda: asyncio.sleep(3600),
}

Timed = Callable[[str, int, int], Awaitable[Took]]


class Stopwatch:
    """Take the time from the moment that something is cancelled."""

    def start(self) -> None:
        gc.collect()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def took(self) -> Took:
        return Took(time.process_time() - self._cpu, time.perf_counter() - self._wall)


async def bare(loop: str, running: int, queued: int) -> Took:
    """Cancel a nursery (asyncio: anyio's task group) that holds sleepers, and leave it."""
    del queued
    watch, sleep = Stopwatch(), SLEEPS[loop]
    async with trio.open_nursery() if loop == "trio" else anyio.create_task_group() as group:
        for _ in range(running):
            group.start_soon(sleep)
        for _ in range(3):
            await anyio.sleep(0)
        watch.start()
        group.cancel_scope.cancel()
    return watch.took()


async def breach(loop: str, running: int, queued: int) -> Took:
    """Pass the budget of a step whose branches sleep, and take its outcomes."""
    watch, sleep = Stopwatch(), SLEEPS[loop]
    asleep = 0

    async def branch(last: bool) -> None:
        nonlocal asleep
        asleep += 1
        if asleep == running:
            await anyio.sleep(0.01)  # until the others sleep as well
            watch.start()
            charge(cost_usd=12)
        await sleep()

    branches = dict.fromkeys(keys_of(running + queued), Step("branch", branch))
    step = Step.parallel(branches, max_concurrency=running, timeout=None)
    try:
        await Pipeline([step]).run(True, budget=Budget(cost_usd=10))
    except UsageLimitExceededError as error:
        outcomes = list(error.result.step_history[0].branches.values())
        took = watch.took()
    found = Counter((outcome.reason, outcome.attempts) for outcome in outcomes)
    reason = "breach: spent 12 of 10 usd"
    assert found == Counter({(reason, 1): running, (reason, 0): queued}), found
    return took


def breaching(extent: Extent, tell: Tell) -> Iterator[Row]:
    """Wall time from the charge that breaches to all outcomes, against a bare cancel."""
    running, queued = extent.breached
    for loop in LOOPS:
        subjects: dict[str, Timed] = {
            f"one cancel of bare sleepers on {loop}": bare,
            f"a breach on {loop}": breach,
        }
        taken: dict[str, list[Took]] = {name: [] for name in subjects}
        for number in range(extent.rounds):
            for name, timed in subjects.items() if number % 2 else reversed(subjects.items()):
                tell(f"round {number + 1} of {extent.rounds}, {name}")

                async def sample(timed: Timed = timed, loop: str = loop) -> Took:
                    return await timed(loop, running, queued)

                taken[name].append(run_on(loop, sample))
        theirs, ours = subjects
        for clock in ("wall", "cpu"):
            pairs = zip(taken[ours], taken[theirs], strict=True)
            ratio = spread([getattr(a, clock) / getattr(b, clock) for a, b in pairs])
            for name in subjects:
                seconds = spread([getattr(took, clock) for took in taken[name]]).median
                judged = extent.bars and name == ours and clock == "wall"
                yield Row(
                    case="breaching",
                    size=running,
                    subject=name,
                    value=seconds * 1e3,
                    unit=f"ms {clock}",
                    against=theirs if name == ours else "",
                    ratio=ratio if name == ours else None,
                    bar=BREACH_BAR if judged else None,
                )


CASES = (
    Case("breaching", "10,000 running and 100 queued, one breach, against one cancel", breaching),
)
