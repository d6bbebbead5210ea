"""Run a test once under a schedule, and tell how it went; twice, and see whether it is the same."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from itertools import zip_longest
from types import CodeType
from typing import Any, TypeAlias

import attrs

from anabranch.errors import AnabranchError
from anabranch.testing._disturbing import Director
from anabranch.testing._schedule import Choices, Order, Schedule
from anabranch.testing._steps import run_directed

Test: TypeAlias = Callable[[], Coroutine[Any, Any, Any]]


class NotDeterministicError(AnabranchError, AssertionError):
    """Say that one schedule made a test go two ways: nothing that is found would be found again."""


@attrs.frozen
class Told:
    """Tell how one run went.

    Attributes:
        error: what it raised; None where it went well.
        made: its orders that were not first come. steps, waits: what could be disturbed.
        entered: blocks that may be interrupted. trace: who went, in which order.
        struck: where the disturbance came. misfits: what of the schedule did not fit.
    """

    error: BaseException | None
    made: Mapping[int, Order]
    steps: int
    waits: int
    entered: int
    trace: tuple[str, ...]
    struck: str
    misfits: tuple[str, ...]

    def fault(self) -> tuple[str, ...]:
        """Name the kinds of what it raised; empty where it went well."""
        return kinds(self.error) if self.error is not None else ()


@attrs.frozen(kw_only=True)
class Player:
    """Run one test, again and again.

    Attributes:
        whole: all of it may be interrupted, since it has no block that says where.
    """

    test: Test
    may_fail: frozenset[CodeType]
    most: int
    whole: bool = False

    def play(self, schedule: Schedule) -> Told:
        """Run it once."""
        choices = Choices(schedule)
        director = Director(schedule.cancel, schedule.fail, self.may_fail, self.most)
        error: BaseException | None = None
        try:
            run_directed(self.test, schedule.loop, choices, director, whole=self.whole)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            error = raised
        return Told(
            error,
            choices.made,
            director.steps,
            director.waits,
            director.entered,
            tuple(director.trace),
            director.struck,
            (*choices.misfits(), *_missed(schedule, director)),
        )

    def play_twice(self, schedule: Schedule) -> Told:
        """Run it twice, and return the second.

        Raises:
            NotDeterministicError: it went another way.
        """
        first = self.play(schedule)
        return self.play_again(schedule, first)

    def play_again(self, schedule: Schedule, first: Told) -> Told:
        """Run it as it was run before."""
        second = self.play(schedule)
        difference = _difference(first, second)
        if difference:
            raise NotDeterministicError(
                f"one schedule ({schedule.words()}) made {self.test.__qualname__} go two ways: "
                f"{difference}. Does it ask the clock, dice, threads or the order of a set, or "
                f"does it find what an earlier run has left? Make all it uses within the test"
            ) from second.error or first.error
        return second


def kinds(error: BaseException) -> tuple[str, ...]:
    """Name the kinds of an error, or of all in a group."""
    if isinstance(error, BaseExceptionGroup):
        return tuple(sorted({kind for each in error.exceptions for kind in kinds(each)}))
    return (type(error).__name__,)


def _missed(schedule: Schedule, director: Director) -> list[str]:
    """Say which disturbance never came, for the run was too short for it."""
    due = (("cancel", schedule.cancel, director.steps), ("fail", schedule.fail, director.waits))
    words = {"cancel": "step", "fail": "wait"}
    return [
        f"there were {there} {words[how]}s to {how}, and none of number {at}"
        for how, at, there in due
        if at is not None and at >= there
    ]


def _difference(first: Told, second: Told) -> str:
    for number, (one, other) in enumerate(zip_longest(first.trace, second.trace, fillvalue="")):
        if one != other:
            return f"as step {number} went {one or 'nobody'}, then {other or 'nobody'}"
    if first.fault() != second.fault():
        return f"it raised {first.error!r:.200}, then {second.error!r:.200}"
    if first.made != second.made or (first.steps, first.waits) != (second.steps, second.waits):
        return "other tasks were ready at the same time"
    return ""
