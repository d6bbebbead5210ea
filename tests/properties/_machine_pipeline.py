"""Drive a live run with a budget: charge, breach, cancel, resize, finish, fail, feed, stop."""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, precondition, rule

from anabranch import AnabranchError, Budget, Pipeline, Retry, Step, UsageLimitExceededError
from tests.properties._machine import Machine, at_once, has_running, may_end, money, terms, which
from tests.properties._machine_model import Model
from tests.properties._machine_puppets import BoomError, Paid, Stage

lives = st.fixed_dictionaries({
    "branches": st.lists(terms, min_size=1, max_size=5) | terms,  # of a parallel step, or a map
    "limit": st.integers(1, 3),
    "budget": st.none() | money,
    "watched": st.booleans(),
})  # fmt: skip


class Source:
    """Be the items of a map: those that the machine has put there, until it says that is all."""

    def __init__(self, stage: Stage, terms: dict[str, Any]) -> None:
        self.items: deque[str] = deque()
        self.over = False
        self.more = stage.runtime.Event()
        self._stage = stage
        self._terms = terms

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> str:
        while not self.items:
            if self.over:
                raise StopAsyncIteration
            self.more = self._stage.runtime.Event()
            await self.more.wait()
        item = self.items.popleft()
        self._stage.note("pulled", item, self._terms)
        return item


def is_fed(machine: PipelineMachine) -> bool:
    """Tell whether items may be added."""
    return machine.model is not None and machine.source is not None and not machine.source.over


def is_watched(machine: PipelineMachine) -> bool:
    """Tell whether an event may be set that ends the run."""
    return machine.model is not None and machine.watched and not machine.model.event_set


def is_closed(machine: Machine) -> bool:
    """Tell whether a run may be opened."""
    return machine.model is None


