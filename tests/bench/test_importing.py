"""The bench of imports measures what it says, in small, and no bar."""

import pytest

from tests.bench import _importing
from tests.bench._extent import Extent


@pytest.mark.slow
def test_imports_are_measured_against_both_loops():
    (case,) = _importing.CASES
    rows = list(case.run(Extent(bars=False, rounds=1), lambda _: None))
    assert [row.against for row in rows] == ["", *[_importing.LOOPS] * 4]
    assert all(row.value > 0 and row.unit == "s cpu" and not row.missed for row in rows)
