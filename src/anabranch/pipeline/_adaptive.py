"""Let the limit of a step follow the load: which law, within which bounds, listening to what.

Nothing of it exists before a branch of the step has waited for more than a checkpoint.
"""

from __future__ import annotations

import math
from typing import Any

import attrs

from anabranch._counting import LedgerCounts
from anabranch._load import Bounds
from anabranch._regulate import Regulator
from anabranch._regulated import Listening, Regulated
from anabranch._ruling import Ruling
from anabranch._scheduler import Scheduler
from anabranch.abc import Controller, Sampler
from anabranch.controllers import named

DEFAULT_LAW = "weir"


@attrs.frozen(kw_only=True)
class Adaptive:
    """Say how the limit of a step moves.

    Attributes:
        controller: None for the usual law.
    """

    bounds: Bounds
    controller: Controller | None
    listening: Listening

    def within(self, budget: Sampler | None) -> Adaptive:
        """Return these terms for a run whose own limits of the machine ``budget`` tells."""
        if budget is None:
            return self
        return attrs.evolve(self, listening=attrs.evolve(self.listening, beside=budget.sample))

    def begin(self, scheduler: Scheduler) -> None:
        """Begin to move the step's own limit: the first of its limiters."""
        course = scheduler.ledger.course
        assert course is not None, "it is what has this called"
        course.regulation = regulation = Regulation(self, scheduler)
        course.rest = regulation.rest


class Regulation:
    """Be the place where the limit of one run of a step is moved, until it ends."""

    __slots__ = ("_limit", "_regulator", "_scheduler", "_terms", "due", "nursery")

    def __init__(self, terms: Adaptive, scheduler: Scheduler) -> None:
        self.due = 0.0
        self.nursery: Any = scheduler.ledger.nursery
        self._terms = terms
        self._scheduler = scheduler
        self._limit: Regulated | None = None
        self._regulator = scheduler.ledger.host.part(Regulator)
        self._regulator.add(self)

    @property
    def limit(self) -> Regulated:
        """The step's limit, and what moves it; most steps end before anybody asks."""
        if self._limit is None:
            self._limit = self._made()
        return self._limit

    def rest(self) -> None:
        """Let the task of the regulator leave the step's nursery, if that is all that is left."""
        if self._scheduler.is_at_rest():
            self.end()

    def end(self) -> None:
        """Regulate no more."""
        self._regulator.remove(self)

    def _made(self) -> Regulated:
        terms, scheduler, ledger = self._terms, self._scheduler, self._scheduler.ledger
        ruling = Ruling(terms.controller or named(DEFAULT_LAW), terms.bounds)
        limiter = ledger.limiters[0]
        keeps, more = scheduler.keeps, scheduler.is_fed
        return Regulated(
            limiter,
            ruling,
            LedgerCounts(ledger, limiter, keeps=keeps, more=more, judge=ruling.judge),
            None if ledger.delivery is None else ledger.delivery.emit,
            terms.listening,
            clock=ledger.clock,
            step=ledger.step,
            resized=self._resized,
        )

    def _resized(self, old: float, new: float) -> None:
        """Have hands see that the limit moved: fewer go on, or more begin."""
        ledger = self._scheduler.ledger
        ledger.totals[0] = new  # it was told with its reason
        if new > old:
            ledger.room = True
            ledger.resume()
        elif not ledger.shared:
            ledger.shared = True  # now they ask before each branch
            ledger.reader_moved(math.inf)
