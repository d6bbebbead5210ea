"""The regulator by itself: any limiter, real threads, drawn programs, and a real neighbour."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import hypothesis
import pytest
from hypothesis import strategies as st
from trio.testing import MockClock

from anabranch import Bounds, ConcurrencyConfig, Decision, LimitChanged, LoadSampled, Pipeline, Step
from anabranch._host import current_host
from anabranch._regulate import Regulator, regulated
from anabranch._runtime import keeps_real_time
from anabranch._sampling import Realness
from anabranch.controllers import from_json, replay, to_json
from anabranch.testing._clock import VirtualLoop
from tests.leaks import new, tasks
from tests.pipeline.adaptive import (
    Crowd,
    Halving,
    Machine,
    Script,
    busy_between,
    changes,
    run,
)


async def hold(limiter: Any, seconds: float) -> None:
    async with limiter:
        await anyio.sleep(seconds)


# Any limiter -------------------------------------------------------------------------------------


async def test_a_limiter_of_ones_own_is_moved_while_the_block_runs() -> None:
    limiter, heard = anyio.CapacityLimiter(1), []
    machine = busy_between(2, 4)
    async with regulated(
        current_host(), limiter, Halving(), Bounds(ceiling=8), emit=heard.append, samplers=[machine]
    ) as seen:
        assert limiter.total_tokens == 8
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(hold, limiter, 3.5)
            await anyio.sleep(3.4)
            assert limiter.total_tokens == 2
            assert seen.reason == "cpu 99%"
    assert changes(heard) == [(8, 4), (4, 2), (2, 4), (4, 8)]
    loads = [each.load for each in heard if isinstance(each, LoadSampled)]
    assert [(load.in_use, load.queued) for load in loads[:2]] == [(8, 2), (8, 2)]
    asked = len(machine.asked)
    await anyio.sleep(10)
    assert len(machine.asked) == asked


async def test_what_waits_for_nothing_costs_no_time_when_the_block_ends() -> None:
    started = anyio.current_time()
    async with regulated(current_host(), anyio.CapacityLimiter(1), Halving(), Bounds(ceiling=3)):
        await anyio.sleep(0.1)
    assert anyio.current_time() == pytest.approx(started + 0.1)


async def test_a_law_is_asked_again_as_soon_as_it_wishes_but_not_sooner_than_may_be() -> None:
    class Eager(Script):
        def next(self, state: int, load: Any) -> Any:
            self.loads.append(load)
            return Decision(state, int(load.limit), "", again=0.001)

    law = Eager([])
    async with regulated(current_host(), anyio.CapacityLimiter(1), law, Bounds(ceiling=3)):
        await anyio.sleep(2.1)
    moments = [load.t for load in law.loads]
    assert len(moments) == 8
    assert all(b - a == pytest.approx(0.25) for a, b in pairwise(moments))


@pytest.mark.parametrize(("longest", "gap"), [(0.05, 0.05), (5.0, 0.1)])
async def test_a_young_law_in_a_hurry_is_asked_often_and_oftener_where_all_are_short(
    longest: float, gap: float
) -> None:
    class Eager(Script):
        def next(self, state: int, load: Any) -> Any:
            self.loads.append(load)
            return Decision(state, int(load.limit), "", again=0.25)

    async def wait(number: int) -> None:
        await anyio.sleep(longest if number == 0 else 0.05)

    law, started = Eager([]), anyio.current_time()
    config = ConcurrencyConfig(4, controller=law)
    await run(Step.map_over("wait", Step("wait", wait), items=range(240), concurrency=config))
    moments = [load.t - started for load in law.loads]
    assert moments[0] == pytest.approx(0.1)
    gaps = [b - a for a, b in pairwise(moments)]
    assert gaps[8:18] == pytest.approx([gap] * 10)
    assert gaps[-2:] == pytest.approx([0.25] * 2)


def test_time_is_real_where_the_machine_and_the_loop_agree() -> None:
    loop, machine = [0.0], [100.0]
    realness = Realness(lambda: loop[0], None, lambda: machine[0])
    for seconds, really, answer in [(1, 1, True), (1, 0.001, False), (0, 0, True), (1, 5, True)]:
        loop[0] += seconds
        machine[0] += really
        assert realness.look() is answer


async def test_a_mock_clock_is_known_as_such() -> None:
    assert keeps_real_time() is False


@pytest.mark.real_clock
async def test_a_real_clock_is_known_as_such() -> None:
    assert keeps_real_time() is True


# Threads and real time -----------------------------------------------------------------------


class Slow:
    """Be a sampler that hangs until it is let go."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = threading.Event()
        self.threads: set[int] = set()

    def sample(self) -> dict[str, float | None]:
        self.calls += 1
        self.threads.add(threading.get_ident())
        self.go.wait(30)
        return {"cpu": 0.99}


