"""Measure the adaptive limit on this machine: what it costs, and beside the best fixed limit.

The best fixed limit is searched first; then it and the adaptive one run in turns, and their
ratios count. Where these spread over more than the bar leaves, it is said that nothing is decided.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import anyio
import attrs

from anabranch import ConcurrencyConfig, LimitChanged, Pipeline, Step
from tests.bench import _loads
from tests.bench._core import Case, CaseFailedError, Tell
from tests.bench._extent import Extent
from tests.bench._measure import Spread, Subject, in_turns, ratios, spread
from tests.bench._report import Row
from tests.bench._subjects import LOOPS, MILLISECOND

CPU_BAR, SERVER_BAR, MEMORY_BAR = 1.10, 1.15, 1 / 0.8
SAMPLING_BAR, BRANCH_BAR = 0.5, 1.03
DOWN_BAR_S, BACK_BAR_S = 5.0, 10.0
LOOP = "trio"

Make = Callable[[Any], Pipeline[Any, Any]]


@attrs.frozen
class Ran:
    """Tell how one run went: seconds, and how many branches of it failed."""

    seconds: float
    failed: int


def ran(pipeline: Pipeline[Any, Any]) -> Ran:
    began = time.perf_counter()
    result = anyio.run(pipeline.run, None, backend=LOOP)
    (step,) = result.step_history
    failed = sum(not each.success for each in step.branches.values())
    return Ran(time.perf_counter() - began, failed)


def beside_best(
    case: str, size: int, make: Make, limits: Sequence[int], bar: float, extent: Extent, tell: Tell
) -> Iterator[Row]:
    """Search the best fixed limit, then run it and the adaptive one in turns."""
    found: dict[int, Ran] = {}
    for limit in limits:
        tell(f"search, limit {limit}")
        found[limit] = ran(make(ConcurrencyConfig(limit, adaptive_limits=False)))
    good = {limit: each for limit, each in found.items() if not each.failed} or found
    best = min(good, key=lambda limit: good[limit].seconds)
    pairs: list[tuple[Ran, Ran]] = []
    for number in range(extent.pairs):
        tell(f"pair {number + 1} of {extent.pairs}, limit {best} and adaptive")
        fixed = ran(make(ConcurrencyConfig(best, adaptive_limits=False)))
        pairs.append((fixed, ran(make(ConcurrencyConfig()))))
    for limit, each in found.items():
        yield Row(case=case, size=size, subject=_found(limit, each), value=each.seconds, unit="s")
    name = f"best fixed limit, {best}"
    seconds = spread([fixed.seconds for fixed, _ in pairs]).median
    yield Row(case=case, size=size, subject=name, value=seconds, unit="s")
    ratio = spread([ours.seconds / fixed.seconds for fixed, ours in pairs])
    failed = sum(ours.failed for _, ours in pairs)
    decided = _decided(ratio, bar)
    yield Row(
        case=case,
        size=size,
        subject="adaptive" + ("" if decided else " (not decided: the runs spread over the bar)"),
        value=spread([ours.seconds for _, ours in pairs]).median,
        unit="s",
        against=name,
        ratio=ratio,
        bar=bar if extent.bars and decided else None,
    )
    share = 100 * failed / (size * len(pairs))
    yield Row(
        case=case,
        size=size,
        subject="adaptive: branches that failed",
        value=share,
        unit="%",
        bar=1.0 if extent.bars else None,
    )


def _found(limit: int, each: Ran) -> str:
    return f"limit {limit}" + (f", {each.failed} failed" if each.failed else "")


def _decided(ratio: Spread, bar: float) -> bool:
    """Tell whether both quartiles are on the same side of the bar."""
    return (ratio.low > bar) == (ratio.high > bar)


def cpus(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU work in processes."""
    make = partial(_loads.cpu_pipeline, branches=40, seconds=extent.burn)
    return beside_best("cpus", 40, make, (1, 2, 4, 8, 16), CPU_BAR, extent, tell)


def server(extent: Extent, tell: Tell) -> Iterator[Row]:
    """Requests to a server with a knee."""
    with _loads.server() as port:
        make = partial(_loads.server_pipeline, requests=extent.requests, port=port)
        limits = (8, 16, 32, 48, 64, 128)
        yield from beside_best("server", extent.requests, make, limits, SERVER_BAR, extent, tell)


def children(extent: Extent, tell: Tell) -> Iterator[Row]:
    """Children that grow slowly, under a budget of memory."""
    count, mb, limit = extent.children, 300, 2048
    make = partial(_loads.memory_pipeline, children=count, mb=mb, seconds=4.0, limit=limit)
    return beside_best("children", count, make, (2, 4, 5, 6, 8), MEMORY_BAR, extent, tell)


