"""Outcomes: in the order of completion, while others still run."""

import anyio

from anabranch._open import open_scheduler
from tests.branches import read, sleep, submit


async def test_outcomes_come_in_the_order_of_completion_and_at_once():
    async with open_scheduler(5) as scheduler:
        start = anyio.current_time()
        for i in range(5):
            submit(scheduler, str(i), sleep, 5 - i)
        at = [(o.key, round(anyio.current_time() - start)) async for o in scheduler.outcomes]
    assert at == [("4", 1), ("3", 2), ("2", 3), ("1", 4), ("0", 5)]


async def test_reading_ends_when_nothing_is_left_and_goes_on_after_a_later_job():
    async with open_scheduler(2) as scheduler:
        assert await read(scheduler) == {}
        for turn in range(3):
            submit(scheduler, f"a {turn}", sleep, 1)
            submit(scheduler, f"b {turn}", sleep, 2)
            assert set(await read(scheduler)) == {f"a {turn}", f"b {turn}"}


async def test_two_readers_share_the_outcomes_and_both_end():
    read_by = {"one": [], "two": []}

    async def reads(name, outcomes):
        async for outcome in outcomes:
            read_by[name].append(outcome.key)
            await anyio.sleep(0.5)

    async with open_scheduler(4) as scheduler:
        for i in range(20):
            submit(scheduler, str(i), sleep, 1)
        async with anyio.create_task_group() as group:
            for name in read_by:
                group.start_soon(reads, name, scheduler.outcomes)
    assert sorted(read_by["one"] + read_by["two"], key=int) == [str(i) for i in range(20)]
    assert read_by["one"]
    assert read_by["two"]


async def test_a_reader_that_leaves_early_leaves_the_rest_for_later():
    async with open_scheduler(2) as scheduler:
        for i in range(6):
            submit(scheduler, str(i), sleep, 1)
        async for _ in scheduler.outcomes:
            break
    assert len(await read(scheduler)) == 5


async def test_a_cancelled_reader_loses_nothing():
    async with open_scheduler(2) as scheduler:
        for i in range(6):
            submit(scheduler, str(i), sleep, 1)
        found = {}
        for _ in range(30):
            with anyio.move_on_after(0.3):
                async for outcome in scheduler.outcomes:
                    found[outcome.key] = outcome
        assert len(found) == 6


async def test_a_reader_in_another_task_ends_with_the_scheduler():
    found = []

    async def reads(outcomes):
        found.extend([o.key async for o in outcomes])

    async with anyio.create_task_group() as group, open_scheduler(1) as scheduler:
        submit(scheduler, "first", sleep, 1)
        group.start_soon(reads, scheduler.outcomes)
        await anyio.sleep(0.5)
        submit(scheduler, "second", sleep, 1)
    assert found == ["first", "second"]


async def test_a_branch_may_read_the_outcomes_of_its_siblings():
    async def reads():
        first = await anext(scheduler.outcomes)
        return first.key

    async with open_scheduler(2) as scheduler:
        submit(scheduler, "reads", reads)
        submit(scheduler, "sibling", sleep, 1)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 5)
        assert [o.value async for o in scheduler.outcomes] == ["sibling"]
