"""Fail loudly where an upstream version changes what the clock and the schedules touch."""

from __future__ import annotations

import asyncio
import inspect
import platform
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import outcome
import pytest
import trio
from trio._core import _run

from anabranch.testing._clock import VirtualLoop

# asyncio

TOUCHED = {
    "_ready": (deque, "the callbacks that are about to run, in a deque"),
    "_scheduled": (list, "the heap of timers"),
    "_clock_resolution": (float, "how far ahead of time() a timer is run"),
    "_process_events": (Callable, "called after each look at the descriptors, before callbacks"),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_asyncio_still_has_the_private_attribute_that_the_clock_touches(name: str) -> None:
    kind, what = TOUCHED[name]
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        seen = getattr(runner.get_loop(), name, None)
    assert isinstance(seen, kind), (
        f"asyncio of Python {platform.python_version()} changed: loop.{name} was {what}, "
        f"and is {seen!r} now; see anabranch/testing/_clock.py"
    )


def test_asyncio_still_asks_its_clock_and_its_hook_in_each_iteration() -> None:
    async def main() -> list[str]:
        asked: list[str] = []
        loop: Any = asyncio.get_running_loop()
        for name in ("time", "_process_events"):
            loop.__dict__[name] = partial(remember, asked, name, getattr(loop, name))
        await asyncio.sleep(0)
        return asked

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        seen = runner.run(main())
    assert seen[:2] == ["_process_events", "time"], (
        f"asyncio of Python {platform.python_version()} changed: an iteration was a look at the "
        "descriptors, _process_events, time() for the timers that are due, then the callbacks; "
        "see anabranch/testing/_clock.py"
    )


def remember(asked: list[str], name: str, call: Callable[..., Any], *args: Any) -> Any:
    asked.append(name)
    return call(*args)


class Steps:
    """An order that changes nothing and tells how the steps of the tasks looked."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def arrange(self, ready: deque[Any]) -> None:
        for handle in ready:
            if isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):
                woken = any(isinstance(arg, asyncio.Future) for arg in handle._args)
                self.seen.add("woken by a future" if woken else "stepped")

    def arrange_due(self, timers: list[asyncio.TimerHandle]) -> None:
        """Leave them."""


def test_asyncio_still_shows_which_callbacks_are_steps() -> None:
    order = Steps()
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(order=order)) as runner:
        runner.run(asyncio.sleep(1))
    assert order.seen == {"stepped", "woken by a future"}, (
        f"asyncio of Python {platform.python_version()} changed: a step was a handle whose "
        "_callback.__self__ is the task, and whose _args hold the future that woke it; "
        "see anabranch/testing/_schedules.py"
    )


# trio

TRIO = f"trio {trio.__version__} changed: %s; see anabranch/testing/_schedules.py"


def test_trio_still_has_the_private_attributes_that_the_schedules_touch() -> None:
    async def look() -> None:
        runner = _run.GLOBAL_RUN_CONTEXT.runner
        assert isinstance(runner.runq, deque), TRIO % "runner.runq was the queue of a pass"
        assert not runner.waiting_for_idle, TRIO % "runner.waiting_for_idle was empty"
        due = runner.deadlines.next_deadline()
        assert isinstance(due, float), TRIO % "deadlines.next_deadline() was a number"
        status = trio.lowlevel.current_task()._cancel_status
        assert isinstance(status._scope, trio.CancelScope), TRIO % "_cancel_status._scope was one"
        assert isinstance(status._parent, _run.CancelStatus), TRIO % "_cancel_status._parent"

    assert isinstance(_run._r, random.Random), TRIO % "_r was the dice of all runs"
    assert isinstance(_run._ALLOW_DETERMINISTIC_SCHEDULING, bool), TRIO % "the flag was a bool"
    trio.run(look)


def test_trio_still_resumes_a_task_with_what_an_instrument_has_put_there() -> None:
    class Exchange(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if "wait" in task.name and isinstance(task._next_send, outcome.Value):
                task._next_send = outcome.Error(KeyError("exchanged"))

    async def wait() -> None:
        await trio.lowlevel.checkpoint()

    async def main() -> str:
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, name="wait")
        return repr(caught.value.exceptions)

    told = trio.run(main, instruments=[Exchange()])
    assert "exchanged" in told, TRIO % "_next_send was what a step sends" + " and _steps.py"


def test_trio_still_sorts_a_batch_by_age_and_shuffles_it_whole() -> None:
    source = inspect.getsource(_run.unrolled_run)
    lines = ["batch.sort(key=lambda t: t._counter)", "_r.shuffle(batch)"]
    assert all(line in source for line in lines), TRIO % "a batch was sorted, then shuffled by _r"
