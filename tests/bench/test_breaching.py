"""The bench of a breach measures what it says, in small, and no bar."""

import math

import pytest

from tests.bench import _breaching
from tests.bench._extent import Extent

TINY = Extent(bars=False, breached=(20, 5), rounds=2)


@pytest.mark.slow
@pytest.mark.real_clock
def test_a_breach_is_measured_on_both_loops_beside_a_bare_cancel():
    (case,) = _breaching.CASES
    rows = list(case.run(TINY, lambda _: None))
    for loop in ("trio", "asyncio"):
        ours = [row for row in rows if row.subject == f"a breach on {loop}"]
        assert [row.unit for row in ours] == ["ms wall", "ms cpu"]
        assert all(row.against == f"one cancel of bare sleepers on {loop}" for row in ours)
    assert all(math.isfinite(row.value) for row in rows)
    assert not any(row.missed for row in rows)
