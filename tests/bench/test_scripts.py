"""The bench of scripts measures what it says, in small, and no bar."""

import math

import pytest

from tests.bench import _scripts
from tests.bench._extent import Extent

TINY = Extent(bars=False, scripts=8, pythons=4, printed=(4, 2), script_rounds=1)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize("case", _scripts.CASES, ids=lambda case: case.name)
def test_scripts_are_measured_on_both_loops_and_beside_others(case):
    rows = list(case.run(TINY, lambda _: None))
    assert all(math.isfinite(row.value) for row in rows)
    assert not any(row.missed for row in rows)
    if "missing" in rows[0].subject:
        pytest.skip(rows[0].subject)
    for loop in ("trio", "asyncio"):
        (row,) = [row for row in rows if row.subject.endswith(f"on {loop}") and row.ratio]
        assert row.against == rows[0].subject
