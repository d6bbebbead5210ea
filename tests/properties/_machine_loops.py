"""Step a loop from outside, so that a state machine may act between two of its moments.

`RuleBasedStateMachine` calls its rules from a plain program. asyncio's loop may be run again and
again until one coroutine has ended; trio's guest mode hands each turn of its loop to whoever
hosts it, and here that is a deque which is emptied until one coroutine has ended. With a clock
that jumps, trio never waits in a thread for that. Both are public, and nothing in the loop goes
on meanwhile: a rule sees the world stand still. Order and time are those of ``run_trio`` and
``run_asyncio``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeAlias

import trio
from trio.testing import MockClock

from anabranch.testing._schedules import SeededOrder, seeded_loop

Async: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]

TURNS = 200_000  # of a loop, until one coroutine has ended: more is a loop that spins


class Steps(Protocol):
    """Let a loop go on for as long as one coroutine takes."""

    def run(self, async_fn: Async, *args: Any) -> Any:
        """Run one coroutine to its end; return what it returns, raise what it raises."""

    def start(self, async_fn: Async) -> None:
        """Start what goes on beside; call it in the loop."""

    def close(self) -> None:
        """Cancel what is left, and end the loop."""


class TrioSteps:
    """Host a trio run: its turns wait in a deque."""

    def __init__(self, seed: int) -> None:
        self._turns: deque[Callable[[], object]] = deque()
        self._next: Callable[[], Coroutine[Any, Any, Any]] | None = None
        self._ended: list[tuple[Any, BaseException | None]] = []
        self._over: Any = None
        self._closing = False
        trio.lowlevel.start_guest_run(
            self._serve,
            run_sync_soon_threadsafe=self._turns.append,
            done_callback=self._hear_the_end,
            clock=MockClock(autojump_threshold=0),
            instruments=[SeededOrder(seed)],
        )

    def run(self, async_fn: Async, *args: Any) -> Any:
        self._next = partial(async_fn, *args)
        self._turn_until(lambda: bool(self._ended))
        value, error = self._ended.pop()
        if error is not None:
            raise error
        return value

    def start(self, async_fn: Async) -> None:
        self._nursery.start_soon(async_fn)

    def close(self) -> None:
        self._closing = True
        self._turn_until(lambda: False)
        self._over.unwrap()

    def _turn_until(self, done: Callable[[], bool]) -> None:
        for _ in range(TURNS):
            if done() or self._over is not None:
                break
            self._turns.popleft()()
        else:
            raise AssertionError(f"{TURNS} turns of the loop, and it goes on")
        if self._over is not None and not self._closing:
            self._over.unwrap()
            raise AssertionError("the loop has ended before its time")

    def _hear_the_end(self, over: Any) -> None:
        self._over = over

    async def _serve(self) -> None:
        async with trio.open_nursery() as self._nursery:
            while not self._closing:
                command, self._next = self._next, None
                if command is None:
                    await trio.lowlevel.checkpoint()  # so that time stands still meanwhile
                    continue
                try:
                    self._ended.append((await command(), None))
                except Exception as error:
                    self._ended.append((None, error))
            self._nursery.cancel_scope.cancel("the machine is done")


class AsyncioSteps:
    """Run an asyncio loop again and again."""

    def __init__(self, seed: int) -> None:
        self._lost: list[str] = []  # what asyncio would only log
        self._beside: list[asyncio.Task[Any]] = []
        self._runner = asyncio.Runner(loop_factory=partial(seeded_loop, seed, deadlock="raise"))
        loop = self._runner.get_loop()
        loop.set_exception_handler(lambda _, context: self._lost.append(repr(context)))

    def run(self, async_fn: Async, *args: Any) -> Any:
        value = self._runner.run(async_fn(*args))
        for each in self._beside:
            if each.done():
                each.result()
        return value

    def start(self, async_fn: Async) -> None:
        self._beside.append(asyncio.create_task(async_fn()))

    def close(self) -> None:
        self._runner.close()
        assert not self._lost, self._lost


LOOPS: dict[str, Callable[[int], Steps]] = {"trio": TrioSteps, "asyncio": AsyncioSteps}