def neighbour(extent: Extent, tell: Tell) -> Iterator[Row]:
    """How soon the limit goes down when another takes the CPU, and comes back after."""
    cores, seconds = len(os.sched_getaffinity(0)), extent.neighbour
    heard: list[LimitChanged] = []
    clock: list[float] = []

    def hear(event: Any) -> None:
        clock.append(event.at - time.monotonic())  # how the loop's clock is off
        if isinstance(event, LimitChanged):
            heard.append(event)

    async def main() -> tuple[float, float]:
        async def wait(_: Any) -> None:
            await anyio.to_thread.run_sync(_loads.burn, 0.002)
            await anyio.sleep(0.1)

        end = time.monotonic() + 10 + seconds + 20
        step = Step.map_over("wait", Step("wait", wait), items=until(end), timeout=None,
                             concurrency=ConcurrencyConfig(16))  # fmt: skip
        times: list[float] = []

        async def disturb() -> None:
            await anyio.sleep(10)
            times.append(time.monotonic())
            with _loads.neighbours(2 * cores, seconds):
                await anyio.sleep(seconds)
            times.append(time.monotonic())

        async with anyio.create_task_group() as group:
            group.start_soon(disturb)
            await Pipeline([step]).run(1, observer=hear)
        return times[0], times[1]

    tell("ten seconds alone, then with a neighbour, then alone")
    came, left = anyio.run(main, backend=LOOP)
    if not clock:
        raise CaseFailedError("no event was heard")
    offset = spread(clock).median
    moved = [(each.at - offset, each) for each in heard]
    down = next((at - came for at, each in moved if at > came and each.new < each.old), seconds)
    held = [each.new for at, each in moved if at < came][-1:] or [16.0]
    back = next((at - left for at, each in moved if at > left and each.new >= 0.8 * held[0]), 20.0)
    for subject, value, bar in (("down", down, DOWN_BAR_S), ("back", back, BACK_BAR_S)):
        yield Row(
            case="neighbour", size=16, subject=f"the limit is {subject}",
            value=value, unit="s", bar=bar if extent.bars else None,
        )  # fmt: skip
    for at, each in moved:
        words = f"at {at - came:+.1f} s: {each.old:g} -> {each.new:g} {each.reason}"
        yield Row(case="neighbour", size=16, subject=words[:56], value=each.new, unit="limit")


def until(end: float) -> Iterator[int]:
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1


def sampling(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU of the regulator, of a core; and of an adaptive step, against one that is not."""
    for loop in LOOPS:
        tell(f"sleepers on {loop}, adaptive and not")
        shares = []
        for adaptive in (False, True):
            step = Step.parallel(
                dict.fromkeys(map(str, range(20)), Step("sleep", _sleep)),
                concurrency=ConcurrencyConfig(10, adaptive_limits=adaptive), timeout=None,
            )  # fmt: skip
            wall, cpu = time.perf_counter(), time.process_time()
            anyio.run(Pipeline([step]).run, extent.sampled, backend=loop)
            shares.append((time.process_time() - cpu) / (time.perf_counter() - wall))
        yield Row(
            case="sampling", size=20, subject=f"regulating on {loop}",
            value=100 * (shares[1] - shares[0]), unit="% of a core",
            bar=SAMPLING_BAR if extent.bars else None,
        )  # fmt: skip
    for loop in LOOPS:
        pair = [_sleeping(loop, extent.sleeps, adaptive) for adaptive in (False, True)]
        taken = in_turns(pair, rounds=extent.rounds, times=1, warm_up=1, tell=tell)
        fixed, ours = (each.name for each in pair)
        yield Row(
            case="sampling", size=extent.sleeps, subject=ours,
            value=spread([each.cpu for each in taken[ours]]).median / extent.sleeps * 1e6,
            unit="us cpu", against=fixed, ratio=ratios(taken, ours, fixed),
            bar=BRANCH_BAR if extent.bars else None,
        )  # fmt: skip


async def _sleep(seconds: float) -> None:
    await anyio.sleep(seconds / 2)


def _sleeping(loop: str, size: int, adaptive: bool) -> Subject:
    branch = Step("branch", MILLISECOND[loop])
    config = ConcurrencyConfig(100, adaptive_limits=adaptive)
    step = Step.parallel(dict.fromkeys(map(str, range(size)), branch), concurrency=config)

    async def once() -> None:
        assert (await Pipeline([step]).run(1)).success

    name = f"sleeps of 1 ms on {loop}, {'adaptive' if adaptive else 'fixed'}"
    return Subject(name, loop, lambda: nullcontext(once))


CASES = (
    Case("sampling", "what regulating costs: of a core, and a branch", sampling),
    Case("cpus", "40 branches of CPU work in processes, against the best fixed limit", cpus),
    Case("server", "requests to a server with a knee, against the best fixed limit", server),
    Case("children", "children of 300 MB under 2 GB, against the best fixed limit", children),
    Case("neighbour", "a neighbour takes the CPU: down, and back", neighbour),
)
