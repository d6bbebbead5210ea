"""Read the machine for the limiters of one loop: in a thread, for a limited time, once for all.

What comes too late is dropped, and while a reading hangs there is no second one: its signals are
unknown. So are those of the real machine while the loop's time is not real: a second of a mock
clock may be a millisecond, and a share of that says nothing. Samplers that a user hands in are
then asked where the regulator stands: in such time nothing can be waited for.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anabranch._runtime import Runtime
from anabranch.abc import Sampler
from anabranch.samplers import Scarcest, default_samplers
from anabranch.samplers._once import Once

log = logging.getLogger("anabranch")

LIMIT_S = 2.0  # each sampler that may hang has a second of its own within it
SAME_S = 0.08  # what was read so shortly ago need not be read again
REAL = 0.5  # of the loop's time that has passed really: less, and its clock is a mock

Sample = Mapping[str, float | None]
NOTHING: Sample = {}


class Reading:
    """Read one set of samplers.

    Args:
        samplers: those that were handed in; None for those of the real machine.
    """

    def __init__(self, samplers: Sequence[Sampler] | None, runtime: Runtime) -> None:
        self.handed_in = samplers is not None
        self._sampler = Scarcest(default_samplers() if samplers is None else samplers)
        self._runtime = runtime
        self._unbounded = runtime.CapacityLimiter(math.inf)  # the loop's own is for its users
        self._busy = False
        self._once = Once()
        self._at, self._told = -math.inf, NOTHING

    def forget(self) -> None:
        """Begin anew: what memory is ours now was there before those branches that begin now."""
        self._sampler.forget()
        self._at = -math.inf

    async def read(self, *, real: bool, recent: bool = False) -> Sample:
        """Return what is known now.

        Args:
            real: the loop's time is the machine's. recent: what was read shortly ago will do.
        """
        if not real:
            return self._sampler.sample() if self.handed_in else NOTHING
        clock = self._runtime.lowlevel.current_clock().current_time
        if self._busy:
            return NOTHING
        if recent and clock() < self._at + SAME_S:
            return self._told
        await self._runtime.lowlevel.checkpoint_if_cancelled()  # from here on a thread begins
        self._busy = True
        found: list[Sample] = []
        with self._runtime.CancelScope(deadline=clock() + LIMIT_S) as scope:
            try:
                await self._runtime.to_thread.run_sync(
                    self._read, found, abandon_on_cancel=True, limiter=self._unbounded
                )
            except (RuntimeError, MemoryError, OSError) as error:  # no thread can be had
                self._busy = False
                self._once.say("no thread", f"the machine cannot be read now: {error!r:.200}")
                return NOTHING
        if scope.cancelled_caught:
            log.warning("the machine has not answered for %g s; its load is unknown", LIMIT_S)
            return NOTHING
        self._at, self._told = clock(), found[0]
        return found[0]

    def _read(self, found: list[Sample]) -> None:
        try:
            found.append(self._sampler.sample())
        finally:
            self._busy = False


class Realness:
    """Compare the loop's time with the machine's, from one look to the next.

    Args:
        clock: the loop's. known: what is known of it beforehand.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        known: bool | None = None,
        machine: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = known
        self._clock = clock
        self._machine = machine
        self._last = (clock(), machine())

    def look(self) -> bool:
        """Tell whether the loop's time since the last look has passed really."""
        if self._known is not None:
            return self._known
        before, self._last = self._last, (self._clock(), self._machine())
        return self._last[1] - before[1] >= REAL * (self._last[0] - before[0])


class Readings:
    """Keep the readings of one loop by the samplers that they ask, for as long as they are used."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._usual: Reading | None = None  # it goes on from run to run: CPU is a difference
        self._uses = 0
        self._others: dict[Any, list[Any]] = {}  # by identity: the samplers, reading, and uses

    def take(self, samplers: Sequence[Sampler] | None) -> Reading:
        """Return the reading of these samplers, until it is given to ``leave`` as often."""
        if samplers is None:
            self._usual = self._usual or Reading(None, self._runtime)
            if not self._uses:
                self._usual.forget()
            self._uses += 1
            return self._usual
        key = tuple(map(id, samplers))
        entry = self._others.get(key)
        if entry is None:
            entry = self._others[key] = [samplers, Reading(samplers, self._runtime), 0]
            entry[1].forget()
        entry[2] += 1
        reading: Reading = entry[1]
        return reading

    def leave(self, samplers: Sequence[Sampler] | None) -> None:
        """Count one use less."""
        if samplers is None:
            self._uses -= 1
            return
        key = tuple(map(id, samplers))
        entry = self._others[key]
        entry[2] -= 1
        if not entry[2]:
            del self._others[key]
