"""Wait for tasks in the host's loop; a task that waits lends its token to what it waits for."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection
from concurrent.futures import FIRST_COMPLETED
from contextlib import asynccontextmanager
from typing import Any

from anabranch._host import Host
from anabranch._knot import Loan, close_block, open_block
from anabranch._limits import lendable
from anabranch._scheduler import Scheduler
from anabranch._token import holding
from anabranch.workerpool._knots import is_enough, without_knots
from anabranch.workerpool._task import Task


class AsyncWait:
    """Let one caller wait for tasks."""

    def __init__(self, left: int, word: str, event: Any) -> None:
        self.event = event
        self._left = left
        self._word = word

    def note(self, task: Task) -> None:
        """Hear that a task has ended."""
        self._left -= 1
        if not self._left or is_enough(task, self._word):
            self.event.set()


def missing_of(
    tasks: Collection[Task], unfinished: set[Task], own: Task | None, word: str, *, one: bool
) -> list[Task]:
    """List the tasks that are to be waited for; none if enough have ended.

    Raises:
        DeadlockError: the one task waits for the task ``own``, which is about to wait for it.
    """
    if any(is_enough(task, word) for task in tasks if task not in unfinished):
        return []
    missing = [task for task in tasks if task in unfinished]
    return missing if own is None else without_knots(own, missing, alone=one)


async def wait_in_loop(
    host: Host, missing: list[Task], own: Task | None, timeout: float | None, word: str
) -> bool:
    """Wait for tasks; False when ``timeout`` seconds were over first."""
    waiting = AsyncWait(len(missing), word, host.runtime.Event())
    for task in missing:
        task.waits = [*(task.waits or ()), waiting]
    if own is not None:
        own.waits_for, own.waits_for_any = frozenset(missing), word == FIRST_COMPLETED
    try:
        deadline = math.inf if timeout is None else host.clock() + timeout
        with host.runtime.CancelScope(deadline=deadline):
            await waiting.event.wait()
    finally:
        if own is not None:
            own.waits_for = None
        for task in missing:
            if task.waits is not None and waiting in task.waits:
                task.waits.remove(waiting)
    return bool(waiting.event.is_set())


@asynccontextmanager
async def lending(scheduler: Scheduler, host: Host) -> AsyncIterator[None]:
    """Lend what the calling task holds of the scheduler's tokens, and of the threads'."""
    held = holding.get()
    if held is None:
        yield
        return
    loan = Loan(lendable([scheduler.limiter], host), host.runtime)
    block = open_block(held)
    scheduler.ledger.room = True
    scheduler.ledger.grow(1)
    try:
        yield
    except BaseException:
        loan.take_back_nowait()
        raise
    else:
        await loan.take_back(block)
    finally:
        close_block(block, held)