@pytest.mark.slow
@pytest.mark.real_clock
async def test_a_sampler_that_hangs_holds_nobody_up_and_is_not_asked_twice() -> None:
    slow, law, late = Slow(), Script([4]), 0.0
    config = ConcurrencyConfig(4, controller=law, samplers=slow)
    step = Step.parallel(
        {str(i): lambda _: anyio.sleep(0.02) for i in range(400)}, concurrency=config
    )

    async def beat() -> None:
        nonlocal late
        while True:
            before = anyio.current_time()
            await anyio.sleep(0.01)
            late = max(late, anyio.current_time() - before - 0.01)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(beat)
            assert (await Pipeline([step]).run(1)).success
            group.cancel_scope.cancel()
    finally:
        slow.go.set()
    assert slow.calls == 1
    assert threading.get_ident() not in slow.threads
    assert late < 0.3
    assert [load.cpu for load in law.loads] == [None] * len(law.loads)


@pytest.mark.slow
@pytest.mark.real_clock
async def test_a_plain_sampler_is_read_in_a_thread_and_what_it_tells_moves_the_limit() -> None:
    threads: set[int] = set()

    class Busy:
        def sample(self) -> dict[str, float | None]:
            threads.add(threading.get_ident())
            return {"cpu": 0.99}

    crowd = Crowd(0.02)
    config = ConcurrencyConfig(8, controller=Halving(), samplers=Busy())
    step = Step.map_over("work", Step("one", crowd), items=range(500), concurrency=config)
    _, heard = await run(step)
    assert changes(heard)[:2] == [(8, 4), (4, 2)]
    assert threading.get_ident() not in threads
    assert crowd.most(0, 0.2) == 8


BURN = "import time; end = time.monotonic() + 5\nwhile time.monotonic() < end: sum(range(1000))"


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="it keeps to one core")
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_real_neighbour_takes_branches_while_it_is_there_and_no_longer(loop: str) -> None:
    """Watch threads that sleep: the neighbour alone makes the machine busy."""
    cores = len(os.sched_getaffinity(0))
    heard: list[Any] = []
    began = time.monotonic()
    running: list[tuple[float, int]] = []
    lock, now = threading.Lock(), [0]

    def waits(_: Any) -> None:
        with lock:
            now[0] += 1
            running.append((time.monotonic() - began, now[0]))
        time.sleep(0.05)
        with lock:
            now[0] -= 1

    config = ConcurrencyConfig(16, controller=Halving(0.9))
    step = Step.map_over("w", Step("one", waits), items=wait_for(began + 11), concurrency=config,
                         timeout=None)  # fmt: skip
    others = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(2 * cores)]
    try:
        result = Pipeline([step]).run_sync(1, loop=loop, observer=heard.append)
    finally:
        for each in others:
            each.kill()
            each.wait()
    assert result.success
    moved = [each for each in heard if isinstance(each, LimitChanged)]
    downs = [each for each in moved if each.new < each.old]
    assert downs, [each for each in heard if isinstance(each, LoadSampled)]
    assert downs[0].at - heard[0].at < 6
    lowest = min(each.new for each in moved)
    assert lowest <= 8
    assert min(most(running, at, at + 0.5) for at in range(2, 6)) < 16
    told = [each for each in heard if isinstance(each, LoadSampled)]
    idle = [each for each in told if each.at > told[0].at + 6 and (each.load.cpu or 1) < 0.9]
    if not idle:
        pytest.skip("others took the CPU to the end, so the limit could not come back")
    if idle[0].load.limit < 16:
        ups = [each for each in moved if each.new > each.old and each.at >= idle[0].at]
        assert ups[0].at <= idle[0].at + 0.1
        assert ups[0].reason.startswith("cpu ")


def wait_for(end: float) -> Any:
    while time.monotonic() < end:
        yield None


def most(running: list[tuple[float, int]], begin: float, end: float) -> int:
    return max((count for at, count in running if begin <= at < end), default=0)


# Drawn programs ----------------------------------------------------------------------------------

LIMITS = st.lists(st.sampled_from([*range(1, 10), math.nan, 0, 50]), min_size=1, max_size=12)


