"""The bench of lanes measures ours on both loops beside the pools of the standard library."""

import pytest

from tests.bench import _lanes
from tests.bench._extent import Extent

TINY = Extent(
    bars=False, lane_rounds=1, mapped_io=3, mapped_cpu=2, processed=((2, 0.001), (3, 0.001))
)
CASES = {case.name: case for case in (*_lanes.CASES, *_lanes.POOLS)}


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.leaves("process", "descriptor", reason="multiprocessing keeps its resource tracker")
@pytest.mark.parametrize("name", CASES)
def test_a_case_compares_both_loops_with_a_pool(name: str) -> None:
    rows = list(CASES[name].run(TINY, lambda _: None))
    assert len(rows) == (3 if name == "map_io" else 6)
    for row in rows:
        assert (row.ratio is None) == ("PoolExecutor" in row.subject)
        assert row.value > 0
