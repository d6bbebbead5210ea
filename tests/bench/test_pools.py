"""The bench of pools measures WorkerPool beside ThreadPoolExecutor, in small, and no bar."""

import pytest

from tests.bench import _pools
from tests.bench._extent import Extent

TINY = Extent(bars=False, lane_rounds=1, pool_tasks=20, pool_sleeps=5, items=2_000)


@pytest.mark.slow
@pytest.mark.parametrize("case", _pools.CASES, ids=lambda case: case.name)
def test_a_case_measures_what_it_says(case):
    rows = list(case.run(TINY, lambda _: None))
    assert len(rows) == (2 if case.name == "pool_memory" else 4)
    assert all((row.ratio is None) == ("Thread" in row.subject or row.unit == "MB") for row in rows)
    assert not any(row.missed for row in rows)


def test_memory_is_measured_of_tasks_that_all_ended():
    assert set(_pools.grow(2_000)) == {"growth_mb", "drift_mb"}
