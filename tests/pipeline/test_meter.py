"""The meter: one reading for all who ask at once, in a thread, and never in anybody's way."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from anabranch._runtime import current
from anabranch.pipeline import _meter
from anabranch.pipeline._meter import FRESH_S, Meter, Reading

pytestmark = pytest.mark.real_clock


class Machine:
    """Stand in for psutil: count the readings, and stop them on the way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.readings = 0
        self.memory: float | None = 100.0
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.threads: set[int] = set()
        monkeypatch.setattr(_meter, "tree", list)
        monkeypatch.setattr(_meter, "memory_mb", self.read)
        monkeypatch.setattr(_meter.CpuPercent, "percent", lambda *_: 50.0)

    def read(self, exact_above: float, processes: Any) -> float | None:
        self.readings += 1
        self.threads.add(threading.get_ident())
        self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        return self.memory


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


async def test_it_reads_in_a_thread(machine: Machine) -> None:
    assert await Meter(current()).read(0.0) == Reading(100.0, 50.0)
    assert threading.get_ident() not in machine.threads


async def test_who_ask_at_once_share_a_reading(machine: Machine) -> None:
    meter, found = Meter(current()), []

    async def ask() -> None:
        found.append(await meter.read(0.0))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
    assert found == [Reading(100.0, 50.0)] * 50
    assert machine.readings == 1


async def test_a_reading_grows_old(machine: Machine) -> None:
    meter = Meter(current())
    await meter.read(0.0)
    await anyio.sleep(FRESH_S)
    await meter.read(0.0)
    assert machine.readings == 2


async def test_a_rough_figure_does_not_do_for_who_has_a_lower_limit(machine: Machine) -> None:
    meter = Meter(current())
    await meter.read(500.0)
    await meter.read(200.0)  # 100 MB are below, however exact they are
    assert machine.readings == 1
    await meter.read(50.0)
    assert machine.readings == 2
    await meter.read(200.0)
    assert machine.readings == 2


async def test_who_is_cancelled_while_reading_leaves_it_to_the_next(machine: Machine) -> None:
    meter, found = Meter(current()), []
    scope = anyio.CancelScope()

    async def first() -> None:
        with scope:
            await meter.read(0.0)

    async def second() -> None:
        found.append(await meter.read(0.0))

    machine.go_on.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        machine.go_on.set()
    assert len(found) == 1
    assert found[0] in (Reading(100.0, 50.0), Reading(why="an earlier reading has not ended"))


async def test_a_machine_that_does_not_answer_gets_one_thread(machine: Machine) -> None:
    """However many runs come and go meanwhile; to them the load is unknown."""
    meter = Meter(current())
    machine.go_on.clear()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(meter.read, 0.0)
            while not machine.readings:
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        for _ in range(5):
            assert (await meter.read(0.0)).memory_mb is None
            await anyio.sleep(0.001)
        assert machine.readings == 1
    finally:
        machine.go_on.set()


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("odd")])
async def test_what_raises_is_unknown_and_says_why(machine: Machine, error: Exception) -> None:
    machine.error = error
    meter = Meter(current())
    assert await meter.read(0.0) == Reading(why=repr(error))
    machine.error = None
    await anyio.sleep(FRESH_S)
    assert await meter.read(0.0) == Reading(100.0, 50.0)
