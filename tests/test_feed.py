"""Feeding: pulled only as fast as branches run and outcomes are read."""

import itertools
import tracemalloc

import anyio
import pytest

from anabranch._open import open_scheduler
from anabranch._work import Job
from anabranch.errors import ConfigurationError, DuplicateKeyError
from tests.branches import Watch, no_checkpoint, read, sleep, statuses, submit


class Pulled:
    """Make jobs, and count how many were asked for."""

    def __init__(self, count=None, fn=sleep, *args):
        self.count = 0
        self.closed = False
        self._numbers = itertools.count() if count is None else range(count)
        self._fn, self._args = fn, args or (1,)

    def plain(self):
        try:
            for i in self._numbers:
                self.count += 1
                yield Job(str(i), self._fn, self._args)
        finally:
            self.closed = True

    async def slow(self, seconds=0):
        try:
            for i in self._numbers:
                await anyio.sleep(seconds)
                self.count += 1
                yield Job(str(i), self._fn, self._args)
        finally:
            self.closed = True

    def of(self, kind):
        return self.plain() if kind == "plain" else self.slow()


kinds = pytest.mark.parametrize("kind", ["plain", "async"])


@kinds
async def test_everything_that_is_fed_runs_once(kind):
    watch = Watch()
    pulled = Pulled(100, watch.sleeps, "x", 0.01)
    async with open_scheduler(4) as scheduler:
        scheduler.feed(pulled.of(kind))
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 100}
    assert watch.peak == 4
    assert pulled.closed


@kinds
async def test_everything_that_is_fed_runs_though_nobody_reads(kind):
    watch = Watch()
    async with open_scheduler(4) as scheduler:
        scheduler.feed(Pulled(100, watch.sleeps, "x", 0.01).of(kind))
    assert len(watch.started) == 100


@kinds
async def test_nothing_is_pulled_before_a_token_is_free(kind):
    pulled = Pulled(None)
    with anyio.move_on_after(10.5):
        async with open_scheduler(3) as scheduler:
            scheduler.feed(pulled.of(kind))
            async for outcome in scheduler.outcomes:
                assert pulled.count <= outcome.order + 1 + 2 * 3
    assert 30 <= pulled.count <= 36


@kinds
async def test_at_most_two_limits_worth_of_outcomes_are_unread(kind):
    pulled = Pulled(100)
    async with open_scheduler(3) as scheduler:
        scheduler.feed(pulled.of(kind))
        await anyio.sleep(100)
        assert 6 <= pulled.count <= 6 + 3
        for _ in range(4):
            await anext(scheduler.outcomes)
        await anyio.sleep(100)
        assert 10 <= pulled.count <= 10 + 3
        assert len(await read(scheduler)) == 96


@kinds
async def test_an_infinite_feed_ends_when_it_is_stopped(kind):
    pulled = Pulled(None)
    async with open_scheduler(3) as scheduler:
        scheduler.feed(pulled.of(kind))
        async for outcome in scheduler.outcomes:
            if outcome.order == 20:
                break
        scheduler.stop("enough")
    assert pulled.count <= 21 + 9
    assert pulled.closed
    assert len(await read(scheduler)) == pulled.count - 21


@kinds
async def test_an_infinite_feed_ends_with_an_error_of_the_block(kind):
    pulled = Pulled(None)
    with pytest.raises(KeyError):
        async with open_scheduler(3) as scheduler:
            scheduler.feed(pulled.of(kind))
            await anyio.sleep(5.5)
            raise KeyError
    count = pulled.count
    await anyio.sleep(100)
    assert pulled.count == count
    assert len(await read(scheduler)) == count


@kinds
async def test_an_infinite_feed_ends_with_a_cancellation(kind):
    pulled = Pulled(None)
    with anyio.move_on_after(5.5):
        async with open_scheduler(3) as scheduler:
            scheduler.feed(pulled.of(kind))
            await anyio.sleep(100)
    with anyio.fail_after(1):
        assert len(await read(scheduler)) == pulled.count


@kinds
async def test_what_an_iterable_raises_cancels_all_and_comes_out(kind):
    def plain():
        yield Job("a", sleep, (10,))
        raise ValueError("no more")

    async def slow():
        for job in plain():
            yield job

    before = anyio.current_time()
    with pytest.raises(ValueError, match="no more"):
        async with open_scheduler(3) as scheduler:
            submit(scheduler, "b", sleep, 10)
            scheduler.feed(plain() if kind == "plain" else slow())
            await read(scheduler)
    assert anyio.current_time() - before < 1


@kinds
@pytest.mark.parametrize(
    ("bad", "error"),
    [(3, ConfigurationError), (Job("same", sleep, (5,)), DuplicateKeyError)],
    ids=["no job", "same key"],
)
async def test_what_cannot_be_accepted_is_told_and_stops_all(kind, bad, error):
    def plain():
        yield Job("same", sleep, (5,))
        yield bad

    async def slow():
        for job in plain():
            yield job

    with pytest.raises(error):
        async with open_scheduler(3) as scheduler:
            scheduler.feed(plain() if kind == "plain" else slow())
    assert statuses(await read(scheduler)) == {"cancelled": 1}