class Told:
    """Be branches that compare each start with the limit of that moment."""

    def __init__(self) -> None:
        self.running = 0
        self.limit: Callable[[], float] = lambda: math.inf
        self.above: list[tuple[int, float]] = []

    async def __call__(self, seconds: float, _: Any) -> None:
        self.running += 1
        if self.running > self.limit():
            self.above.append((self.running, self.limit()))
        try:
            await anyio.sleep(seconds)
        finally:
            self.running -= 1


async def program(
    limits: list[Any], seconds: list[float], ceiling: int, cancel_at: float | None, nests: bool
) -> None:
    before = tasks()
    told, law = Told(), Script(limits)
    config = ConcurrencyConfig(ceiling, controller=law, samplers=Machine(lambda t: {}))
    branches = {str(i): partial(told, s) for i, s in enumerate(seconds)}
    step: Any = Step.parallel("inner", branches, concurrency=config, timeout=None)
    if nests:
        step = Step.parallel("outer", {"a": step, "b": step}, concurrency=config, timeout=None)
    heard: list[Any] = []
    with anyio.move_on_after(cancel_at or math.inf) as scope:
        async with Pipeline([step]).open(1, observer=heard.append) as live:
            if not nests:
                told.limit = lambda: live.snapshot().steps[0].limit if live.snapshot().steps else 1
            async for _ in live.outcomes:
                pass
        result = live.result.step_history[0]
        assert {str(each.status) for each in result.branches.values()} == {"succeeded"}
    assert cancel_at is not None or not scope.cancelled_caught
    assert told.running == 0
    assert told.above == []
    assert all(1 <= each.new <= ceiling for each in heard if isinstance(each, LimitChanged))
    assert not new(before, tasks())


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
@hypothesis.given(
    LIMITS,
    st.lists(st.sampled_from([0.0, 0.1, 0.3, 1.0, 2.5]), min_size=2, max_size=40),
    st.integers(2, 9),
    st.one_of(st.none(), st.floats(0.01, 6)),
    st.booleans(),
)
def test_whatever_a_law_does_every_branch_ends_and_none_begins_above_the_limit(
    loop: str,
    limits: list[Any],
    seconds: list[float],
    ceiling: int,
    cancel_at: float | None,
    nests: bool,
) -> None:
    options: dict[str, Any] = {"loop_factory": VirtualLoop}
    if loop == "trio":
        options = {"clock": MockClock(autojump_threshold=0)}
    anyio.run(program, limits, seconds, ceiling, cancel_at, nests, backend=loop,
              backend_options=options)  # fmt: skip


async def test_the_regulator_passes_by_a_nursery_that_has_closed() -> None:
    host = current_host()
    regulator = host.part(Regulator)
    machine = busy_between(0, 100)
    limiters = [anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)]

    class Gone:
        due = math.inf
        limit: Any = None
        nursery: Any = None

        def rest(self) -> None: ...

    gone = Gone()
    async with host.runtime.open_nursery() as gone.nursery:
        pass
    bounds = Bounds(ceiling=4)
    async with regulated(host, limiters[1], Halving(), bounds, samplers=[machine]):
        async with regulated(host, limiters[0], Halving(), bounds, samplers=[machine]):
            await anyio.sleep(0.1)
            regulator._places = {gone: None, **regulator._places}  # type: ignore[dict-item]  # a fake
            place = regulator._at
            assert place is not None
            regulator.remove(place)
            await anyio.sleep(2.5)
            assert regulator._at not in (None, gone, place)
        regulator.remove(gone)  # type: ignore[arg-type]  # a fake
    assert [each.total_tokens for each in limiters] == [1, 4]


@pytest.mark.slow
@pytest.mark.real_clock
async def test_replaying_the_loads_of_a_run_on_the_real_machine_gives_the_same_decisions() -> None:
    config = ConcurrencyConfig(32, controller="weir")
    step = Step.map_over("w", Step("one", Crowd(0.05)), items=range(2000), timeout=3,
                         concurrency=config)  # fmt: skip
    _, heard = await run(step)
    told = [each for each in heard if isinstance(each, LoadSampled)]
    adaptive = config.adaptive()
    assert adaptive is not None
    assert adaptive.controller is not None
    assert any(each.load.cpu is not None for each in told)
    loads = [from_json(to_json(each.load)) for each in told]
    again = replay(adaptive.controller, loads, adaptive.bounds)
    assert [(each.limit, each.reason) for each in again] == [
        (each.limit, each.reason) for each in told
    ]