class PipelineMachine(Machine):
    """Act on what `Pipeline.open` gives: one step, parallel or a map."""

    run_error: Exception | None
    source: Source | None = None

    @initialize(seed=st.integers(0, 2**16), life=lives)
    def begin(self, seed: int, life: dict[str, Any]) -> None:
        self.begin_loop(seed)
        self.open(life)

    @precondition(is_closed)
    @rule(life=lives)
    def open(self, life: dict[str, Any]) -> None:
        """Begin another life, once one is over."""
        self.seen, self.stage, self.acted = [], Stage(self.runtime, self.clock), 0
        self.source, self.run_error, self.listens, self.fed = None, None, True, 0
        self.heard, self.least_limit = 0, life["limit"]
        self.watched = life["watched"]
        budget = life["budget"]
        self.model = Model(life["limit"], None if budget is None else Fraction(budget))
        self.do(self._open, life)
        self.settle()

    # What may be done --------------------------------------------------------------------------

    @precondition(has_running)
    @rule(which=which, amount=money, how=st.sampled_from(["here", "child"]), at_once=at_once)
    def charge(self, which: int, amount: Decimal, how: str, at_once: bool) -> None:
        self.tell(which, (amount, how))
        self.moment(at_once)

    @precondition(has_running)
    @rule(which=which, amount=money, at_once=at_once)
    def finish_with_costs(self, which: int, amount: Decimal, at_once: bool) -> None:
        self.tell(which, Paid(amount))
        self.moment(at_once)

    @precondition(is_watched)
    @rule(at_once=at_once)
    def set_event(self, at_once: bool) -> None:
        self.act(self.event.set)
        self.act(partial(setattr, self.living, "event_set", True))
        self.moment(at_once)

    @precondition(is_fed)
    @rule(count=st.integers(1, 4), at_once=at_once)
    def feed(self, count: int, at_once: bool) -> None:
        self.act(partial(self._feed, count))
        self.moment(at_once)

    @precondition(is_fed)
    @rule(at_once=at_once)
    def end_feed(self, at_once: bool) -> None:
        self.act(self._end_feed)
        self.moment(at_once)

    def resize_now(self, limit: int) -> None:
        super().resize_now(limit)
        self.least_limit = min(limit, self.least_limit)

    def cancel_in_engine(self, glob: str) -> int:
        return self.run.cancel(glob, reason="drawn")

    # How a life ends ---------------------------------------------------------------------------

    @precondition(may_end)
    @rule(early=st.booleans())
    def leave(self, early: bool = False) -> None:
        """Let the run end, and leave its block then or before; who leaves hears no more."""
        self.act(self._end_feed)
        if early:
            self.act(self._stop_listening)
        self.wind_up()
        self.the_model_agrees()
        if not early:
            self.act(self.body.set)
            self.settle()
        self.check_result()
        self.end_life(UsageLimitExceededError if self.living.breach else None)

    @precondition(may_end)
    @rule()
    def stop_from_outside(self) -> None:
        """Cancel a scope around the block: no charge is lost, no token, no task left."""
        self.act(partial(self.stage.note, "outer", ""))
        self.stop(partial(self.outer.cancel, "drawn"))
        self.end_life(None)

    @precondition(may_end)
    @rule()
    def raise_in_block(self) -> None:
        self.broke.append(BoomError("block"))
        self.stop(self.body.set)
        self.end_life(BoomError)

    def stop(self, how: Any) -> None:
        self.listens = False
        self.act(how)
        self.settle()
        self.living.end_all("outer", self.acted_at)
        if any(each.reason == "outer" for each in self.living.ended):
            with pytest.raises(AnabranchError):
                _ = self.run.result

    def end_life(self, raised: type[Exception] | None) -> None:
        assert self.ended.is_set(), "the block goes on"
        assert type(self.run_error) is (raised or type(None)), self.run_error
        assert self.living.is_over, self.model
        assert self.run.usage.cost_usd == float(self.living.spent)
        self.check_left()
        self.model = None

    # What must be true -------------------------------------------------------------------------

    def has_ended(self) -> bool:
        return self.run_over.is_set() if self.listens else self.ended.is_set()

    def check_outcomes(self) -> None:
        model, source = self.living, self.source
        if self.listens:
            super().check_outcomes()
        assert self.run.usage.cost_usd == float(model.spent)
        reason = "" if self.run.pool is None else self.run.pool.reason
        if model.event_set and model.is_over and not model.breach:
            model.breach = reason  # it may have been set as the run ended
        assert reason == model.breach, f"{reason!r}, and should be {model.breach!r}"
        if len(self.seen) > self.heard:  # a feed hears of a larger limit with the next outcome
            self.heard, self.least_limit = len(self.seen), model.limit
        if source is not None and source.items and not model.breach:
            active = sum(job.state != "ended" for job in model.jobs.values())
            full = len(model.in_state("running")) >= model.limit or active >= 2 * self.least_limit
            assert full, f"{list(source.items)} are not pulled, and a token is free"

    def check_result(self) -> None:
        """Compare the run's result with the model."""
        model, result = self.living, self.run.result
        assert result.usage.cost_usd == float(model.spent)
        assert result.reason == model.breach
        if isinstance(self.run_error, UsageLimitExceededError):
            assert self.run_error.result is result
            assert str(self.run_error).startswith(model.breach)
        step = result.step_history[0]
        if self.source is not None:
            assert step.counts == Counter(str(each.status) for each in model.ended)
            return
        assert list(step.completion_order) == [each.key for each in model.ended]
        for each in model.ended:
            found, spent = step.branches[each.key], model.jobs[each.key].spent
            assert (found.status, found.reason) == (each.status, each.reason)
            assert (found.attempts, found.queued_s) == (each.attempts, each.queued_s)
            assert (found.cost_usd or 0) == float(spent), f"{found!r} and {spent}"

    # In the loop -------------------------------------------------------------------------------

    async def _open(self, life: dict[str, Any]) -> None:
        runtime = self.runtime
        self.body, self.ended, self.run_over, self.event = (runtime.Event() for _ in range(4))
        self.limiter, self.outer = runtime.CapacityLimiter(life["limit"]), runtime.CancelScope()
        self.broke: list[Exception] = []
        budget = None if life["budget"] is None else Budget(cost_usd=life["budget"])
        self.run = Pipeline([self._step(life["branches"])]).open(
            budget=budget, breach_event=self.event if self.watched else None
        )
        self.stage.breached = lambda: self.run.pool is not None and bool(self.run.pool.reason)
        assert self.steps is not None, "the loop runs"
        self.steps.start(self._live)

    def _step(self, branches: Any) -> Any:
        if isinstance(branches, dict):
            terms = branches | {"priority": 0}
            self.source = Source(self.stage, terms)
            self.living.open_ended = True
            step = self._branch("item", terms, self.stage.act)
            return Step.map_over("s", step, items=self.source, max_concurrency=self.limiter)
        steps, now = {}, self.clock()
        for number, terms in enumerate(branches):
            key = f"{'ab'[number % 2]}{number}"
            self.living.accept(key, now, **terms)
            steps[key] = self._branch(key, terms, partial(self._puppet, key))
        priorities = {key: job.priority for key, job in self.living.jobs.items()}
        return Step.parallel(
            "s", steps, max_concurrency=self.limiter, timeout=None, priorities=priorities
        )

    def _branch(self, name: str, terms: dict[str, Any], fn: Any) -> Any:
        retry = Retry(terms["tries"], terms["wait"], jitter=0)
        return Step(name, fn, retry=retry if terms["tries"] > 1 else None)

    async def _puppet(self, key: str, _: object) -> Paid:
        return await self.stage.act(key)

    async def _live(self) -> None:
        async with self.runtime.open_nursery() as nursery:
            try:
                with self.outer:
                    async with self.run:
                        nursery.start_soon(self._read)
                        await self.body.wait()
                        for error in self.broke:
                            self.stage.note("outer", "")
                            raise error
            except (BoomError, UsageLimitExceededError) as error:
                self.run_error = error
            self.ended.set()
            nursery.cancel_scope.cancel("the run has ended")

    async def _read(self) -> None:
        async for outcome in self.run.outcomes:
            self.seen.append(outcome)
        self.run_over.set()

    def _stop_listening(self) -> None:
        self.listens = False
        self.body.set()

    def _feed(self, count: int) -> None:
        source = self.source
        assert source is not None, "the precondition says so"
        for _ in range(count):
            source.items.append(str(self.fed))
            self.fed += 1
        source.more.set()

    def _end_feed(self) -> None:
        if self.source is not None:
            self.source.over = True
            self.living.open_ended = False
            self.source.more.set()
