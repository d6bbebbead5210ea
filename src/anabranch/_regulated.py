"""Keep one limiter under one law: what it is told, what it decided, and why.

A limit at most doubles from one sample to the next, whatever its law says: what branches cost is
known only after a sample that has seen them. So a herd cannot pass at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from anabranch._counting import Counting, LedgerCounts
from anabranch._load import SIGNALS, Load
from anabranch._ruling import LEAST_AGAIN, Ruled, Ruling
from anabranch._sampling import Reading
from anabranch.abc import Limiter, Sampler
from anabranch.events import ControllerFailed, Event, LimitChanged, LoadSampled
from anabranch.samplers._scarcest import scarcest

log = logging.getLogger("anabranch")

GROWTH: Final = 2
SHORT_S: Final = 0.4  # of a branch
OF_CPU: Final = ("cores", "cpu", "cpu_pressure", "loop_lag")
OF_MEMORY: Final = (
    "memory_used",
    "memory_total",
    "memory_pressure",
    "own_memory",
    "gpu_memory_used",
    "gpu_memory_total",
)


@attrs.frozen(kw_only=True)
class Listening:
    """Say what a law is told of the machine.

    Attributes:
        samplers: instead of those of the machine. cpu, memory: False makes these unknown.
        needs_signal: without any signal the law is not asked, and the limit stays.
        beside: tells what else bounds the branches, as a sampler does; called in the loop, and
            heard where the machine is.
    """

    samplers: tuple[Sampler, ...] | None = None
    cpu: bool = True
    memory: bool = True
    needs_signal: bool = False
    beside: Callable[[], Mapping[str, float | None]] | None = None

    def heard(
        self, sample: Mapping[str, float | None], share: float, *, real: bool = True
    ) -> dict[str, float | None]:
        """Return what is heard of a sample; own memory is shared out by ``share`` of the use.

        Args:
            real: the loop's time is the machine's, which else is heard of by handed-in samplers.
        """
        if self.beside is not None and (real or self.samplers is not None):
            lag = sample.get("loop_lag")
            sample = {**scarcest([sample, self.beside()]), "loop_lag": lag}
        deaf = (() if self.cpu else OF_CPU) + (() if self.memory else OF_MEMORY)
        found = {name: None if name in deaf else sample.get(name) for name in SIGNALS}
        own = found["own_memory"]
        if own is not None:
            found["own_memory"] = own * share
        return found


class Regulated:
    """Move one limiter.

    Attributes:
        turn: when it last grew, among others. reading: what it listens to.
        reason: of the last change, or why there is none. came_from: the limit before it.
        resized: is called with the old and the new limit after each change.
        is_new: nobody has thought of a sample yet.
    """

    reading: Reading
    turn = 0
    is_new = True
    reason = ""
    came_from: float | None = None

    def __init__(
        self,
        limiter: Limiter,
        ruling: Ruling,
        counts: Counting,
        emit: Callable[[Event], object] | None,
        listening: Listening,
        *,
        clock: Callable[[], float],
        step: str = "",
        resized: Callable[[float, float], object] = lambda old, new: None,
    ) -> None:
        self.limiter = limiter
        self.listening = listening
        self.resized = resized
        self._ruling = ruling
        self._counts = counts
        self._emit = emit or (lambda event: None)
        self._clock = clock
        self._step = step
        self._again: float | None = None
        self._began = clock()
        self._waits = False  # more did at the last sample, while others ended
        self._short = False  # so have all been that ended or ran
        self._told_of = ""  # the failure of the law that was told
        self._knows = False  # something of the machine has been known

    def again(self, period: float, brisk: float, haste: float, young: float) -> float:
        """Return in how many seconds it is to be asked again.

        A law that would be asked as soon as may be is asked after ``haste`` seconds, as long as it
        is ``young``, by seconds, and more waits while others end; or after ``brisk`` seconds where
        all are short: they are many before it has grown.
        """
        if self._again is None:
            return period
        if self._again <= LEAST_AGAIN and self._waits and self._clock() < self._began + young:
            return brisk if self._short else haste
        return min(self._again, period)

    async def has_begun(self, seconds: float, first: float) -> bool:
        """Tell whether more waits, after so many ``seconds``, than will have ended at ``first``."""
        counts = await self._counts.look(self._clock())
        fed = isinstance(self._counts, LedgerCounts) and self._counts.is_fed()
        return counts.finished > 0 and (fed or counts.queued * seconds > counts.finished * first)

    async def look(
        self,
        sample: Mapping[str, float | None],
        share: float,
        *,
        may_grow: bool,
        real: bool,
    ) -> bool:
        """Take a sample; tell whether the limit grew. A law that may not grow was not asked."""
        now = self._clock()
        counts = await self._counts.look(now)
        ended = counts.finished > 0
        longest = max((*counts.latencies, *counts.ages), default=SHORT_S)
        self._short = (ended or self._short) and longest < SHORT_S
        self._waits = counts.queued > 0 and (ended or self._short)
        heard = self.listening.heard(sample, share, real=real)
        fields = {**attrs.asdict(counts, recurse=False), **heard}
        load = Load(t=now, limit=self.limiter.total_tokens, **fields)
        self._again = None
        if self._is_blind(heard):
            self._counts.commit()
            return False
        ruled = self._ruling.ask(load)
        self._tell_failure(now)
        grows = ruled.limit is not None and ruled.acts and ruled.limit > load.limit
        if grows and not may_grow:
            return False
        self._ruling.accept(ruled)
        self._counts.commit()
        self._again = ruled.again
        if ruled.limit is not None:
            limit, reason = ruled.limit, ruled.reason
            self._emit(LoadSampled(now, self._step, load, limit, reason, ruled.acts))
            if ruled.acts and ruled.limit != load.limit:
                self._move(ruled, load)
        return grows

    def _is_blind(self, heard: Mapping[str, float | None]) -> bool:
        """Tell whether nothing is known of the machine, and the law needs something."""
        listening = self.listening
        if not listening.needs_signal or not (listening.cpu or listening.memory):
            return False
        known = (value for name, value in heard.items() if name not in ("loop_lag", "cores"))
        self._knows = self._knows or any(value is not None for value in known)
        if not self._knows and not self.reason:
            self.reason = "nothing is known of the machine's load, so the limit stays"
            log.info("step %r: %s", self._step, self.reason)
        return not self._knows

    def _move(self, ruled: Ruled, load: Load) -> None:
        wanted = ruled.limit
        assert wanted is not None, "only a decision moves a limit"
        old = self.limiter.total_tokens
        new = min(wanted, max(1, int(GROWTH * old)))
        reason = ruled.reason or "its controller gives no reason"
        if new < wanted:
            reason += f" (at most doubled at a time: {new} of {wanted})"
            self._again = LEAST_AGAIN
        self.came_from, self.reason = old, reason
        self.limiter.total_tokens = new
        log.debug("step %r: limit %g -> %g: %s", self._step, old, new, reason)
        self.resized(old, new)
        self._emit(LimitChanged(self._clock(), self._step, old, new, reason, load))

    def _tell_failure(self, now: float) -> None:
        failed = self._ruling.failed
        if failed and not self._told_of:
            self._told_of = failed
            name = type(self._ruling.law).__name__
            self.reason = f"controller {name} {failed}; the limit stays"
            self._emit(ControllerFailed(now, self._step, name, failed))
