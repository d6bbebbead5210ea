"""Programs with a planted fault each, which ordinary runs do not show."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from anabranch.testing import interruptible


class Gate:
    """Lend tokens; a waiter that is cancelled takes the wake-up with it that it got."""

    def __init__(self, tokens: int) -> None:
        self.free = tokens
        self.waiting: list[anyio.Event] = []

    async def acquire(self) -> None:
        while not self.free:
            event = anyio.Event()
            self.waiting.append(event)
            await event.wait()
        self.free -= 1

    def release(self) -> None:
        self.free += 1
        if self.waiting:
            self.waiting.pop(0).set()


async def lost_wakeup() -> None:
    gate = Gate(1)

    async def use() -> None:
        await gate.acquire()
        try:
            await anyio.sleep(1)
        finally:
            gate.release()

    async def give_up() -> None:
        with interruptible():
            await use()

    async with anyio.create_task_group() as group:
        for fn in (use, give_up, use):
            group.start_soon(fn)


async def leaked_token() -> None:
    limiter = anyio.CapacityLimiter(2)

    async def use(borrower: object) -> None:
        await limiter.acquire_on_behalf_of(borrower)
        await checkpoint()  # and what if this one is cancelled?
        try:
            await anyio.sleep(1)
        finally:
            limiter.release_on_behalf_of(borrower)

    with interruptible():
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(use, str(number))
    assert limiter.borrowed_tokens == 0


async def double_outcome() -> None:
    outcomes: list[str] = []

    async def branch() -> None:
        try:
            await anyio.sleep(1)
            outcomes.append("succeeded")
            await checkpoint()
        except BaseException:
            outcomes.append("did not")
            raise

    with interruptible():
        await branch()
    assert len(outcomes) <= 1, outcomes


async def wakeup_between_look_and_wait() -> None:
    """Go to sleep for news that came after the look and before the wait."""
    news: list[str] = []
    waiting: list[anyio.Event] = []

    async def read() -> None:
        if not news:
            await checkpoint()
            event = anyio.Event()
            waiting.append(event)
            await event.wait()

    async def write() -> None:
        await checkpoint()
        news.append("come")
        for event in waiting:
            event.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        group.start_soon(write)


async def token_behind_an_await() -> None:
    """Await in the ``finally`` that gives the token back."""
    limiter = anyio.CapacityLimiter(1)

    async def use(borrower: object) -> None:
        await limiter.acquire_on_behalf_of(borrower)
        try:
            await anyio.sleep(1)
        finally:
            await anyio.sleep(0)
            limiter.release_on_behalf_of(borrower)

    with interruptible():
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(use, str(number))
    assert limiter.borrowed_tokens == 0


async def outcome_and_deadline() -> None:
    """Write the outcome of a deadline after a look that was long ago."""
    outcomes: list[str] = []

    async def work() -> None:
        await anyio.sleep(1)
        if not outcomes:
            outcomes.append("succeeded")

    async def watch() -> None:
        await anyio.sleep(1)
        if not outcomes:
            await checkpoint()
            outcomes.append("timed out")

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        group.start_soon(watch)
    assert len(outcomes) == 1, outcomes


async def relies_on_order() -> None:
    """Go wrong when the last of five goes before the first, which may be."""
    seen: list[int] = []

    async def note(number: int) -> None:
        for _ in range(4):
            await checkpoint()
        seen.append(number)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(note, number)
    assert seen.index(0) < seen.index(4)


async def sound() -> None:
    limiter, outcomes = anyio.CapacityLimiter(2), []

    async def use(number: int) -> None:
        async with limiter:
            await anyio.sleep(1)
        outcomes.append(number)

    with interruptible():
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(use, number)
    assert limiter.borrowed_tokens == 0
    assert len(outcomes) == len(set(outcomes))
