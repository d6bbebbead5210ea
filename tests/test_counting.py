"""What is counted for a law: exactly, evenly picked, and without a place that forgets."""

from __future__ import annotations

import itertools
from collections import deque
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from anabranch._branch import ASYNC, Branch
from anabranch._counting import MOST, SLICE, LedgerCounts, LimiterCounts, Tally, at_once, picked
from anabranch._host import current_host
from anabranch._refusals import is_refusal
from anabranch._work import Status
from anabranch.errors import BranchTimedOutError


def ended(status: Status, began: float | None = 0.0, end: float = 1.0, error: Any = None) -> Branch:
    branch = Branch("b", ASYNC, print, (), 0.0)
    branch.status, branch.started_at, branch.ended_at, branch.error = status, began, end, error
    return branch


@pytest.mark.parametrize(
    ("branch", "counts"),
    [
        (ended(Status.SUCCEEDED), (1, 1, 0, 0)),
        (ended(Status.FAILED, error=ValueError()), (1, 0, 1, 0)),
        (ended(Status.FAILED, error=OSError(11, "again")), (1, 0, 1, 1)),
        (ended(Status.TIMED_OUT), (1, 0, 1, 0)),
        (ended(Status.ABANDONED, error=BranchTimedOutError()), (1, 0, 1, 0)),
        (ended(Status.ABANDONED), (1, 0, 0, 0)),
        (ended(Status.CANCELLED), (1, 0, 0, 0)),
        (ended(Status.CANCELLED, began=None), (0, 0, 0, 0)),
        (ended(Status.REJECTED, began=None), (0, 0, 0, 0)),
    ],
)
def test_each_end_counts_as_what_it_is(branch: Branch, counts: tuple[int, ...]) -> None:
    tally = Tally()
    tally.add(branch)
    assert (tally.begun, tally.finished, tally.failed, tally.rejected) == counts


def test_run_times_are_picked_evenly_from_any_number() -> None:
    tally = Tally()
    for number in range(10_000):
        tally.add(ended(Status.SUCCEEDED, end=float(number)))
    times = picked(tally.run_times)
    assert tally.finished == 10_000
    assert len(times) == MOST
    assert times[0] < 400
    assert times[-1] > 9_600
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert max(gaps) <= 3 * min(gaps)


@hypothesis.given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=40))
def test_the_most_at_once_is_what_a_look_at_every_moment_sees(drawn: list[tuple[int, int]]) -> None:
    spans = [(float(begin), float(begin + length)) for begin, length in drawn if length]
    seen = [sum(begin <= moment < end for begin, end in spans) for moment in range(45)]
    assert at_once(spans) == max(seen)


def counts_of(branches: deque[Branch], host: Any) -> LedgerCounts:
    ledger: Any = SimpleNamespace(ended=branches, queue=[1, 2], runtime=host.runtime, course=None)
    limiter: Any = SimpleNamespace(
        borrowed_tokens=3, statistics=lambda: SimpleNamespace(borrowers=[])
    )
    return LedgerCounts(ledger, limiter, keeps=True)


async def test_what_was_looked_at_stays_counted_until_it_is_committed() -> None:
    branches = deque(ended(Status.SUCCEEDED) for _ in range(5))
    counts = counts_of(branches, current_host())
    assert (await counts.look(1.0)).finished == 5
    branches.append(ended(Status.SUCCEEDED))
    again = await counts.look(2.0)
    assert (again.finished, again.started, again.in_use, again.queued) == (6, 9, 3, 2)
    counts.commit()
    later = await counts.look(3.0)
    assert (later.finished, later.started, later.in_use) == (0, 0, 3)


@hypothesis.given(st.lists(st.integers(0, 3 * SLICE), min_size=1, max_size=5))
@hypothesis.settings(max_examples=20)
def test_each_branch_is_counted_once_however_many_end(sizes: list[int]) -> None:
    import trio
    from trio.testing import MockClock

    async def main() -> None:
        branches: deque[Branch] = deque()
        counts = counts_of(branches, current_host())
        for number, size in enumerate(sizes):
            branches.extend(ended(Status.SUCCEEDED) for _ in range(size))
            assert (await counts.look(float(number))).finished == size
            counts.commit()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_bare_limiter_tells_who_has_a_token_and_who_waits() -> None:
    limiter = current_host().runtime.CapacityLimiter(2)
    counts = LimiterCounts(limiter)
    limiter.acquire_on_behalf_of_nowait("a")
    assert (await counts.look(0.0)).in_use == 1
    limiter.release_on_behalf_of("a")
    seen = await counts.look(1.0)
    assert (seen.in_use, seen.peak, seen.queued) == (0, 1, 0)


class Full(Exception):  # noqa: N818  # as a library may name it
    def __init__(self, **fields: Any) -> None:
        super().__init__("no")
        self.__dict__.update(fields)


class Odd(Exception):  # noqa: N818
    @property
    def response(self) -> Any:
        raise RuntimeError("it was closed")


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (None, False),
        (Full(status_code=429), True),
        (Full(status=503), True),
        (Full(code=429), True),
        (Full(response=Full(status_code=503)), True),
        (Full(status_code=500), False),
        (Full(code="429"), False),
        (OSError(24, "EMFILE"), True),
        (OSError(12, "ENOMEM"), True),
        (OSError(2, "ENOENT"), False),
        (caused(ValueError("x"), Full(status_code=429)), True),
        (ExceptionGroup("g", [ValueError(), Full(status_code=429)]), True),
        (Odd(), False),
    ],
    ids=map(str, range(13)),
)
def test_an_error_says_by_what_it_carries_whether_a_place_is_too_full(
    error: BaseException | None, answer: bool
) -> None:
    assert is_refusal(error) is answer


def test_a_judge_that_raises_has_said_no() -> None:
    class Judge:
        def rejected(self, error: BaseException) -> bool:
            raise KeyError(error)

    assert not is_refusal(ValueError(), Judge())


def test_an_error_that_cannot_be_compared_is_judged_like_another() -> None:
    class ProudError(Exception):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("compare me not")

        __hash__ = Exception.__hash__

    error = ProudError()
    error.__cause__ = OSError(24, "too many open files")
    assert is_refusal(ExceptionGroup("several", [ProudError(), error]))
