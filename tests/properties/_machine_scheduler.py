"""Drive a scheduler: submit, cancel, resize, finish, fail, pass time, leave, stop from outside."""

from __future__ import annotations

from functools import partial
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import initialize, precondition, rule

from anabranch import Job, Retry
from anabranch._open import open_scheduler
from anabranch._scheduler import Scheduler
from tests.properties._machine import (
    Machine,
    at_once,
    is_open,
    may_end,
    seconds,
    terms,
)
from tests.properties._machine_model import Model, check_outcome
from tests.properties._machine_puppets import BoomError, Stage

limits = st.integers(1, 3)


def is_closed(machine: Machine) -> bool:
    """Tell whether a scheduler may be opened; the loop runs since the first rule."""
    return machine.model is None


class SchedulerMachine(Machine):
    """Act on what `open_scheduler` gives."""

    scheduler: Scheduler

    @initialize(seed=st.integers(0, 2**16), limit=limits)
    def begin(self, seed: int, limit: int) -> None:
        self.begin_loop(seed)
        self.open(limit)

    @precondition(is_closed)
    @rule(limit=limits)
    def open(self, limit: int) -> None:
        """Begin another life, once one is over."""
        self.seen, self.stage, self.acted = [], Stage(self.runtime, self.clock), 0
        self.do(self._open, limit)
        self.model = Model(limit)
        self.settle()

    @rule(
        letter=st.sampled_from("ab"),
        terms=terms,
        late=st.none() | seconds,
        copies=st.integers(1, 3),
        at_once=at_once,
    )
    @precondition(is_open)
    def submit(
        self, letter: str, terms: Any, late: float | None, copies: int, at_once: bool
    ) -> None:
        for _ in range(copies):
            self.numbers += 1
            self.act(partial(self._submit, f"{letter}{self.numbers}", terms, late))
        self.moment(at_once)

    def _submit(self, key: str, terms: Any, late: float | None) -> None:
        now = self.clock()
        job = self.living.accept(key, now, **terms)
        if late is not None:
            job.late_at = now + late
        retry = Retry(job.tries, job.wait, jitter=0)
        more = {"priority": job.priority, "queue_timeout": late, "retry": retry}
        self.scheduler.submit(Job(key, self.stage.act, (key,), **more))
        self.more.set()

    def cancel_in_engine(self, glob: str) -> int:
        return self.scheduler.cancel(glob, reason="drawn")

    # How a life ends ---------------------------------------------------------------------------

    @precondition(may_end)
    @rule()
    def leave(self) -> None:
        """Let the block end, and everything in it."""
        self.act(self.body.set)
        self.wind_up()
        self.end_life(None)

    @precondition(may_end)
    @rule()
    def stop_from_outside(self) -> None:
        """Cancel a scope around the block: nothing is left of it in the same moment."""
        self.act(partial(self.stage.note, "outer", ""))
        self.act(partial(self.outer.cancel, "drawn"))
        self.settle()
        self.end_life(None)

    @precondition(may_end)
    @rule()
    def raise_in_block(self) -> None:
        error = BoomError("block")
        self.broke.append(error)
        self.act(self.body.set)
        self.settle()
        self.end_life(error)

    def has_ended(self) -> bool:
        return self.ended.is_set()

    def end_life(self, error: Exception | None) -> None:
        model = self.living
        model.end_all(model.stopping, self.acted_at)
        assert self.ended.is_set(), "the block goes on"
        assert self.raised is error, f"{self.raised!r} came out, and not {error!r}"
        assert model.is_over, model
        if model.stopping:  # who is first in that moment is nobody's promise
            found = {outcome.key: outcome for outcome in self.seen}
            assert len(found) == len(self.seen) == len(model.ended), self.seen
            for expected in model.ended:
                check_outcome(found[expected.key], expected)
        else:
            self.check_outcomes()
        self.check_left()
        self.model = None

    # In the loop -------------------------------------------------------------------------------

    async def _open(self, limit: int) -> None:
        runtime = self.runtime
        self.body, self.ended, self.more = (runtime.Event() for _ in range(3))
        self.limiter, self.outer = runtime.CapacityLimiter(limit), runtime.CancelScope()
        self.broke: list[Exception] = []
        self.raised: Exception | None = None
        self.steps.start(self._live)

    async def _live(self) -> None:
        async with self.runtime.open_nursery() as nursery:
            try:
                with self.outer:
                    async with open_scheduler(self.limiter) as self.scheduler:
                        nursery.start_soon(self._read, self.scheduler)
                        try:
                            await self.body.wait()
                        except self.runtime.Cancelled:
                            self.stage.note("block_cancelled", "")
                            raise
                        for error in self.broke:
                            self.stage.note("block_raised", "", f"the block raised {error!r}")
                            raise error
            except BoomError as error:
                self.raised = error
            self.ended.set()
            self.more.set()

    async def _read(self, scheduler: Scheduler) -> None:
        over = False
        while not over:
            over = self.ended.is_set()
            self.more = self.runtime.Event()
            async for outcome in scheduler.outcomes:
                self.seen.append(outcome)
            if not over and not self.ended.is_set():
                await self.more.wait()
