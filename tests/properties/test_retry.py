"""Whatever fails, waits, falls back and is cancelled: one outcome, each error once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from anabranch import Job, Outcome, Pipeline, Retry, Status, Step, StepResult, open_scheduler
from anabranch.errors import BranchTimedOutError
from anabranch.testing._schedules import run_asyncio, run_trio
from tests.branches import Watch

both = pytest.mark.parametrize("run", [run_trio, run_asyncio])
drawn = settings.get_profile("programs")
few = settings(drawn, max_examples=min(500, drawn.max_examples))  # trees draw many more than these
LATE = 1e-6


class TransientError(Exception):
    """Be tried again."""


class FinalError(Exception):
    """Be final."""


@attrs.frozen
class Call:
    """One call of a branch: how long it takes, and how it ends."""

    seconds: float
    ends: str  # ok, fails, final


@attrs.frozen
class Terms:
    """What is asked of one branch."""

    calls: tuple[Call, ...]  # the last one is repeated
    retry: Retry | None
    timeout: float | None
    queue_timeout: float | None
    priority: int
    fallback: Call | None
    fallback_retry: Retry | None


@attrs.frozen
class Move:
    """Something that is done while branches run."""

    at: float
    what: str  # limit, cancel, stop, outer
    number: int


@attrs.frozen
class Program:
    """What is run, and what is done meanwhile."""

    branches: tuple[Terms, ...]
    moves: tuple[Move, ...]
    limit: int
    seed: int


@attrs.define(eq=False)
class Life:
    """What was seen of one branch."""

    terms: Terms
    begun: list[float] = attrs.field(factory=list)
    ended: list[float] = attrs.field(factory=list)
    fell_back: int = 0
    raised: list[Exception] = attrs.field(factory=list)
    cancelled_at: float | None = None


def seconds(least: float = 0.0) -> st.SearchStrategy[float]:
    return st.sampled_from([each for each in (0.0, 0.5, 1.0, 2.0, 3.5, 8.0) if each >= least])


def calls() -> st.SearchStrategy[Call]:
    return st.builds(Call, seconds(), st.sampled_from(["ok", "fails", "fails", "fails", "final"]))


def retries() -> st.SearchStrategy[Retry]:
    return st.builds(
        Retry,
        st.integers(1, 4),
        seconds(),
        st.just(8.0),
        seconds(),
        on=st.just((TransientError,)),
        seed=st.integers(0, 3),
        budget=st.sampled_from([None, 0.2]),
    )


def terms() -> st.SearchStrategy[Terms]:
    return st.builds(
        Terms,
        st.lists(calls(), min_size=1, max_size=4).map(tuple),
        st.none() | retries(),
        st.none() | seconds(0.5),
        st.none() | seconds(0.5),
        st.integers(-1, 1),
        st.none() | calls(),
        st.none() | retries(),
    )


def programs() -> st.SearchStrategy[Program]:
    move = st.builds(
        Move,
        st.integers(0, 40).map(lambda n: n / 2 + 0.25),
        st.sampled_from(["limit", "limit", "cancel", "cancel", "stop", "outer"]),
        st.integers(0, 3),
    )
    return st.builds(
        Program,
        st.lists(terms(), min_size=1, max_size=5).map(tuple),
        st.lists(move, max_size=4).map(tuple),
        st.integers(1, 3),
        st.integers(0, 2**16),
    )


class World:
    """Run the branches of a program and watch them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.limiter = anyio.CapacityLimiter(program.limit)
        self.watch = Watch(self.limiter)
        self.lives = [Life(terms) for terms in program.branches]
        self.outer = anyio.CancelScope()
        self.ended_at = 0.0

    def fn(self, life: Life) -> Callable[..., Any]:
        async def branch(_: Any = None) -> str:
            call = life.terms.calls[min(len(life.begun), len(life.terms.calls) - 1)]
            life.begun.append(anyio.current_time())
            return await self._run(life, call)

        return branch

    def fallback(self, life: Life) -> Any:
        call = life.terms.fallback

        async def falls_back(_: Any = None) -> str:
            assert call is not None, "else there is none"
            life.fell_back += 1
            return await self._run(life, call)

        if call is None:
            return None
        return Step("fallback", falls_back, retry=life.terms.fallback_retry)

    async def _run(self, life: Life, call: Call) -> str:
        self.watch.begin()
        try:
            await anyio.sleep(call.seconds)
        finally:
            self.watch.end()
            life.ended.append(anyio.current_time())
        if call.ends == "ok":
            return "value"
        life.raised.append(TransientError() if call.ends == "fails" else FinalError())
        raise life.raised[-1]

    async def moves(self, cancel: Callable[[int], int], stop: Callable[[], None]) -> None:
        for move in sorted(self.program.moves, key=lambda move: move.at):
            await anyio.sleep_until(self.began_at + move.at)
            if move.what == "limit":
                self.limiter.total_tokens = move.number
            elif move.what == "cancel" and move.number < len(self.lives):
                if cancel(move.number):
                    self.lives[move.number].cancelled_at = anyio.current_time()
            elif move.what == "stop":
                stop()
            elif move.what == "outer":
                self.outer.cancel()
        await anyio.sleep_until(self.began_at + 25)
        self.limiter.total_tokens = max(1, self.limiter.total_tokens)

    def check(self) -> None:
        assert self.limiter.borrowed_tokens == 0
        assert self.watch.running == 0
        assert not self.watch.above, "a call has begun above the limit"
        for life in self.lives:
            retry, begun = life.terms.retry, life.begun
            assert len(begun) <= (1 if retry is None else retry.attempts)
            pairs = zip(life.ended, begun[1:], strict=False)
            for ended, again in pairs:
                assert again - ended >= (0 if retry is None else retry.wait) - LATE
            if life.cancelled_at is not None:
                assert all(at <= life.cancelled_at for at in begun)
            if begun and life.terms.timeout is not None:
                assert begun[-1] <= begun[0] + life.terms.timeout

    def check_end(self, life: Life, end: Outcome | StepResult[Any]) -> None:
        """Compare how a branch is said to have ended with what was seen of it."""
        assert end.attempts == len(life.begun)
        told = [*end.attempt_errors, *([] if end.error is None else [end.error])]
        ours = [error for error in told if isinstance(error, BranchTimedOutError)]
        assert len(ours) <= 2  # its own, and its fallback's
        theirs = [error for error in told if error not in ours]
        assert len(theirs) == len({id(error) for error in theirs})
        assert {id(error) for error in theirs} == {id(error) for error in life.raised}
        if end.status is Status.SUCCEEDED:
            assert end.error is None
        if end.status is Status.REJECTED:
            assert not life.begun
        if end.status is Status.FAILED:
            assert end.error is life.raised[-1]


