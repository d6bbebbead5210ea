"""Faults 24 and 25: branches and errors without number, and consumers that stall."""

import gc
import threading
import time
import traceback
import tracemalloc

import anyio
import pytest

from anabranch import EventsMissed, Job, Pipeline, Step, _observers, open_scheduler
from tests.branches import no_checkpoint

FEW, MANY = 500, 5_000


async def nothing(_=None):
    return None


async def peak_of(run, count):
    gc.collect()
    tracemalloc.start()
    try:
        await run(count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def fed(count):
    async with open_scheduler(4) as scheduler:
        scheduler.feed(Job(str(i), no_checkpoint) for i in range(count))
        read = 0
        async for _ in scheduler.outcomes:
            read += 1
    assert read == count


async def streamed(count):
    step = Step.map_over("m", nothing, items=(i for i in range(count)), max_concurrency=4)
    async with Pipeline([step]).open() as run:
        read = 0
        async for _ in run.outcomes:
            read += 1
    assert read == count
    assert run.result.step_history[0].counts["succeeded"] == count


@pytest.mark.slow
@pytest.mark.parametrize("run", [fed, streamed])
async def test_fault_24_memory_is_flat_over_a_lazy_iterable(run):
    await run(FEW)  # what is made once
    few = await peak_of(run, FEW)
    # Whoever reads may be late for once, by as many as a busy machine lets wait; never each time.
    many = min([await peak_of(run, MANY) for _ in range(3)])
    assert many < 1.5 * few, f"{FEW:,} branches {few:,} bytes, {MANY:,} {many:,}"


async def test_fault_24_an_iterable_without_an_end_is_pulled_only_as_fast_as_it_runs():
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield Job(str(pulled), anyio.sleep, (1,))

    with anyio.move_on_after(10.5):
        async with open_scheduler(5) as scheduler:
            scheduler.feed(endless())
            async for _ in scheduler.outcomes:
                pass
    assert 50 <= pulled <= 60 + 2 * 5


@pytest.mark.slow
async def test_fault_24_a_group_of_thousands_of_errors_is_shown_in_a_few_lines():
    async def fails(item):
        raise ValueError(item)

    step = Step.map_over("m", fails, items=range(5_000), max_concurrency=10)
    result = await Pipeline([step]).run()
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    shown = "".join(traceback.format_exception(caught.value))
    assert len(shown) < 20_000
    assert "more" in shown
    assert len(repr(result.step_history[0])) < 10_000
    assert len(result.step_history[0]._repr_html_()) < 20_000
    assert len(result.step_history[0].feedback) < 1_000


@pytest.mark.real_clock
@pytest.mark.slow
async def test_fault_25_an_observer_that_stalls_costs_no_pace_no_memory_and_is_told(
    monkeypatch, catch_up_s
):
    monkeypatch.setattr(_observers, "CAPACITY", 100)
    monkeypatch.setattr(_observers, "CATCH_UP_S", catch_up_s)
    goes_on, heard = threading.Event(), []

    def stalls(event):
        goes_on.wait(60)
        heard.append(event)

    async def run(count):
        async with open_scheduler(4, observer=stalls) as scheduler:
            for i in range(count):
                scheduler.submit(Job(str(i), no_checkpoint))

    try:
        began = time.perf_counter()
        await run(2_000)
        assert time.perf_counter() - began < 20
    finally:
        goes_on.set()
    give_up = time.monotonic() + 5
    while not (heard and isinstance(heard[-1], EventsMissed)):
        assert time.monotonic() < give_up
        await anyio.sleep(0.001)
    assert len(heard) <= 102
    assert heard[-1].count + len(heard) - 1 == 3 * 2_000, "queued, started, finished"


async def test_fault_25_a_reader_that_stalls_holds_a_feed_back_and_no_submitted_job():
    begun = 0

    async def counts():
        nonlocal begun
        begun += 1

    async with open_scheduler(3) as scheduler:
        for i in range(50):
            scheduler.submit(Job(f"submitted {i}", counts))
        await anyio.sleep(10)
        assert begun == 50
        scheduler.feed(Job(f"fed {i}", counts) for i in range(1_000))
        await anyio.sleep(10)
        assert begun <= 50 + 2 * 3 + 3, "no more than twice the limit are unread"
        read = 0
        async for _ in scheduler.outcomes:
            read += 1
    assert read == 1_050
