"""Faults 21, 22 and 23: variables that leak, generators that are dropped, clocks that jump."""

import contextvars
import gc
import re
import time
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import anabranch
from anabranch import Job, Pipeline, Status, Step, open_scheduler
from anabranch.observe import Journal
from tests.branches import read
from tests.lanes import calls

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")
ROOT = Path(anabranch.__file__).parent
WALL_TIME = {  # shown to people, and never subtracted
    "cli/_exec_job.py": "when a job began, in a joblog",
    "observe/_journal.py": "when a branch ended, in a journal",
    "workerpool/_clock.py": "when a task began and ended, in its result",
}


async def sets_on_the_loop(name):
    before = VARIABLE.get()
    VARIABLE.set(name)
    await anyio.sleep(0.001)
    return before, VARIABLE.get()


def sets_in_a_thread(name):
    before = VARIABLE.get()
    VARIABLE.set(name)
    return before, VARIABLE.get()


async def sets_in_a_generator(name):
    async def numbers():
        VARIABLE.set(name)
        yield VARIABLE.get()

    before = VARIABLE.get()
    async with aclosing(numbers()) as generator:
        return before, await anext(generator)


async def sets_in_a_child_task(name):
    async with anyio.create_task_group() as group:
        group.start_soon(sets_on_the_loop, name + "'s child")
    return await sets_on_the_loop(name)


@pytest.mark.real_clock
@pytest.mark.parametrize(
    "fn", [sets_on_the_loop, sets_in_a_thread, sets_in_a_generator, sets_in_a_child_task]
)
async def test_fault_21_what_a_branch_sets_no_other_sees(fn):
    VARIABLE.set("the caller's")
    async with open_scheduler(1) as scheduler:
        for i in range(4):
            scheduler.submit(Job(str(i), fn, (f"of {i}",)))
        found = await read(scheduler)
    assert {o.value for o in found.values()} == {("the caller's", f"of {i}") for i in range(4)}
    step = Step.map_over("m", fn, items=[f"of {i}" for i in range(4)], max_concurrency=1)
    found = (await Pipeline([step]).run()).unwrap()
    assert found == [("the caller's", f"of {i}") for i in range(4)]
    assert VARIABLE.get() == "the caller's"


@pytest.mark.real_clock
@pytest.mark.slow
async def test_fault_21_a_child_process_is_given_none_as_the_page_on_lanes_says():
    calls.VARIABLE.set("the parent's")
    async with open_scheduler(1) as scheduler:
        scheduler.submit(Job("a", calls.variable, lane="cpu"))
        assert (await read(scheduler))["a"].value == "its own"
    page = (ROOT.parent.parent / "docs/explanation/lanes.md").read_text()
    assert "Context variables do not cross" in page


async def test_fault_22_leaving_a_live_run_early_leaves_no_task_and_no_warning():
    running = 0

    async def branch(_):
        nonlocal running
        running += 1
        try:
            await anyio.sleep(1 if running == 1 else 1000)
        finally:
            running -= 1

    step = Step.parallel({f"b{i}": branch for i in range(5)}, timeout=None)
    began = anyio.current_time()
    with pytest.raises(KeyError):
        async with Pipeline([step]).open(1) as run:
            async for _ in run.outcomes:
                raise KeyError
    assert (running, anyio.current_time() - began) == (0, pytest.approx(1))
    del run
    gc.collect()


async def test_fault_22_outcomes_that_nobody_reads_to_the_end_hold_nothing():
    async def first():
        async with open_scheduler(2) as scheduler:
            for i in range(5):
                scheduler.submit(Job(str(i), anyio.sleep, (i,)))
            return await anext(aiter(scheduler.outcomes))

    assert (await first()).status is Status.SUCCEEDED
    gc.collect()
    await anyio.lowlevel.checkpoint()


@pytest.mark.real_clock
async def test_fault_23_a_wall_clock_that_is_set_back_makes_no_duration_negative(
    monkeypatch, tmp_path
):
    real, steps = time.time, []

    def jumps():
        steps.append(None)
        return real() - 3600 * len(steps)

    monkeypatch.setattr(time, "time", jumps)
    step = Step.parallel({"a": sets_on_the_loop, "b": sets_in_a_thread}, timeout=20)
    result = await Pipeline([step]).run("x")
    whole = [result.step_history[0], *result.step_history[0].branches.values()]
    assert all(each.latency_s >= 0 and each.queued_s >= 0 for each in whole)
    assert 0 <= result.duration < 10
    with Journal(tmp_path / "journal") as journal:
        async with open_scheduler(2, recorder=journal) as scheduler:
            for i in range(3):
                scheduler.submit(Job(str(i), anyio.sleep, (0.001,)))
        assert all(each.ran_s > 0 and each.queued_s >= 0 for each in journal.entries())
    assert steps, "the journal says at what time of day a branch ended"


def test_fault_23_the_time_of_day_is_read_only_where_it_is_shown():
    wall = re.compile(r"\btime\.time(_ns)?\(|datetime\.(now|utcnow|today)\(")
    found = {
        file.relative_to(ROOT).as_posix()
        for file in ROOT.rglob("*.py")
        if wall.search(file.read_text())
    }
    assert found == set(WALL_TIME)
