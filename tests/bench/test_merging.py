"""The bench of merging measures what it says, in small, and no bar."""

import math

import pytest

from tests.bench import _merging
from tests.bench._extent import Extent

TINY = Extent(bars=False, merged=(5, 20), rounds=1, big_rounds=2, batch=5, steps=1)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize("case", _merging.CASES, ids=lambda case: case.name)
def test_merging_is_measured_on_both_loops(case):
    rows = list(case.run(TINY, lambda _: None))
    for loop in ("trio", "asyncio"):
        assert any(row.subject == f"merge on {loop}" for row in rows)
    assert all(math.isfinite(row.value) for row in rows)
    assert not any(row.missed for row in rows)


def test_each_branch_changes_three_fields():
    for number in range(100):
        context, changed = _merging.context_of(), _merging.context_of()
        _merging.change(changed, number)
        different = [name for name in context if context[name] != changed[name]]
        assert len(different) == _merging.CHANGED
