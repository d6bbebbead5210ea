"""The loop's lag: sleeps that end late, a loop that is held right now, a laptop that slept."""

import anyio
import pytest

from anabranch._runtime import current
from anabranch.samplers import LoopLag
from anabranch.samplers._loop_lag import LONGEST_S, PERIOD_S

UNKNOWN = {"loop_lag": None}


class Held:
    """A runtime whose sleeps end as late as a test says; its clock is also its `lowlevel`."""

    def __init__(self):
        self.now = 50.0
        self.late = []
        self.lowlevel = self
        self.ended = False

    def current_clock(self):
        return self

    def current_time(self):
        return self.now

    async def sleep(self, seconds):
        if not self.late:
            self.ended = True
            await anyio.sleep_forever()
        self.now += seconds + self.late.pop(0)


async def run_until_ended(lag, runtime):
    runtime.ended = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.run)
        while not runtime.ended:
            await anyio.sleep(0)
        found = lag.sample()
        tasks.cancel_scope.cancel()
    return found


async def test_it_is_the_mean_since_the_last_sample(anyio_backend):
    runtime = Held()
    lag = LoopLag(runtime)
    runtime.late = [0.0, 0.3, 0.6]
    assert await run_until_ended(lag, runtime) == {"loop_lag": pytest.approx(0.3)}
    runtime.late = [0.1]
    assert await run_until_ended(lag, runtime) == {"loop_lag": pytest.approx(0.1)}
    assert lag.sample() == UNKNOWN


async def test_a_loop_that_is_held_now_is_late_already(anyio_backend):
    runtime = Held()
    lag = LoopLag(runtime)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.run)
        while not runtime.ended:
            await anyio.sleep(0)
        assert lag.sample() == UNKNOWN
        runtime.now += PERIOD_S + 3
        assert lag.sample() == {"loop_lag": pytest.approx(3)}
        tasks.cancel_scope.cancel()
    assert lag.sample() == UNKNOWN


async def test_a_night_in_a_bag_counts_ten_seconds(anyio_backend):
    runtime = Held()
    runtime.late = [8 * 3600.0]
    assert await run_until_ended(LoopLag(runtime), runtime) == {"loop_lag": LONGEST_S}


async def test_a_clock_that_goes_back_is_no_lag(anyio_backend):
    runtime = Held()
    runtime.late = [-5.0]
    assert await run_until_ended(LoopLag(runtime), runtime) == {"loop_lag": 0.0}


async def test_a_loop_that_does_nothing_is_not_late(anyio_backend):
    """The real loops, in virtual time."""
    lag = LoopLag(current())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lag.run)
        await anyio.sleep(10 * PERIOD_S)
        assert lag.sample() == {"loop_lag": pytest.approx(0, abs=1e-6)}
        tasks.cancel_scope.cancel()


def test_nobody_who_runs_it_is_unknown():
    assert LoopLag(Held()).sample() == UNKNOWN
