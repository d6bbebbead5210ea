"""Run plain functions in threads: they fail, hang past their timeouts, are retried and cancelled.

Observers and recorders fail meanwhile, and the limit moves. Each job must have one outcome that
its own account allows, and never may more threads work than the limit lets.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from typing import Any

import anyio
import attrs

from anabranch import Job, Outcome, Retry, Status, open_scheduler
from anabranch._runtime import current
from tests.soak._round import Round

STOPPED = {Status.CANCELLED, Status.TIMED_OUT, Status.ABANDONED, Status.REJECTED}
ENDED = {Status.SUCCEEDED: "returned", Status.FAILED: "raised"}


@attrs.define(eq=False)
class Call:
    """Be one plain function, and know how it ended last."""

    site: Site
    seconds: float
    fails: int  # how often it raises before it returns
    calls: int = 0
    how: str = ""

    def __call__(self) -> int:
        self.calls += 1
        with self.site.lock:
            self.site.now += 1
            self.site.peak = max(self.site.peak, self.site.now)
        time.sleep(self.seconds)
        self.how = "raised" if self.calls <= self.fails else "returned"
        with self.site.lock:
            self.site.now -= 1
        if self.calls <= self.fails:
            raise ValueError(self.calls)
        return self.calls


@attrs.define(eq=False)
class Site:
    """Count who works now, and what the recorder and the observer were told."""

    this: Round
    recorder_fails: float
    lock: Any = attrs.field(factory=threading.Lock)
    now: int = 0
    peak: int = 0
    told: Counter[str] = attrs.field(factory=Counter)
    outcomes: list[Outcome] = attrs.field(factory=list)

    async def record(self, outcome: Outcome) -> None:
        """Be a recorder that fails at times."""
        await anyio.sleep(0)
        self.told[outcome.key] += 1
        if self.this.chance(self.recorder_fails):
            self.this.injected["recorders that raise"] += 1
            raise OSError("no space")

    def observe(self, event: Any) -> None:
        """Be an observer that raises, once."""
        if self.recorder_fails:
            raise RuntimeError(type(event).__name__)


def soak_threads(this: Round) -> None:
    """Run jobs in threads under one limit."""
    this.run(_main, this)


async def _main(this: Round) -> None:
    draw = this.draw
    site = Site(this, draw.choice([0, 0, 5]))
    limiter = current().CapacityLimiter(draw.randint(1, 8))
    most = limiter.total_tokens
    calls = {f"{draw.choice('abc')}{n}": _call(site) for n in range(draw.randint(5, 60))}
    jobs = [_job(this, key, call) for key, call in calls.items()]
    half = draw.randint(0, len(jobs))
    ends = draw.choice([math.inf, math.inf, 0.05, 0.2])
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(ends) as scope:
            async with open_scheduler(
                limiter, observer=site.observe, recorder=site, recorder_failure="report"
            ) as scheduler:
                for job in jobs[:half]:
                    scheduler.submit(job)
                if jobs[half:]:
                    scheduler.feed(jobs[half:])
                most = max(most, *(_move(group, this, limiter) for _ in range(2)))
                if this.chance(30):
                    group.start_soon(_cancel, this, scheduler)
                async for outcome in scheduler.outcomes:
                    site.outcomes.append(outcome)
        group.cancel_scope.cancel()
    this.injected["cancellations from outside"] += scope.cancelled_caught
    while limiter.borrowed_tokens and site.now:  # abandoned threads
        await anyio.sleep(0.005)
    await anyio.sleep(0.005)
    _check(site, calls, whole=not scope.cancelled_caught)
    this.claim(site.peak <= most, f"{site.peak} threads worked at once, and the limit was {most}")
    await _come_home(this, limiter)


async def _come_home(this: Round, limiter: Any) -> None:
    """Let threads that have ended say so, and see that nobody holds a token."""
    with anyio.move_on_after(5):
        while limiter.borrowed_tokens:
            await anyio.sleep(0.005)
    this.home(limiter)


def _call(site: Site) -> Call:
    draw = site.this.draw
    seconds = draw.choice([0, 0, 0.001, 0.005, 0.02, 0.05])
    fails = draw.choice([0, 0, 0, 1, 2, 9])
    site.this.injected["errors"] += fails > 0
    return Call(site, seconds, fails)


def _job(this: Round, key: str, call: Call) -> Job:
    draw = this.draw
    timeout = draw.choice([None, None, 0.01, 0.2])
    this.injected["timeouts"] += timeout is not None and timeout < call.seconds
    this.did["calls in threads"] += 1
    return Job(
        key,
        call,
        priority=draw.randint(-1, 1),
        timeout=timeout,
        queue_timeout=draw.choice([None, None, None, 0.05]),
        retry=draw.choice([None, None, Retry(attempts=3, wait=0.001, jitter=0)]),
        on_cancel=draw.choice(["abandon", "abandon", "wait"]),
    )


def _move(group: Any, this: Round, limiter: Any) -> int:
    """Move the limit in a moment, to 0 for a moment at times; return how far it goes up."""
    total, seconds = this.draw.randint(0, 8), this.draw.choice([0, 0.01, 0.05])

    async def move() -> None:
        await anyio.sleep(seconds)
        limiter.total_tokens = total
        try:
            await anyio.sleep(0.02)
        finally:
            limiter.total_tokens = max(1, total)

    group.start_soon(move)
    this.injected["limits moved"] += 1
    return max(1, total)


async def _cancel(this: Round, scheduler: Any) -> None:
    await anyio.sleep(this.draw.choice([0, 0.005, 0.03]))
    this.injected["cancellations by glob"] += 1
    scheduler.cancel(f"{this.draw.choice('abc')}*", reason="drawn")


def _check(site: Site, calls: dict[str, Call], *, whole: bool) -> None:
    this, outcomes = site.this, site.outcomes
    keys = [outcome.key for outcome in outcomes]
    this.claim(len(set(keys)) == len(keys), "a job has two outcomes")
    this.claim(not whole or set(keys) == set(calls), f"no outcome: {set(calls) - set(keys)}")
    orders = [outcome.order for outcome in outcomes]
    this.claim(orders == list(range(len(orders))), f"the orders have gaps: {orders}")
    for outcome in outcomes:
        call = calls[outcome.key]
        due = ENDED.get(outcome.status)
        this.claim(due in (None, call.how), f"{outcome!r}, but it {call.how or 'never ran'}")
        stopped = outcome.status in STOPPED
        this.claim(bool(outcome.reason) == stopped, f"{outcome!r}: the reason")
        # What was stopped may have had its turn, and no thread yet.
        agree = call.calls <= outcome.attempts if stopped else call.calls == outcome.attempts
        this.claim(agree, f"{outcome!r}, and it was called {call.calls} times")
    twice = [key for key, n in site.told.items() if n > 1]
    this.claim(not twice, f"recorded twice: {twice}")
