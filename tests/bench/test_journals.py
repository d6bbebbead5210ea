"""The bench of the journal measures what it says, in small, and no bar."""

import math

import pytest

from tests.bench import _journals
from tests.bench._extent import Extent


@pytest.mark.slow
@pytest.mark.real_clock
def test_scripts_are_measured_with_a_journal_and_without():
    (case,) = _journals.CASES
    rows = list(case.run(Extent(bars=False, scripts=8, script_rounds=1), lambda _: None))
    assert all(math.isfinite(row.value) and not row.missed for row in rows)
    assert [row.subject.split()[0] for row in rows] == ["without", "with"] * (len(rows) // 2)
