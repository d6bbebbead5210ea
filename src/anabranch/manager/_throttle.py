"""Run fewer calls at once while the machine is busy: the law of the seed, and where it lives.

The law moves one figure, the percentage of its size that every lane may use; the regulator asks it
for as long as some call of the manager takes its time, in the nursery of such a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from anabranch._counting import LimiterCounts
from anabranch._host import Host
from anabranch._load import Bounds, Decision, Load
from anabranch._regulate import Regulator
from anabranch._regulated import Listening, Regulated
from anabranch._ruling import Ruling
from anabranch._scheduler import Scheduler
from anabranch.abc import Sampler

WHOLE, LEAST = 100, 10  # percent of a lane
CUT = 0.7
RAISE = 10  # percent a sample
CALM = 0.1  # so far below a threshold the machine is calm again
FORGET_S = 5.0  # nothing has run for so long: what was seen then says nothing of now


@attrs.frozen
class ThrottleLaw:
    """Cut by three tenths when a share is above its threshold, grow again when all are well below.

    Args:
        cpu, memory: thresholds, as shares from 0 to 1.
    """

    cpu: float
    memory: float

    def initial(self, config: Bounds, /) -> Bounds:
        """Begin with the bounds; nothing else is remembered."""
        return config

    def next(self, state: Bounds, load: Load, /) -> Decision:
        """Decide the percentage; what is unknown is neither busy nor calm."""
        shares = [("cpu", load.cpu, self.cpu), ("memory", _memory(load), self.memory)]
        known = [(name, share, most) for name, share, most in shares if share is not None]
        busy = [(name, share, most) for name, share, most in known if share > most]
        limit = now = int(load.limit)
        if busy:
            limit = max(state.floor, int(now * CUT))
        elif known and all(share <= most - CALM for _, share, most in known):
            limit = min(state.ceiling, now + RAISE)
        if limit == now:
            return Decision(state, now)
        words = ", ".join(
            f"{name} {share:.0%} of {most:.0%}" for name, share, most in busy or known
        )
        return Decision(state, limit, f"{words}: {now} % -> {limit} %")


def _memory(load: Load) -> float | None:
    if load.memory_used is None or not load.memory_total:
        return None
    return load.memory_used / load.memory_total


class Throttle:
    """Move the lanes of one manager on one loop together.

    Args:
        resized: called with the share, from 0 to 1, that each lane may use from now on.
    """

    def __init__(
        self,
        host: Host,
        law: ThrottleLaw,
        samplers: Sequence[Sampler] | None,
        resized: Callable[[float], object],
    ) -> None:
        self._host = host
        self._resized = resized
        self._percent = host.runtime.CapacityLimiter(WHOLE)
        self.limit = Regulated(
            self._percent,
            Ruling(law, Bounds(ceiling=WHOLE, floor=LEAST)),
            LimiterCounts(self._percent),
            None,
            Listening(samplers=None if samplers is None else tuple(samplers)),
            clock=host.clock,
            step="throttle",
            resized=lambda _, new: resized(new / WHOLE),
        )
        self._places: dict[_Place, None] = {}
        self._at: _Place | None = None  # which of them has taken the regulator in
        self._due: float | None = None  # when that was to be asked which has left
        self._left_at = host.clock()

    @property
    def factor(self) -> float:
        """The share of its size that each lane may use."""
        return float(self._percent.total_tokens) / WHOLE

    def begin(self, scheduler: Scheduler) -> None:
        """Hear that a call takes its time."""
        place = _Place(self, scheduler)
        course = scheduler.ledger.course
        assert course is not None, "it is what has this called"
        course.regulation, course.rest = place, place.rest
        if not self._places and self._host.clock() - self._left_at > FORGET_S:
            self._set(WHOLE)
            self._due = None
        self._places[place] = None
        if self._at is None:
            self._settle_at(place)

    def leave(self, place: _Place) -> None:
        """Hear that it has ended; another one may have to take the regulator in."""
        if place not in self._places:
            return
        del self._places[place]
        self._left_at = self._host.clock()
        if self._at is place:
            self._due = place.due
            self._host.part(Regulator).remove(place)
            self._at = None
            following = next(iter(self._places), None)
            if following is not None:
                self._settle_at(following)

    def _settle_at(self, place: _Place) -> None:
        # Short calls in turn must not put the next sample off for ever: what was due stays due.
        place.due_first, self._due = self._due, None
        self._at = place
        self._host.part(Regulator).add(place)

    def _set(self, percent: float) -> None:
        if self._percent.total_tokens != percent:
            self._percent.total_tokens = percent
            self._resized(percent / WHOLE)


class _Place:
    """Be a call in whose nursery the regulator may work."""

    def __init__(self, throttle: Throttle, scheduler: Scheduler) -> None:
        self._throttle = throttle
        self._scheduler = scheduler
        self._due = 0.0
        self.due_first: float | None = None  # what the first moment that is set becomes
        self.nursery: Any = scheduler.ledger.nursery
        self.limit = throttle.limit

    @property
    def due(self) -> float:
        """When the throttle is to be looked at."""
        return self._due

    @due.setter
    def due(self, moment: float) -> None:
        first, self.due_first = self.due_first, None
        self._due = moment if first is None else first

    def rest(self) -> None:
        """Leave when nothing of the call is left that could run."""
        if self._scheduler.is_at_rest():
            self.end()

    def end(self) -> None:
        """Leave."""
        self._throttle.leave(self)