@kinds
@pytest.mark.parametrize("count", [0, 1])
async def test_a_feed_of_few_ends(kind, count):
    async with open_scheduler(3) as scheduler:
        scheduler.feed(Pulled(count).of(kind))
        with anyio.fail_after(5):
            assert len(await read(scheduler)) == count
            assert len(await read(scheduler)) == 0


async def test_an_async_feed_that_ends_after_the_last_outcome_ends_the_reading():
    async def slow():
        yield Job("a", sleep, (1,))
        await anyio.sleep(10)

    async with open_scheduler(3) as scheduler:
        scheduler.feed(slow())
        with anyio.fail_after(20):
            assert len(await read(scheduler)) == 1


@kinds
async def test_a_limit_of_0_pauses_a_feed_and_a_larger_one_resumes_it(kind):
    limiter = anyio.CapacityLimiter(0)
    pulled = Pulled(20)
    async with open_scheduler(limiter) as scheduler:
        scheduler.feed(pulled.of(kind))
        await anyio.sleep(10)
        assert pulled.count == 0
        limiter.total_tokens = 2
        with anyio.fail_after(50):
            assert len(await read(scheduler)) == 20


async def test_what_is_submitted_comes_before_what_is_fed():
    watch = Watch()
    async with open_scheduler(1) as scheduler:
        scheduler.feed(Job(f"fed {i}", watch.sleeps, ("fed", 1)) for i in range(5))
        await anyio.sleep(0.5)
        for i in range(5):
            submit(scheduler, str(i), watch.sleeps, "submitted", 1)
        found = await read(scheduler)
    assert watch.started == ["fed", *["submitted"] * 5, *["fed"] * 4]
    assert len(found) == 10


async def test_several_feeds_are_pulled_one_after_the_other():
    watch = Watch()
    async with open_scheduler(2) as scheduler:
        for name in "ab":
            scheduler.feed([Job(f"{name}{i}", watch.sleeps, (name, 1)) for i in range(6)])
        assert len(await read(scheduler)) == 12
    assert watch.started == ["a"] * 6 + ["b"] * 6


async def test_plain_and_async_feeds_and_jobs_run_together():
    plain, slow = Pulled(20), Pulled(20)
    async with open_scheduler(3) as scheduler:
        scheduler.feed(Job(f"plain {job.key}", sleep, (1,)) for job in plain.plain())

        async def renamed():
            async for job in slow.slow(0.3):
                yield Job(f"async {job.key}", sleep, (1,))

        scheduler.feed(renamed())
        for i in range(20):
            submit(scheduler, str(i), sleep, 1)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 60}


async def test_an_async_generator_may_hold_a_nursery_and_is_closed_in_its_own_task():
    async def holds():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 3)
            yield Job("a", sleep, (1,))

    async with open_scheduler(2) as scheduler:
        scheduler.feed(holds())
        assert statuses(await read(scheduler)) == {"succeeded": 1}


@pytest.mark.parametrize("elements", [None, 3, sleep])
async def test_what_cannot_be_iterated_is_refused(elements):
    async with open_scheduler(1) as scheduler:
        with pytest.raises(ConfigurationError, match="not iterable"):
            scheduler.feed(elements)


@kinds
@pytest.mark.slow
async def test_a_long_feed_needs_no_more_memory_than_a_short_one(kind):
    async def run(count):
        async with open_scheduler(10) as scheduler:
            scheduler.feed(Pulled(count, no_checkpoint, None).of(kind))
            async for _ in scheduler.outcomes:
                pass

    await run(200)
    tracemalloc.start()
    try:
        await run(4000)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lazy", [False, True])
async def test_a_limit_that_shrinks_and_grows_again_is_used_at_once(lazy):
    began = []
    start = anyio.current_time()

    async def work(key, seconds):
        began.append((key, round(anyio.current_time() - start, 3)))
        await anyio.sleep(seconds)

    def jobs():
        for number in range(10):
            yield Job(f"{number}", work, (number, 1 if not number else 100))

    async def one_by_one():
        for job in jobs():
            yield job

    async with open_scheduler(3) as scheduler, anyio.create_task_group() as group:

        async def read():
            async for _ in scheduler.outcomes:
                pass

        scheduler.feed(one_by_one() if lazy else jobs())
        group.start_soon(read)
        for at, limit in ((0.5, 1), (1.5, 3)):
            await anyio.sleep(at - (anyio.current_time() - start))
            scheduler.limiter.total_tokens = limit
        await anyio.sleep(1)
        assert began[3:] == [(3, 1.5)]
        scheduler.stop("seen")
