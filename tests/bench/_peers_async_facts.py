"""Ask a peer that runs coroutines what it does when things go wrong.

Each question is a function of a peer and an extent that returns what was found, by name.
A branch says by a counter whether it runs; those that are cancelled tidy up for a moment, as what
holds a connection does, so that who returns too early is seen to leave something running.
"""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import trio

from anabranch import Budget, UsageLimitExceededError, charge
from tests.bench._measure import spread
from tests.bench._peers_async import Count, Values, on_loop
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import Peer
from tests.bench._peers_presence import SpentError
from tests.bench._subjects import LIMIT

TIDY = 0.02  # seconds that a cancelled branch still runs, times its number


def timeout(peer: Peer, extent: PeersExtent) -> Values:
    """Put a deadline around a run: how many branches still run when it has passed."""
    count = Count()

    async def tidy(item: int) -> None:
        with count:
            try:
                await anyio.sleep(30)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(TIDY * item)

    async def measured() -> Values:
        run = peer.opens(LIMIT)
        if peer.loop == "trio":
            with trio.move_on_after(0.2):
                await run(tidy, range(LIMIT))
        else:
            try:
                async with asyncio.timeout(0.2):
                    await run(tidy, range(LIMIT))
            except TimeoutError:
                pass
        left = count.running
        await anyio.sleep(2 * LIMIT * TIDY)  # a loop that ends would cancel what is left
        return {"left": left}

    return on_loop(peer.loop, measured)


def nested(peer: Peer, extent: PeersExtent) -> Values:
    """Nest a run in a run under a limit of 1, then 2: does it end, how many leaves at once."""

    async def measured() -> Values:
        ended = True
        with anyio.move_on_after(extent.patience) as scope:
            await _nest(peer, 1)
        ended = not scope.cancelled_caught
        peak = await _nest(peer, 2) if ended else 0
        return {"ends": ended, "peak": peak, "limit": 2}

    return on_loop(peer.loop, measured)


async def _nest(peer: Peer, limit: int) -> int:
    run, count = peer.opens(limit, shared=True), Count()

    async def leaf(item: object) -> None:
        with count:
            await anyio.sleep(0.05)

    async def outer(item: object) -> None:
        await run(leaf, range(3))

    await run(outer, range(3))
    return count.peak


def breach(peer: Peer, extent: PeersExtent) -> Values:
    """Spend too much in the third branch of many: how many have started in the end."""
    count, size = Count(), extent.breached

    async def spend(item: object) -> None:
        with count:
            if peer.spends:
                charge(requests=1)
            elif count.started == 3:
                raise SpentError("spent 3 of 2")
            await anyio.sleep(0.01)

    async def measured() -> Values:
        run = peer.opens(4, budget=Budget(requests=2)) if peer.spends else peer.opens(4)
        told = "no error"
        try:
            await run(spend, range(size))
        except (SpentError, UsageLimitExceededError, ExceptionGroup) as error:
            told = type(error).__name__
        await anyio.sleep(0.01 * size / 4 + 0.1)  # what goes on behind the caller's back, does
        return {"started": count.started, "of": size, "told": told}

    return on_loop(peer.loop, measured)


def outer(peer: Peer, extent: PeersExtent) -> Values:
    """Cancel a run from outside, while nothing and while a branch fails: does it go on."""

    async def measured() -> Values:
        plain = await _cancelled(peer, fails=False)
        return {"plain": plain, "failing": await _cancelled(peer, fails=True)}

    return on_loop(peer.loop, measured)


async def _cancelled(peer: Peer, fails: bool) -> str:
    run = peer.opens(LIMIT)
    seen: list[str] = []

    async def branch(item: int) -> None:
        try:
            await anyio.sleep(30)
        finally:
            if fails and item == 0:
                raise ValueError("failed while it was cancelled")

    async def whole() -> None:
        try:
            await run(branch, range(4))
            seen.append("returned")
        except BaseException as error:
            seen.append("goes on" if _cancels(error) else f"lost in {type(error).__name__}")
            if _cancels(error):
                raise

    if peer.loop == "trio":
        with contextlib.suppress(ExceptionGroup), trio.move_on_after(0.1):
            await whole()
    else:
        running = asyncio.ensure_future(whole())
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.wait([running])
    return seen[0]


def _cancels(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_cancels, error.exceptions))
    return isinstance(error, (asyncio.CancelledError, trio.Cancelled))


def follow(peer: Peer, extent: PeersExtent) -> Values:
    """Call what gets slower beyond 8 calls at once: how many call at once in the end.

    A call takes 20 ms, and in proportion longer where more than 8 are there.
    """
    count, found = Count(), []

    async def measured() -> Values:
        end = anyio.current_time() + extent.followed

        async def call(item: object) -> None:
            with count:
                now = anyio.current_time()
                if now > end:
                    return
                if now > end - 1:
                    found.append(count.running)
                await anyio.sleep(0.02 * max(1.0, count.running / 8))

        run = peer.opens(extent.ceiling)
        await run(call, range(int(extent.followed * 450)))
        return {"limit": extent.ceiling, "last": round(spread(found).median)}

    return on_loop(peer.loop, measured)


QUESTIONS = {
    "timeout": timeout,
    "nested": nested,
    "breach": breach,
    "outer": outer,
    "follow": follow,
}
