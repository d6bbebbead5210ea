"""Act on an engine between two moments of its loop, and compare it with a model after each.

The rules that both machines share: what may be done to a puppet, to the limit and to time.
An act with ``at_once`` leaves the loop where it is, so that several fall into one moment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anabranch._glob import matcher
from anabranch._host import current_host
from anabranch._work import Outcome
from tests.leaks import new, tasks
from tests.properties._machine_loops import LOOPS, Steps
from tests.properties._machine_model import Model, check_outcome
from tests.properties._machine_puppets import Paid, Stage

BEAT = 2**-10  # how long the loop is given to settle; nothing that is drawn falls on such a beat
OFF_BEAT = 2**-12
LONG_ENOUGH = 8  # acts in a life
ROUNDS = 60  # at the end of a life: until everything has ended

at_once = st.booleans()
seconds = st.sampled_from([1 + OFF_BEAT, 2 + OFF_BEAT])
which = st.integers(0, 5)
globs = st.sampled_from(["*", "a*", "b*", "*1", "?2", "nobody", "**"])
terms = st.fixed_dictionaries({
    "priority": st.integers(-1, 1),
    "tries": st.sampled_from([1, 1, 2, 3]),
    "wait": st.sampled_from([0.0, OFF_BEAT + 0.5, OFF_BEAT + 1.0]),
})  # fmt: skip
money = st.integers(0, 40).map(lambda cents: Decimal(cents) / 4)


def is_open(machine: Machine) -> bool:
    """Tell whether there is an engine to act on."""
    return machine.model is not None


def may_end(machine: Machine) -> bool:
    """Tell whether a life has been long enough to be ended: short ones show little."""
    return machine.model is not None and machine.acted >= LONG_ENOUGH


def has_running(machine: Machine) -> bool:
    """Tell whether a puppet runs, as far as the model has heard."""
    return machine.model is not None and bool(machine.model.in_state("running"))


class Machine(RuleBasedStateMachine):
    """Hold one loop, and one engine in it at a time."""

    loop: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.steps: Steps | None = None
        self.model: Model | None = None
        self.limiter: Any
        self.stage: Stage
        self.acts: list[Callable[[], object]] = []
        self.acted_at, self.acted = 0.0, 0
        self.numbers = 0
        self.seen: list[Outcome] = []

    # The loop ----------------------------------------------------------------------------------

    def begin_loop(self, seed: int) -> None:
        self.steps = LOOPS[self.loop](seed)
        self.do(self._note_loop)
        self.before = self.do(_tasks)

    async def _note_loop(self) -> None:
        host = current_host()
        self.runtime, self.clock = host.runtime, host.clock

    def do(self, async_fn: Callable[..., Any], *args: Any) -> Any:
        assert self.steps is not None, "the first rule makes it"
        return self.steps.run(async_fn, *args)

    def act(self, fn: Callable[[], object]) -> None:
        """Do something in the loop, together with all else that falls into this moment."""
        self.acts.append(fn)
        self.acted += 1

    def moment(self, at_once: bool) -> None:
        """Let the loop settle after an act, unless the next one falls into the same moment."""
        if not at_once:
            self.settle()

    def settle(self, seconds: float = 0.0) -> None:
        """Do what is to be done; let the loop go on until nothing is left to do, or for longer."""
        now = self.do(self._act, seconds)
        notes = self.stage.notes[:]
        self.stage.notes.clear()
        self.living.replay(notes, self.acted_at, now)

    async def _act(self, seconds: float) -> float:
        self.acted_at = self.clock()
        while self.acts:
            self.acts.pop(0)()  # no checkpoint: they are one moment
        if seconds:
            await self.runtime.sleep(seconds)
        await self.runtime.sleep(BEAT)  # the clock jumps once all wait
        return self.clock()

    # What both machines do ---------------------------------------------------------------------

    def tell(self, which: int, order: Any) -> None:
        running = self.living.in_state("running")
        self.act(partial(self.stage.tell, running[which % len(running)].key, order))

    @property
    def living(self) -> Model:
        assert self.model is not None, "the precondition says so"
        return self.model

    @precondition(is_open)
    @rule()
    def let_it_settle(self) -> None:
        self.settle()

    @precondition(is_open)
    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def advance(self, seconds: float) -> None:
        self.settle(seconds)

    @precondition(has_running)
    @rule(which=which, at_once=at_once)
    def finish(self, which: int, at_once: bool) -> None:
        self.tell(which, Paid())
        self.moment(at_once)

    @precondition(has_running)
    @rule(which=which, at_once=at_once)
    def fail(self, which: int, at_once: bool) -> None:
        self.tell(which, "fail")
        self.moment(at_once)

    @precondition(is_open)
    @rule(limit=st.sampled_from([0, 1, 2, 3, 5]), at_once=at_once)
    def resize(self, limit: int, at_once: bool) -> None:
        self.act(partial(self.resize_now, limit))
        self.moment(at_once)

    def resize_now(self, limit: int) -> None:
        self.limiter.total_tokens = self.living.limit = limit

    @precondition(is_open)
    @rule(glob=globs, at_once=at_once)
    def cancel(self, glob: str, at_once: bool) -> None:
        self.act(partial(self.cancel_now, glob))
        self.moment(at_once)

    @precondition(has_running)
    @rule(which=which, at_once=at_once)
    def cancel_one(self, which: int, at_once: bool) -> None:
        running = self.living.in_state("running")
        self.act(partial(self.cancel_now, running[which % len(running)].key))
        self.moment(at_once)

    def cancel_now(self, glob: str) -> None:
        count = self.cancel_in_engine(glob)
        expected = self.living.cancel(matcher(glob), "drawn", self.clock())
        assert count == expected, f"cancel({glob!r}) says {count}, and {expected} were there"

    def cancel_in_engine(self, glob: str) -> int:
        raise NotImplementedError

    # What must be true -------------------------------------------------------------------------

    @invariant()
    def the_model_agrees(self) -> None:
        if not self.acts and self.model is not None:
            self.model.check_settled()
            self.check_outcomes()

    def check_outcomes(self) -> None:
        """Compare what was read with what the model has ended: one for each, in that order."""
        expected = self.living.ended
        assert len(self.seen) == len(expected), f"{self.seen}\nread, and expected\n{expected}"
        for number, outcome in enumerate(self.seen):
            assert outcome.order == number, outcome
            check_outcome(outcome, expected[number])

    def has_ended(self) -> bool:
        """Tell whether everything has ended by itself."""
        raise NotImplementedError

    def wind_up(self) -> None:
        """Let everything end by itself."""
        self.settle()
        for _ in range(ROUNDS):
            self.the_model_agrees()
            if self.has_ended():
                return
            self.resize(5, at_once=True)
            for job in self.living.in_state("running"):
                self.act(partial(self.stage.tell, job.key, Paid()))
            self.settle(1.0)
        raise AssertionError(f"it does not end: {self.model}")

    def leave(self) -> None:
        """Let the engine end, and see that it has."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Let the last life end by itself; after a failure nothing more is asked."""
        if self.steps is None:
            return
        try:
            if self.model is not None and sys.exc_info()[0] is None:
                self.leave()
        finally:
            self.steps.close()

    def check_left(self) -> None:
        """See that tokens are home and no task is left."""
        assert not self.limiter.borrowed_tokens, self.limiter
        left = new(self.before, self.do(_tasks))
        assert not left, f"tasks are left: {list(left.values())}"


async def _tasks() -> Any:
    return tasks()
