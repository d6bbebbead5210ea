"""Run pipelines in real time, with adaptive limits, budgets and rules, while samplers go wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import attrs

from anabranch import (
    BranchFailureStrategy,
    Budget,
    CancelWhen,
    ConcurrencyConfig,
    ExecutionConfig,
    Halt,
    Load,
    MergeStrategy,
    Pipeline,
    PipelineResult,
    Retry,
    Status,
    Step,
    StepResult,
    UsageLimitExceededError,
    charge,
)
from anabranch._runtime import current
from anabranch.controllers import AIMD
from tests.soak._round import Round

PIPELINES = 3  # in a round
ENDED = {Status.SUCCEEDED, Status.FAILED}


@attrs.define(eq=False)
class Sampler:
    """Read a machine that is drawn; raise, hang for a moment, or tell nonsense at times."""

    this: Round

    def sample(self) -> Mapping[str, float | None]:
        match self.this.draw.choice(["raise", "nonsense", "hang", *["tell"] * 9]):
            case "raise":
                self.this.injected["samplers that raise"] += 1
                raise OSError("drawn")
            case "nonsense":
                self.this.injected["samplers that tell nonsense"] += 1
                return {"cpu": math.nan, "cores": -1.0}
            case "hang":
                self.this.injected["samplers that hang"] += 1
                time.sleep(0.3)
        return {"cpu": self.this.draw.random(), "cores": 2.0, "memory_total": 8e9}


@attrs.define(eq=False)
class Law:
    """Be AIMD, and raise at times."""

    this: Round
    inner: AIMD = attrs.field(factory=AIMD)

    def initial(self, config: Any) -> Any:
        return self.inner.initial(config)

    def next(self, state: Any, load: Load) -> Any:
        if self.this.chance(5):
            self.this.injected["laws that raise"] += 1
            raise ZeroDivisionError
        return self.inner.next(state, load)


@attrs.define(eq=False)
class Work:
    """Be the functions of branches, and count how many run at once."""

    this: Round
    now: int = 0
    peak: int = 0

    def of(self, name: str) -> Callable[..., Any]:
        """Return a function that a step or a branch may be."""
        fails = self.this.chance(5)
        seconds = self.this.draw.choice([0, 0.002, 0.01, 0.05, 0.1])
        self.this.injected["errors"] += fails

        async def on_loop(data: Any, *, context: Any) -> Any:
            context[name] = data
            return await self._live(name, seconds, fails)

        def in_thread(data: Any) -> str:
            time.sleep(seconds)
            charge(tokens=1)
            if fails:
                raise ValueError(name)
            return name

        return on_loop if self.this.chance(70) else in_thread

    async def _live(self, name: str, seconds: float, fails: bool) -> str:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await anyio.sleep(seconds)
            charge(tokens=1)
            if fails:
                raise ValueError(name)
            return name
        finally:
            self.now -= 1


def soak_pipelines(this: Round) -> None:
    """Run pipelines of two steps with branches, nested, one after another."""
    this.run(_main, this)


async def _main(this: Round) -> None:
    for _ in range(PIPELINES):
        await _run(this)


async def _run(this: Round) -> None:
    draw, work = this.draw, Work(this)
    inner = _parallel(this, work, "inner", {})
    steps = [_map(this, work), _parallel(this, work, "outer", {"nested": inner})]
    limit = draw.choice([None, 1, 3])
    pipeline = Pipeline(steps, execution_config=ExecutionConfig(max_parallel_steps=limit))
    limiter = current().CapacityLimiter(draw.randint(1, 6)) if this.chance(40) else None
    budget = Budget(tokens=draw.choice([3, 20])) if this.chance(30) else None
    result: PipelineResult[Any] | None = None
    with anyio.move_on_after(draw.choice([math.inf] * 3 + [0.02, 0.5])) as scope:
        try:
            result = await _result(this, pipeline, limiter=limiter, budget=budget)
        except UsageLimitExceededError as error:
            this.injected["budgets spent"] += 1
            this.claim(budget is not None, f"no budget, and {error!r}")
            result = error.result
    this.did["pipelines"] += 1
    this.injected["cancellations from outside"] += scope.cancelled_caught
    this.claim(not work.now, f"the pipeline has ended, and {work.now} branches run")
    this.claim(result is not None or scope.cancelled_caught, "it has no result")
    most = limiter.total_tokens if limiter is not None else limit or math.inf
    this.claim(work.peak <= most, f"{work.peak} branches ran at once, and the limit was {most}")
    for step in result.step_history if result is not None else ():
        _check(this, step)
    if limiter is not None:
        with anyio.move_on_after(5):
            while limiter.borrowed_tokens:  # threads that were abandoned
                await anyio.sleep(0.005)
        this.home(limiter)


async def _result(this: Round, pipeline: Any, **terms: Any) -> PipelineResult[Any]:
    if this.chance(60):
        return await pipeline.run("data", context={"base": [1]}, **terms)
    async with pipeline.open("data", context={"base": [1]}, **terms) as run:
        async for _ in run.outcomes:
            if this.chance(3):
                this.injected["cancellations by glob"] += 1
                run.cancel("**", reason="drawn")
    return run.result


def _parallel(this: Round, work: Work, name: str, more: dict[str, Any]) -> Any:
    keys = [f"{this.draw.choice('abc')}{n}" for n in range(this.draw.randint(1, 8))]
    branches = {key: work.of(f"{name}-{key}") for key in keys}
    rules = [CancelWhen(keys[0], "done", cancel=keys[-1])] if this.chance(30) else []
    return Step.parallel(
        name,
        {**branches, **more},
        concurrency=_config(this),
        merge_strategy=this.draw.choice([MergeStrategy.NO_MERGE, MergeStrategy.OVERWRITE]),
        cancel_when=rules,
        **_terms(this),
    )


def _map(this: Round, work: Work) -> Any:
    retry = Retry(attempts=2, wait=0.001, jitter=0) if this.chance(30) else None
    one = Step("one", work.of("one"), retry=retry)
    items = range(this.draw.choice([0, 1, 20, 60, 60]))
    return Step.map_over("map", one, items=items, concurrency=_config(this), **_terms(this))


def _terms(this: Round) -> dict[str, Any]:
    strategy = BranchFailureStrategy
    return {
        "timeout": this.draw.choice([None, 30, 30, 0.3]),
        "on_branch_failure": this.draw.choice([strategy.PROPAGATE, strategy.IGNORE]),
        "halt": Halt(this.draw.choice(["now", "soon"]), on="failure") if this.chance(25) else None,
    }


def _config(this: Round) -> ConcurrencyConfig | None:
    if this.chance(25):
        return None
    law = this.draw.choice([None, "aimd", "gradient", Law(this)])
    return ConcurrencyConfig(
        this.draw.choice([1, 2, 3, 6]), controller=law, samplers=[Sampler(this)]
    )


def _check(this: Round, step: StepResult[Any]) -> None:
    branches = step.branches.values()
    good = sum(each.status is Status.SUCCEEDED for each in branches)
    this.claim(not step.success or good or not branches, f"nothing succeeded: {step!r}")
    for each in branches:
        this.claim(each.success == (each.status is Status.SUCCEEDED), f"{each!r}")
        this.claim(each.status in ENDED or each.reason, f"it was stopped, and no reason: {each!r}")
        this.did["branches of pipelines"] += 1
