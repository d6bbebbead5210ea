"""A manager of more threads than a loop usually has gets them, for as long as it is there."""

import threading

import pytest

from anabranch import ConcurrencyManager, ConcurrencyManagerConfig
from anabranch._host import current_host
from anabranch.lanes._thread import IO_LIMIT, io_lane

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

WIDE = IO_LIMIT + 16


async def test_more_calls_run_at_once_than_a_loop_usually_has_threads():
    together = threading.Barrier(WIDE, timeout=20)
    config = ConcurrencyManagerConfig(io_workers=WIDE, enable_auto_throttle=False)
    async with ConcurrencyManager(config) as manager:
        found = await manager.map_io(lambda _: together.wait(), range(WIDE))
        assert sorted(found) == list(range(WIDE))
        assert io_lane(current_host()).limiter.total_tokens >= WIDE
