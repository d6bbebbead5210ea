"""Ask a director before each step of each task, on either loop.

On trio an instrument sees each step, and what a task is resumed with can be exchanged for an
error: what it awaits then fails. On asyncio no hook is asked, but a task factory may give each
task a coroutine of its own, which passes everything on to the program's.

``asyncio.sleep`` is added here to the waits that may fail: the other file knows no asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import outcome
import trio

from anabranch._runtime import on_trio
from anabranch.errors import AnabranchError
from anabranch.testing._clock import where
from anabranch.testing._disturbing import BLOCK, DIRECTOR, Director
from anabranch.testing._schedule import Choices
from anabranch.testing._schedules import run_asyncio, run_trio

SLEEP = asyncio.sleep.__code__
TURNS = 3  # of a loop, in which tasks that have ended may say so


class LeftRunningError(AnabranchError, AssertionError):
    """Say that tasks outlived the test that started them."""


class _Instrument(trio.abc.Instrument):
    def __init__(self, director: Director) -> None:
        self._director = director

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step of the program; trio's own tasks know no director."""
        if task.context.get(DIRECTOR) is not self._director:
            return
        error = self._director.step(task.name, task.context.get(BLOCK), task.coro)
        # A sleep ends by its deadline, so with an error; a first step has no outcome yet.
        if error is not None and isinstance(task._next_send, (outcome.Value, outcome.Error)):
            task._next_send = outcome.Error(error)


class _Stepped(Coroutine[Any, Any, Any]):
    """Pass everything on to a coroutine, but ask before each step."""

    def __init__(self, coroutine: Any, director: Director) -> None:
        self._coroutine = coroutine
        self._director = director

    def send(self, value: Any) -> Any:
        """Go on, or throw what the director wants."""
        error = self._ask()
        if error is not None and self._coroutine.cr_suspended:
            return self._coroutine.throw(error)
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error, as asyncio wants: a cancellation most often."""
        self._ask()
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Close it."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()  # type: ignore[no-any-return]  # a coroutine of any kind

    def __getattr__(self, name: str) -> Any:  # anyio, and errors, ask for cr_frame and the like
        return getattr(self._coroutine, name)

    def _ask(self) -> Exception | None:
        if DIRECTOR.get() is not self._director:
            return None
        name = getattr(self._coroutine, "__qualname__", "a task")
        return self._director.step(name, BLOCK.get(), self._coroutine)


def run_directed(
    async_fn: Callable[[], Coroutine[Any, Any, Any]],
    loop: str,
    choices: Choices,
    director: Director,
    *,
    whole: bool,
) -> None:
    """Run a program under a director.

    Args:
        whole: all of it may be interrupted.

    Raises:
        LeftRunningError: it left tasks running.
    """
    director.outside.add(SLEEP)

    async def main() -> None:
        DIRECTOR.set(director)
        if whole:
            with director.block():
                await async_fn()
        else:
            await async_fn()
        DIRECTOR.set(None)
        if not on_trio():  # whose nurseries leave nobody
            await _see_who_is_left()

    if loop == "trio":
        run_trio(main, seed=choices, instruments=[_Instrument(director)])
        return

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **terms: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Stepped(coroutine, director), loop=loop, **terms)

    run_asyncio(main, seed=choices, task_factory=make)


async def _see_who_is_left() -> None:
    this = asyncio.current_task()
    for _ in range(TURNS):
        if asyncio.all_tasks() == {this}:
            return
        await asyncio.sleep(0)
    left = sorted(where(each.get_coro()) for each in asyncio.all_tasks() - {this})
    raise LeftRunningError(f"the test has ended, and {len(left)} of its tasks have not: {left}")
