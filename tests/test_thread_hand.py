"""Thread hands: plain functions, job after job, and threads that cannot be stopped."""

import contextvars
import inspect
import logging
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import anyio
import pytest
import trio

from anabranch._host import current_host
from anabranch._open import open_scheduler
from anabranch._thread_hand import ThreadHand
from anabranch.lanes._thread import io_lane
from tests.branches import Watch, read, sleep, statuses, submit, with_begun

pytestmark = pytest.mark.real_clock
VAR = contextvars.ContextVar("var", default="unset")


def io():
    return io_lane(current_host()).limiter


@contextmanager
def gate():
    """Give an event that is set at the end at the latest, so that no thread is left."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


async def heard(event):
    """Wait until a thread has set it."""
    with anyio.fail_after(10):
        while not event.is_set():
            await anyio.sleep(0.001)


async def home(limiter):
    with anyio.fail_after(10):
        while limiter.borrowed_tokens:
            await anyio.sleep(0.001)


def call_loop(on_trio, fn, *args):
    if on_trio:
        return trio.from_thread.run(fn, *args)
    return anyio.from_thread.run(fn, *args)


# Run -----------------------------------------------------------------------------------------


async def test_plain_functions_run_in_threads_and_never_on_the_loop():
    here = threading.get_ident()
    async with open_scheduler(4) as scheduler:
        for i in range(100):
            submit(scheduler, str(i), lambda i=i: (i, threading.get_ident()))
        found = await read(scheduler)
    assert [found[str(i)].value[0] for i in range(100)] == list(range(100))
    assert all(o.value[1] != here for o in found.values())


async def test_a_thread_runs_job_after_job_without_the_loop_between_two(monkeypatch):
    hops, run = [], ThreadHand.run
    monkeypatch.setattr(ThreadHand, "run", lambda self: (hops.append(1), run(self))[0])
    done = []
    async with open_scheduler(1) as scheduler:
        for i in range(500):
            submit(scheduler, str(i), done.append, i)
    assert done == list(range(500))
    assert len(hops) <= 3


async def test_the_limit_holds_for_threads():
    watch = Watch()

    def job():
        watch.begin()
        time.sleep(0.001)
        watch.end()

    async with open_scheduler(3) as scheduler:
        for i in range(60):
            submit(scheduler, str(i), job)
    assert watch.peak == 3


async def test_a_limit_that_moves_is_seen_by_threads():
    limiter = anyio.CapacityLimiter(6)
    watch = Watch(limiter)
    may_end = threading.Semaphore(0)

    def job():
        watch.begin()
        may_end.acquire(timeout=60)
        watch.end()

    async def until_run(running, started):
        with anyio.fail_after(10):
            while (watch.running, len(watch.started)) != (running, started):
                await anyio.sleep(0.001)
        await anyio.sleep(0.02)
        assert (watch.running, len(watch.started)) == (running, started)

    async with open_scheduler(limiter) as scheduler:
        for i in range(60):
            submit(scheduler, str(i), job)
        try:
            await until_run(6, 6)
            limiter.total_tokens = 2
            may_end.release(6)
            await until_run(2, 8)
            limiter.total_tokens = 5
            await until_run(5, 11)
        finally:
            may_end.release(60)
    assert len(watch.started) == 60
    assert not watch.above
    assert limiter.borrowed_tokens == 0


@pytest.mark.slow
async def test_a_thread_makes_way_for_somebody_else():
    limiter = anyio.CapacityLimiter(1)
    waits = []
    async with open_scheduler(limiter) as scheduler:
        for i in range(400):
            submit(scheduler, str(i), time.sleep, 0.0005)
        await anyio.sleep(0.01)
        while scheduler.ledger.queue and len(waits) < 5:
            before = anyio.current_time()
            async with limiter:
                waits.append(anyio.current_time() - before)
            await anyio.sleep(0.005)
    assert sorted(waits)[len(waits) // 2] < 0.02


async def test_threads_and_coroutines_share_one_limit():
    watch = Watch()

    def plain():
        watch.begin()
        time.sleep(0.001)
        watch.end()

    async with open_scheduler(4) as scheduler:
        for i in range(40):
            submit(scheduler, f"plain {i}", plain)
            submit(scheduler, f"async {i}", watch.sleeps, i, 0.001)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 80}
    assert watch.peak <= 4


async def test_at_most_64_threads_run_on_a_loop():
    watch = Watch()
    full = threading.Event()

    def job():
        watch.begin()
        if watch.peak >= 64:
            full.set()
        full.wait(10)  # until as many run as may: a sleep would have to guess how long that takes
        watch.end()

    async with open_scheduler(100) as one, open_scheduler(100) as two:
        for i in range(100):
            submit(one, str(i), job)
            submit(two, str(i), job)
    assert watch.peak == 64
    assert io().borrowed_tokens == 0


@pytest.mark.slow
async def test_a_full_lane_is_shared_between_schedulers():
    order = []
    io().total_tokens = 1
    try:
        async with open_scheduler(2) as one, open_scheduler(2) as two:
            for i in range(200):
                submit(one, str(i), lambda: (time.sleep(0.001), order.append("one")))
            for i in range(20):
                submit(two, str(i), lambda: (time.sleep(0.001), order.append("two")))
    finally:
        io().total_tokens = 64
    assert order.index("two") < 60
    assert len(order) == 220


async def test_a_plain_function_may_return_a_coroutine():
    async def fails():
        await anyio.sleep(0.001)
        raise KeyError("later")

    async with open_scheduler(2) as scheduler:
        for i in range(5):
            submit(scheduler, f"good {i}", lambda: sleep(0.001, "awaited"))
            submit(scheduler, f"bad {i}", lambda: fails())  # noqa: PLW0108  # a plain function
            submit(scheduler, f"slow {i}", lambda: sleep(100), timeout=0.02)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 5, "failed": 5, "timed_out": 5}
    assert all(o.value == "awaited" for key, o in found.items() if key.startswith("good"))
    assert all(isinstance(o.error, KeyError) for k, o in found.items() if k.startswith("bad"))


async def test_a_coroutine_from_a_thread_may_open_a_scheduler_on_the_same_limiter():
    limiter = anyio.CapacityLimiter(1)

    async def nested():
        async with open_scheduler(limiter) as inner:
            submit(inner, "a", lambda: "deep")
            return [o.value async for o in inner.outcomes]

    async with open_scheduler(limiter) as scheduler:
        for i in range(3):
            submit(scheduler, str(i), lambda: nested())  # noqa: PLW0108  # a plain function
        found = await read(scheduler)
    assert [o.value for o in found.values()] == [["deep"]] * 3, found
    assert limiter.borrowed_tokens == 0


async def test_what_a_function_raises_is_data():
    def raises(error):
        raise error

    async with open_scheduler(2) as scheduler:
        for i in range(10):
            submit(scheduler, str(i), raises, ValueError(i))
        submit(scheduler, "fine", lambda: 1)
        found = await read(scheduler)
    assert statuses(found) == {"failed": 10, "succeeded": 1}
    assert [str(found[str(i)].error) for i in range(10)] == [str(i) for i in range(10)]


async def test_a_thread_has_the_context_of_its_job_alone():
    def job(i):
        seen = VAR.get()
        VAR.set(i)
        return seen

    VAR.set("outside")
    async with open_scheduler(2) as scheduler:
        for i in range(30):
            submit(scheduler, str(i), job, i)
        found = await read(scheduler)
    assert {o.value for o in found.values()} == {"outside"}
    assert VAR.get() == "outside"


async def test_an_urgent_job_overtakes_those_of_a_thread():
    order = []
    begun = threading.Event()
    with gate() as event:
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "first", lambda: (begun.set(), event.wait(), order.append("first")))
            for i in range(5):
                submit(scheduler, str(i), order.append, i)
            await heard(begun)
            submit(scheduler, "urgent", order.append, "urgent", priority=1)
            event.set()
    assert order[:2] == ["first", "urgent"]


# Back into the loop --------------------------------------------------------------------------


@pytest.mark.parametrize("lane_limit", [1, 64])
async def test_a_thread_may_call_into_the_loop_and_nest_threads_at_limit_1(lane_limit):
    on_trio = trio.lowlevel.in_trio_task()
    limiter = anyio.CapacityLimiter(1)
    io().total_tokens = lane_limit

    async def nested(depth):
        async with open_scheduler(limiter) as inner:
            for i in range(2):
                submit(inner, str(i), job, depth - 1)
            return statuses(await read(inner))

    def job(depth):
        if not depth:
            return "bottom"
        return call_loop(on_trio, nested, depth)

    try:
        with anyio.fail_after(60):
            async with open_scheduler(limiter) as scheduler:
                for i in range(3):
                    submit(scheduler, str(i), job, 3)
                found = await read(scheduler)
    finally:
        io().total_tokens = 64
    assert [o.value for o in found.values()] == [{"succeeded": 2}] * 3, found
    assert limiter.borrowed_tokens == io().borrowed_tokens == 0


# Stopped, or not -----------------------------------------------------------------------------


async def test_a_cancelled_thread_is_abandoned_and_holds_its_tokens_until_it_ends():
    limiter = anyio.CapacityLimiter(1)
    begun = threading.Event()
    with gate() as event:
        async with open_scheduler(limiter) as scheduler:
            submit(scheduler, "stuck", lambda: (begun.set(), event.wait()))
            submit(scheduler, "next", lambda: "ran")
            await heard(begun)
            scheduler.cancel("stuck", reason="enough")
            stuck = await anext(scheduler.outcomes)
            assert (stuck.status, stuck.reason) == ("abandoned", "enough")
            await anyio.sleep(0.02)
            assert limiter.borrowed_tokens == 1
            assert io().borrowed_tokens == 1
            assert io_lane(current_host()).abandoned
            event.set()
            assert (await anext(scheduler.outcomes)).value == "ran"
    await home(limiter)
    assert io().borrowed_tokens == 0
    assert not io_lane(current_host()).abandoned


@pytest.mark.parametrize("shared", [True, False])
async def test_a_timeout_over_a_thread_returns_in_time_and_the_rest_runs_after_it(shared):
    limiter = anyio.CapacityLimiter(1)

    async def attempt(seconds, begun):
        with gate() as event:
            before = anyio.current_time()
            async with open_scheduler(limiter if shared else 1) as scheduler:
                stick = lambda: (begun.set(), event.wait())  # noqa: E731  # one line as well
                submit(scheduler, "stuck", stick, timeout=seconds)
                submit(scheduler, "next", lambda: "ran")
                stuck = await anext(scheduler.outcomes)
                assert f"{seconds:g} s" in stuck.reason
                assert anyio.current_time() - before < seconds + 10
                event.set()
            assert (await read(scheduler))["next"].value == "ran"
        return stuck

    assert (await with_begun(attempt)).status == "abandoned"


async def test_an_outer_cancellation_leaves_a_stuck_thread_behind_and_names_it():
    limiter = anyio.CapacityLimiter(3)
    begun = []
    with gate() as event:
        with anyio.CancelScope() as scope:
            async with open_scheduler(limiter) as scheduler:
                for i in range(9):
                    submit(scheduler, str(i), lambda i=i: (begun.append(i), event.wait()))
                with anyio.fail_after(10):
                    while len(begun) < 3:
                        await anyio.sleep(0.001)
                scope.cancel()
        assert scope.cancelled_caught
        found = await read(scheduler)
        assert statuses(found) == {"abandoned": 3, "cancelled": 6}
        assert limiter.borrowed_tokens == 3
        event.set()
        await home(limiter)
    assert sorted(begun) == [0, 1, 2]
    assert io().borrowed_tokens == 0


async def test_wait_waits_for_the_thread_and_keeps_what_it_returned():
    begun = threading.Event()
    with gate() as event:
        async with open_scheduler(1) as scheduler:
            waits = lambda: (begun.set(), event.wait(), "ended")[-1]  # noqa: E731  # as the next
            submit(scheduler, "waits", waits, on_cancel="wait")
            submit(scheduler, "next", lambda: "ran", on_cancel="wait")
            await heard(begun)
            scheduler.cancel("waits")
            await anyio.sleep(0.02)
            assert scheduler.ledger.hands
            event.set()
            found = await read(scheduler)
    assert found["waits"].value == "ended"
    assert found["next"].value == "ran"
    assert io().borrowed_tokens == 0


async def test_an_outer_cancellation_that_waits_starts_no_further_job():
    begun, release, scope = [], threading.Event(), anyio.CancelScope()

    def job(i):
        begun.append(i)
        assert release.wait(60)

    async def cancel():
        while not begun:
            await anyio.sleep(0.001)
        scope.cancel()
        await anyio.sleep(0.005)  # it has been heard of before the first job ends
        release.set()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        with scope:
            async with open_scheduler(1) as scheduler:
                for i in range(20):
                    submit(scheduler, str(i), job, i, on_cancel="wait")
    assert scope.cancelled_caught
    assert begun == [0]
    assert statuses(await read(scheduler)) == {"succeeded": 1, "cancelled": 19}


def test_a_coroutine_that_was_left_for_a_loop_which_gives_it_up_is_closed():
    async def rest():
        raise AssertionError("nobody awaits it")

    hand = ThreadHand.__new__(ThreadHand)  # as it is between the thread's end and the loop's turn
    hand._lock, hand._begun, hand._done = threading.Lock(), True, True
    coroutine = rest()
    hand.left = (contextvars.copy_context(), coroutine)
    assert not hand.abandon()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_a_cancellation_before_the_thread_is_there_leaves_all_home():
    limiter = anyio.CapacityLimiter(2)
    for _ in range(20):
        with anyio.CancelScope() as scope:
            async with open_scheduler(limiter) as scheduler:
                for i in range(4):
                    submit(scheduler, str(i), lambda: None)
                await anyio.sleep(0)
                scope.cancel()
        assert len(await read(scheduler)) == 4
        await home(limiter)
        await home(io())


async def test_tokens_are_home_after_a_cancellation_at_any_moment():
    limiter = anyio.CapacityLimiter(3)
    for moment in range(25):
        with anyio.move_on_after(moment / 5000):
            async with open_scheduler(limiter) as scheduler:
                for i in range(30):
                    submit(scheduler, str(i), time.sleep, 0.0003)
        found = await read(scheduler)
        assert len(found) == 30
        await home(limiter)
        await home(io())


async def test_many_timeouts_that_race_with_the_end_give_one_outcome_each():
    async with open_scheduler(4) as scheduler:
        for i in range(100):
            submit(scheduler, str(i), time.sleep, 0.001, timeout=0.001 + i % 5 / 10_000)
        found = await read(scheduler)
    assert len(found) == 100
    assert set(statuses(found)) <= {"succeeded", "abandoned", "timed_out"}
    await home(io())


async def test_what_an_abandoned_thread_raises_is_logged(caplog):
    begun = threading.Event()

    def late(event):
        begun.set()
        event.wait()
        raise ValueError("too late")

    with gate() as event, caplog.at_level(logging.WARNING, "anabranch"):
        async with open_scheduler(1) as scheduler:
            submit(scheduler, "late", late, event)
            while not begun.is_set():
                await anyio.sleep(0.001)
            scheduler.cancel("late")
        event.set()
        await home(io())
    assert "'late'" in caplog.text
    assert "too late" in caplog.text


@pytest.mark.trio_only
async def test_a_system_exit_in_a_thread_arrives_as_itself():
    with pytest.raises(SystemExit):
        async with open_scheduler(2) as scheduler:
            submit(scheduler, "exit", sys.exit, 3)
            submit(scheduler, "other", sleep, 10)
    found = await read(scheduler)
    assert found["exit"].status == "failed"
    assert found["other"].status == "cancelled"
    assert io().borrowed_tokens == 0


SCRIPT = """
    import threading, time
    from anabranch._open import open_scheduler
    from anabranch._work import Job

    async def main():
        async with open_scheduler(1) as scheduler:
            scheduler.submit(Job("stuck", time.sleep, (30,), timeout=0.5))
            print([str(o.status) async for o in scheduler.outcomes])

    if {trio}:
        import trio
        trio.run(main)
    else:
        import asyncio
        asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("on_trio", [True, False])
def test_a_stuck_thread_keeps_no_process_from_ending(on_trio):
    script = textwrap.dedent(SCRIPT).format(trio=on_trio)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "['abandoned']\n", "")


def test_a_thread_that_ends_after_its_loop_hurts_nobody():
    for run in (trio.run, anyio.run):
        with gate() as event:

            async def main(event=event):
                async with open_scheduler(1) as scheduler:
                    submit(scheduler, "late", event.wait, timeout=0.01)

            run(main)
