"""What the machine is read by from run to run: CPU goes on, own memory begins anew."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from anabranch import _sampling
from anabranch._host import current_host
from anabranch._sampling import Readings
from anabranch.samplers import OwnMemory

MB = 2**20


class Process:
    """Be this process, of a size that a test sets."""

    def __init__(self) -> None:
        self.rss = 500 * MB

    def memory_info(self) -> Process:
        return self

    def create_time(self) -> float:
        return 0.0


class Cpu:
    """Be a sampler that keeps nothing."""

    def sample(self) -> dict[str, float]:
        return {"cpu": 0.5}


async def own_memory(reading: _sampling.Reading) -> Any:
    return (await reading.read(real=True))["own_memory"]


@pytest.mark.real_clock
async def test_memory_gained_between_two_runs_is_not_the_branches_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sampling, "LIMIT_S", 60)  # a machine that stalls is another test's
    process: Any = Process()
    sampler = OwnMemory(lambda: [process])
    monkeypatch.setattr(_sampling, "default_samplers", lambda: (sampler, Cpu()))
    readings = Readings(current_host().runtime)
    for given in (None, (sampler, Cpu())):
        first = readings.take(given)
        assert await own_memory(first) == 0
        process.rss += 100 * MB
        second = readings.take(given)  # while the first goes on
        assert second is first
        assert await own_memory(second) == 100 * MB
        readings.leave(given)
        assert await own_memory(second) == 100 * MB
        readings.leave(given)
        process.rss += 300 * MB
        assert await own_memory(readings.take(given)) == 0
        readings.leave(given)


@pytest.mark.real_clock
async def test_looks_that_are_close_share_a_reading_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sampling, "SAME_S", 60)
    process: Any = Process()
    readings = Readings(current_host().runtime)
    reading = readings.take((OwnMemory(lambda: [process]),))
    assert await own_memory(reading) == 0
    process.rss += 100 * MB
    assert (await reading.read(real=True, recent=True))["own_memory"] == 0
    assert await own_memory(reading) == 100 * MB
    monkeypatch.setattr(_sampling, "SAME_S", 0)
    process.rss += 100 * MB
    assert (await reading.read(real=True, recent=True))["own_memory"] == 200 * MB
    reading.forget()
    monkeypatch.setattr(_sampling, "SAME_S", 60)
    assert (await reading.read(real=True, recent=True))["own_memory"] == 0


@pytest.mark.real_clock
async def test_without_a_thread_to_be_had_the_machine_is_unknown_and_read_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reading = Readings(current_host().runtime).take((Cpu(),))

    async def none(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(current_host().runtime.to_thread, "run_sync", none)
        assert [await reading.read(real=True) for _ in range(3)] == [{}, {}, {}]
    assert (await reading.read(real=True))["cpu"] == 0.5
    assert len([each for each in caplog.messages if "can't start new thread" in each]) == 1


@pytest.mark.real_clock
async def test_a_reading_that_has_not_come_back_is_not_asked_again() -> None:
    asked = []

    class Slow:
        def sample(self) -> dict[str, float]:
            asked.append(threading.current_thread())
            go_on.wait(10)
            return {"cpu": 0.5}

    go_on = threading.Event()
    runtime = current_host().runtime
    reading = _sampling.Reading([Slow()], runtime)
    async with runtime.open_nursery() as nursery:
        nursery.start_soon(partial(reading.read, real=True))
        while not asked:
            await runtime.sleep(0.001)
        assert await reading.read(real=True) == {}
        go_on.set()
    assert len(asked) == 1
    assert (await reading.read(real=True))["cpu"] == 0.5


@pytest.mark.real_clock
async def test_where_no_thread_can_be_had_the_load_is_unknown_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    runtime = current_host().runtime
    reading = _sampling.Reading([Cpu()], runtime)
    with monkeypatch.context() as patch:
        patch.setattr(runtime.to_thread, "run_sync", refused)
        for _ in range(3):
            assert await reading.read(real=True) == {}
    assert caplog.text.count("cannot be read now") == 1
    assert (await reading.read(real=True))["cpu"] == 0.5, "there are threads again"
