"""What holds for every lane, on both loops: results, errors, cancellation, limits, nesting."""

import os
import time
from functools import partial

import anyio
import psutil
import pytest

from anabranch import Job, LaneError, Pipeline, Status, Step, open_scheduler
from anabranch.abc import Lane
from anabranch.lanes._process import CPU_LANE
from tests.branches import read
from tests.conformance import calls
from tests.conformance.lanes import SUBJECTS, Subject

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]
each = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
TINY = 1


@pytest.fixture
def lane(subject: Subject):
    with subject.opens() as lane:
        yield lane


async def outcomes(lane, subject, *jobs, limit=4, **options):
    """Run calls ``(fn, *args)`` as branches, and return how each ended."""
    async with open_scheduler(limit) as scheduler:
        for number, (fn, *args) in enumerate(jobs):
            said, given = subject.says(fn, *args)
            scheduler.submit(Job(str(number), said, given, lane=lane, **options))
        found = await read(scheduler)
    return [found[str(number)] for number in range(len(jobs))]


@each
async def test_what_a_call_returns_is_the_value_of_its_branch(lane, subject):
    found = await outcomes(lane, subject, *[(calls.add, i, 10) for i in range(5)])
    assert [subject.value(outcome.value) for outcome in found] == [10, 11, 12, 13, 14]


@each
async def test_what_a_call_raises_fails_its_branch_alone(lane, subject):
    bad, good = await outcomes(lane, subject, (calls.raises, "the words"), (calls.add, 1))
    assert (bad.status, good.status) == (Status.FAILED, Status.SUCCEEDED)
    assert isinstance(bad.error, subject.raises)
    assert "the words" in str(bad.error)


@each
async def test_a_branch_that_timed_out_is_told_so_and_the_lane_goes_on(lane, subject, tmp_path):
    if subject.name == "inline":
        pytest.skip("a call where it stands holds the loop: nothing can strike it")
    began = time.monotonic()
    (late,) = await outcomes(lane, subject, (calls.sleeps, 1.5), timeout=0.4)
    assert time.monotonic() - began < 1.4 or not subject.stops
    assert late.status in (Status.TIMED_OUT, Status.ABANDONED)
    assert "0.4 s" in late.reason
    (after,) = await outcomes(lane, subject, (calls.add, 1))
    assert subject.value(after.value) == 2
    if not subject.stops:
        await anyio.sleep(1.5)  # its thread ends, and nothing is left


@each
async def test_a_call_that_is_cancelled_is_stopped_before_the_cancellation_goes_on(
    lane, subject, tmp_path
):
    if not subject.stops:
        pytest.skip("a thread, and a call of somebody else's executor, cannot be stopped")
    path = tmp_path / "pid"

    async def until_begun():
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(partial(outcomes, lane, subject, (calls.sleeps, 60, str(path))))
        await until_begun()
        group.cancel_scope.cancel()
    pid = int(path.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@each
async def test_a_limit_of_one_runs_one_call_after_another(lane, subject):
    jobs = [(calls.sleeps, 0.05)] * 4
    began = time.monotonic()
    found = await outcomes(lane, subject, *jobs, limit=TINY)
    assert time.monotonic() - began >= 0.2
    assert {outcome.status for outcome in found} == {Status.SUCCEEDED}


@each
async def test_a_step_in_a_step_on_limiters_of_one_ends(lane, subject):
    """Three deep, each with one token: a parent lends its own."""
    fn, args = subject.says(calls.add, 1)
    leaf = Step("leaf", lambda _: fn(*args) if lane != "cpu" else 2, lane=lane)
    if subject.pickles:
        leaf = Step("leaf", calls.add, lane=lane)
    step = leaf
    for depth in range(3):
        step = Step.parallel(f"s{depth}", {"a": step, "b": step}, max_concurrency=TINY)
    limiter = anyio.CapacityLimiter(TINY)
    with anyio.fail_after(30):
        result = await Pipeline([step]).run(1, limiter=limiter)
    assert result.success, result
    assert limiter.borrowed_tokens == 0


@each
async def test_a_call_from_inside_a_call_on_limiters_of_one_ends(lane, subject):
    if subject.nests:
        pytest.skip(subject.nests)

    async def inner():
        (found,) = await outcomes(lane, subject, (calls.add, 1), limit=TINY)
        return found.value

    def outer():
        return anyio.from_thread.run(inner)

    fn = inner if subject.name == "inline" else outer
    with anyio.fail_after(5):
        (found,) = await outcomes(lane, subject, (fn,), limit=TINY)
    assert found.value == 2


@each
async def test_what_cannot_be_pickled_is_named_and_the_lane_goes_on(lane, subject):
    if not subject.pickles:
        pytest.skip("nothing is pickled here")
    local, argument, result, good = await outcomes(
        lane,
        subject,
        (lambda: 1,),
        (calls.add, calls.lock()),
        (calls.lock,),
        (calls.add, 1),
    )
    for outcome, words in ((local, "the function"), (argument, "argument 0"), (result, "result")):
        assert isinstance(outcome.error, LaneError), outcome
        assert words in str(outcome.error)
    assert good.value == 2


@each
async def test_a_call_runs_where_its_lane_says(lane, subject):
    (found,) = await outcomes(lane, subject, (calls.where,))
    pid, thread = subject.value(found.value)
    (here,) = await outcomes("inline", SUBJECTS[0], (calls.where,))
    same_process = subject.name in ("inline", "thread", "executor of threads")
    assert (pid == os.getpid()) is same_process
    assert (thread == here.value[1]) is (subject.name == "inline") or not same_process


@each
async def test_a_lane_object_satisfies_the_protocol(lane, subject):
    assert isinstance(CPU_LANE if isinstance(lane, str) else lane, Lane)
    await anyio.lowlevel.checkpoint()
