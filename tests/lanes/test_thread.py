"""The io lane: how many threads a loop may have."""

import anyio

from anabranch._host import current_host
from anabranch.lanes._thread import IO_LIMIT, io_lane


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
