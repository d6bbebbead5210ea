"""Whether somebody else waits for a limiter: our own dispatcher, in line for it too, is not."""

from __future__ import annotations

from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import pytest

from anabranch._host import current_host
from anabranch._ledger import Ledger
from anabranch._token import Held


class Line:
    """Be a limiter of which only the statistics matter here."""

    total_tokens = borrowed_tokens = 1.0

    def __init__(self, waiting: int, borrowers: list[Any]) -> None:
        self.waiting, self.borrowers = waiting, borrowers

    def statistics(self) -> Any:
        return SimpleNamespace(tasks_waiting=self.waiting, borrowers=self.borrowers)


@pytest.mark.parametrize(
    ("waiting", "parked", "woken", "others"),
    [
        (0, False, False, False),
        (1, False, False, True),
        (1, True, False, False),
        (2, True, False, True),
        (1, True, True, True),  # ours was given its token: the one in line is somebody else
        (0, True, True, False),
    ],
)
async def test_who_waits(waiting: int, parked: bool, woken: bool, others: bool) -> None:
    line: Any = Line(waiting, [])
    ledger = Ledger(current_host(), [line], copy_context(), None)
    if parked:
        ledger.parked = Held([line])
        ledger.parked.waits_for = line
    if woken:
        line.borrowers.append(ledger.parked)
    assert ledger.others_wait() is others
