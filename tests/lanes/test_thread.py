"""The io lane: how many threads a loop may have."""

import threading

import anyio
import pytest

from anabranch import ExecutionConfig, Pipeline, Step
from anabranch._host import current_host
from anabranch.lanes._thread import IO_LIMIT, io_lane
from tests.branches import with_begun


async def test_a_loop_has_one_lane_of_64():
    lane = io_lane(current_host())
    assert lane is io_lane(current_host())
    assert lane.limiter.total_tokens == IO_LIMIT == 64


async def test_a_step_raises_the_limit_while_it_runs_and_never_lowers_it():
    lane = io_lane(current_host())
    with lane.at_least(100):
        assert lane.limiter.total_tokens == 100
        with lane.at_least(80), lane.at_least(100):
            assert lane.limiter.total_tokens == 100
        with lane.at_least(3):
            assert lane.limiter.total_tokens == 100
        assert lane.limiter.total_tokens == 100
    assert lane.limiter.total_tokens == 64
    with lane.at_least(3):
        assert lane.limiter.total_tokens == 64


async def test_an_error_gives_the_limit_back():
    lane = io_lane(current_host())
    try:
        with lane.at_least(100):
            raise KeyError
    except KeyError:
        pass
    assert lane.limiter.total_tokens == 64
    await anyio.lowlevel.checkpoint()


@pytest.mark.real_clock
async def test_abandoned_threads_are_warned_of_when_half_the_lane_is_stuck(caplog):
    release = threading.Event()
    config = ExecutionConfig(io_limit=4)

    async def attempt(seconds, begun):
        both = threading.Barrier(2, begun.set)

        def stuck(_):
            both.wait(30)
            release.wait(30)

        step = Step.parallel({str(n): stuck for n in range(2)}, timeout=seconds)
        caplog.clear()
        return await Pipeline([step], execution_config=config).run(1)

    with caplog.at_level("WARNING", logger="anabranch"):
        result = await with_begun(attempt)
    words = [record.getMessage() for record in caplog.records if record.name == "anabranch"]
    assert {branch.status for branch in result.step_history[0].branches.values()} == {"abandoned"}
    assert words == ["2 of 4 threads of the io lane could not be stopped and still run: 0, 1"]
    release.set()
    lane = io_lane(current_host())
    while lane.abandoned:
        await anyio.sleep(0.01)
    assert lane.limiter.borrowed_tokens == 0
