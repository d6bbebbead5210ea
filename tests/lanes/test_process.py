"""The cpu lane: what crosses into a process and back, and what cannot."""

import asyncio
import os

import anyio
import psutil
import pytest

from anabranch import Pipeline, Step
from anabranch._host import current_host
from anabranch._open import open_scheduler
from anabranch.errors import LaneError
from anabranch.lanes._process import CPU_LANE, cpu_limiter
from tests.branches import read, statuses, submit
from tests.lanes import calls

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.slow,
]


def run(fn, *args, **kwargs):
    return CPU_LANE.run(fn, args, kwargs)


async def works_afterwards():
    assert await run(calls.add, 20, two=22) == 42
    assert current_host().part(cpu_limiter).borrowed_tokens == 0


async def test_a_call_runs_in_another_process():
    assert await run(calls.pid) != os.getpid()
    await works_afterwards()


async def test_results_come_through_the_scheduler():
    async with open_scheduler(4) as scheduler:
        for i in range(6):
            submit(scheduler, str(i), calls.add, i, lane="cpu")
        submit(scheduler, "bad", calls.raises, KeyError("k"), lane="cpu")
        found = await read(scheduler)
    assert [found[str(i)].value for i in range(6)] == [1, 2, 3, 4, 5, 6]
    assert isinstance(found["bad"].error, KeyError)
    assert found["bad"].status == "failed"


async def test_an_exception_comes_back_with_its_traceback():
    with pytest.raises(ValueError, match="seven") as caught:
        await run(int, "seven")
    assert "in a process of lane='cpu'" in caught.value.__notes__[0]
    with pytest.raises(KeyError) as caught:
        await run(calls.raises, KeyError("k"))
    assert "calls.py" in caught.value.__notes__[0]
    await works_afterwards()


@pytest.mark.parametrize(
    ("fn", "args", "says"),
    [
        (calls.raises_two, (), "TwoArgumentsError"),
        (calls.raises_lock, (), "holds a lock"),
        (calls.returns_lock, (), "result of returns_lock"),
        (calls.returns_poison, (), "returns_poison"),
        (lambda: 1, (), "the function"),
        (calls.add, (1, calls.Stubborn()), "argument 1"),
        (calls.add, (calls.Poisoned(),), "exploded"),
        (calls.add, (calls.Leaving(),), "SystemExit(3)"),
        (calls.kills_itself, (), "kills_itself died"),
        (calls.exits, (3,), "exits died"),
        (calls.leaves, (3,), "leaves called sys.exit(3)"),
        (calls.leaves, ("words",), "leaves called sys.exit('words')"),
        (calls.leaves, (), "leaves called sys.exit(None)"),
        (calls.leaves_untold, (), "leaves_untold called sys.exit(<Untold"),
        (calls.raises_untold, (), "raised <UntoldError, whose repr raises>"),
        (calls.raises_base, (KeyboardInterrupt,), "raises_base raised KeyboardInterrupt"),
        (calls.raises_base, (GeneratorExit,), "raises_base raised GeneratorExit"),
        (calls.raises_base, (asyncio.CancelledError,), "raises_base raised CancelledError"),
    ],
)
async def test_what_the_lane_cannot_carry_is_named_and_it_works_afterwards(fn, args, says):
    with pytest.raises(LaneError) as caught:
        await run(fn, *args)
    assert says in str(caught.value)
    await works_afterwards()


async def test_a_call_that_exits_says_where_and_its_process_goes_on():
    before = await run(calls.pid)
    with pytest.raises(LaneError) as caught:
        await run(calls.leaves, 3)
    note = caught.value.__notes__[0]
    assert "calls.py" in note
    assert "sys.exit(code)" in note
    assert await run(calls.pid) == before


async def test_a_call_that_exits_fails_alone():
    step = Step.parallel(
        "s",
        {
            "exits": Step("exits", calls.leaves, lane="cpu"),
            "adds": Step("adds", calls.add, lane="cpu"),
        },
    )
    result = await Pipeline([step]).run(3)
    branches = result.step_history[0].branches
    assert branches["adds"].output == 4
    assert branches["exits"].status == "failed"
    assert isinstance(branches["exits"].error, LaneError)
    await works_afterwards()


async def test_a_keyword_that_cannot_be_pickled_is_named():
    with pytest.raises(LaneError, match="argument two"):
        await run(calls.add, 1, two=calls.Stubborn())


async def test_an_argument_whose_repr_raises_is_named_all_the_same():
    class Shy:
        def __reduce__(self):
            raise TypeError("shy")

        def __repr__(self):
            raise RuntimeError("no repr")

    with pytest.raises(LaneError, match="argument 0"):
        await run(calls.add, Shy())


async def test_a_killed_process_fails_its_call_alone():
    async with open_scheduler(2) as scheduler:
        submit(scheduler, "killed", calls.kills_itself, lane="cpu")
        for i in range(4):
            submit(scheduler, str(i), calls.add, i, lane="cpu")
        found = await read(scheduler)
    assert statuses(found) == {"failed": 1, "succeeded": 4}
    assert isinstance(found["killed"].error, LaneError)


async def test_a_cancelled_call_kills_its_process(tmp_path):
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(run, calls.sleeps_and_tells, tmp_path / "pid", 60)
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert not scope.cancelled_caught
    pid = int((tmp_path / "pid").read_text())
    with anyio.fail_after(2):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            await anyio.sleep(0.01)
    await works_afterwards()


async def test_a_timeout_over_a_call_kills_its_process(tmp_path):
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "warm", calls.pid, lane="cpu")
        submit(
            scheduler, "slow", calls.sleeps_and_tells, tmp_path / "p", 60, lane="cpu", timeout=0.3
        )
        found = await read(scheduler)
    assert found["slow"].status == "timed_out"
    await works_afterwards()


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.05, 0.15])
async def test_a_call_that_is_cancelled_while_its_process_starts_leaves_no_other(moment):
    before = {child.pid for child in psutil.Process().children()}
    with anyio.move_on_after(moment):
        await run(calls.sleeps_and_tells, os.devnull, 60)
    await works_afterwards()
    with anyio.fail_after(3):
        while len({child.pid for child in psutil.Process().children()} - before) > 1:
            await anyio.sleep(0.01)


async def test_many_calls_cancelled_at_any_moment_leave_the_lane_working():
    with anyio.move_on_after(1):
        while True:
            with anyio.move_on_after(0.05):
                async with anyio.create_task_group() as group:
                    for _ in range(3):
                        group.start_soon(run, calls.pid)
    await works_afterwards()


async def test_large_values_pass():
    assert len(await run(calls.big, 10_000_000)) == 10_000_000


async def test_what_a_call_prints_harms_nothing():
    assert await run(calls.prints_a_lot) == "printed"


async def test_no_more_processes_run_than_there_are_cores():
    limiter = current_host().part(cpu_limiter)
    assert limiter.total_tokens >= 1
    limiter.total_tokens = 1
    async with open_scheduler(4) as scheduler:
        for i in range(4):
            submit(scheduler, str(i), calls.pid, lane="cpu")
        found = await read(scheduler)
    assert len({o.value for o in found.values()}) == 1