async def run_jobs(program: Program) -> World:
    """Run the branches as jobs of a scheduler."""
    world = World(program)
    world.began_at = anyio.current_time()
    outcomes: dict[str, Outcome] = {}
    async with anyio.create_task_group() as group:
        with world.outer:
            async with open_scheduler(world.limiter) as scheduler:
                for number, life in enumerate(world.lives):
                    given = life.terms
                    scheduler.submit(
                        Job(
                            str(number),
                            world.fn(life),
                            priority=given.priority,
                            timeout=given.timeout,
                            queue_timeout=given.queue_timeout,
                            retry=given.retry,
                        )
                    )
                group.start_soon(
                    world.moves,
                    lambda number: scheduler.cancel(str(number)),
                    lambda: scheduler.stop("stopped"),
                )
        async for outcome in scheduler.outcomes:
            assert outcome.key not in outcomes
            outcomes[outcome.key] = outcome
        group.cancel_scope.cancel()
    assert len(outcomes) == len(program.branches)
    world.check()
    for number, life in enumerate(world.lives):
        end = outcomes[str(number)]
        world.check_end(life, end)
        late = life.terms.queue_timeout
        if end.status is Status.REJECTED:
            assert end.queued_s == pytest.approx(late)
        elif late is not None and life.begun:
            assert life.begun[0] <= world.began_at + late + LATE
        event(str(end.status))
    return world


async def run_step(program: Program) -> World:
    """Run the branches as those of a step."""
    world = World(program)
    world.began_at = anyio.current_time()
    steps = {
        str(number): Step(
            str(number),
            world.fn(life),
            timeout=life.terms.timeout,
            retry=life.terms.retry,
            fallback=world.fallback(life),
        )
        for number, life in enumerate(world.lives)
    }
    priorities = {str(n): life.terms.priority for n, life in enumerate(world.lives)}
    step = Step.parallel(
        "p", steps, max_concurrency=world.limiter, timeout=60, priorities=priorities
    )
    async with anyio.create_task_group() as group:
        with world.outer:
            async with Pipeline([step]).open(1) as live:
                group.start_soon(
                    world.moves,
                    lambda number: live.cancel(str(number)),
                    lambda: live.stop("stopped"),
                )
            for life, end in zip(
                world.lives, live.result.step_history[0].branches.values(), strict=True
            ):
                world.check_end(life, end)
                event(f"{end.status}, {'fell back' if life.fell_back else 'did not'}")
                if life.fell_back and end.status is Status.SUCCEEDED:
                    assert "fallback" in end.feedback
        group.cancel_scope.cancel()
    world.check()
    for life in world.lives:
        retry = life.terms.fallback_retry
        assert life.fell_back <= (1 if retry is None else retry.attempts)
    return world


@pytest.mark.drawn
@pytest.mark.slow
@both
@few
@given(program=programs())
def test_jobs_that_are_tried_again(run: Callable[..., Any], program: Program) -> None:
    run(run_jobs, program, seed=program.seed)


@pytest.mark.drawn
@pytest.mark.slow
@both
@few
@given(program=programs())
def test_steps_that_are_tried_again_and_fall_back(
    run: Callable[..., Any], program: Program
) -> None:
    run(run_step, program, seed=program.seed)
