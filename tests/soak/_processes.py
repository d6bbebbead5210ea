"""Run calls in child processes while some of these are killed, and some kill themselves."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import anyio

from anabranch import Job, LaneError, Outcome, Status, open_scheduler
from anabranch._host import current_host
from anabranch.lanes._process import Children
from tests.lanes import calls
from tests.soak._round import Round

# What is called, with what, and the type of error that it must come to; None for none.
CALLS: dict[str, tuple[Any, tuple[Any, ...], type[Exception] | None]] = {
    "add": (calls.add, (1, 2), None),
    "pid": (calls.pid, (), None),
    "big": (calls.big, (300_000,), None),
    "raises": (calls.raises, (ValueError("drawn"),), ValueError),
    "raises_two": (calls.raises_two, (), LaneError),
    "returns_lock": (calls.returns_lock, (), LaneError),
    "kills_itself": (calls.kills_itself, (), LaneError),
    "leaves": (calls.leaves, (3,), LaneError),
    "exits": (calls.exits, (4,), LaneError),
    "takes_lambda": (calls.add, (lambda: 0,), LaneError),
    "sleeps": (time.sleep, (60,), TimeoutError),
}
SLEEPS_S = 0.3


def soak_processes(this: Round) -> None:
    """Run a handful of calls on the cpu lane."""
    this.run(_main, this)


async def _main(this: Round) -> None:
    draw = this.draw
    names = [draw.choice(list(CALLS)) for _ in range(draw.randint(3, 12))]
    kills = this.chance(40)
    async with anyio.create_task_group() as group:
        if kills:
            group.start_soon(_kill, this)
        async with open_scheduler(draw.randint(1, 3)) as scheduler:
            for number, name in enumerate(names):
                fn, args, _ = CALLS[name]
                timeout = SLEEPS_S if name == "sleeps" else None
                scheduler.submit(Job(f"{number} {name}", fn, args, lane="cpu", timeout=timeout))
            outcomes = [outcome async for outcome in scheduler.outcomes]
        group.cancel_scope.cancel()
    this.did["calls in processes"] += len(names)
    for outcome in outcomes:
        _check(this, outcome, may_die=kills)
    this.claim(len(outcomes) == len(names), f"{len(outcomes)} outcomes of {len(names)} calls")


async def _kill(this: Round) -> None:
    """Kill processes of the lane, whatever they do."""
    children = current_host().part(Children)
    while True:
        await anyio.sleep(this.draw.choice([0.02, 0.1, 0.3]))
        there = [*children._busy, *children._idle]
        if there:
            child = this.draw.choice(there)
            if child.alive():
                os.kill(child.pid, signal.SIGKILL)
                this.injected["processes killed"] += 1


def _check(this: Round, outcome: Outcome, *, may_die: bool) -> None:
    name = outcome.key.partition(" ")[2]
    error = CALLS[name][2]
    died = may_die and isinstance(outcome.error, LaneError)
    this.injected["calls that go wrong"] += error is not None
    if error is None:
        fits = outcome.status is Status.SUCCEEDED
    elif error is TimeoutError:
        fits = outcome.status is Status.TIMED_OUT
    else:
        fits = outcome.status is Status.FAILED and isinstance(outcome.error, error)
    this.claim(fits or died, f"{outcome!r}")
