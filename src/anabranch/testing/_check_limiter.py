"""Check a limiter of one's own: tokens lent, given back, waited for, resized and cancelled.

It runs on the loop that runs it, in virtual time or real.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import anyio
import attrs

from anabranch._options import exact
from anabranch._runtime import current
from anabranch._work import check_limit
from anabranch.abc import Limiter
from anabranch.errors import ConfigurationError
from anabranch.testing._promises import BrokenError, Promises, claim

Make: TypeAlias = Callable[[int], Limiter]

LONG_S = 2.0  # in which who may go on has gone on
SHORT_S = 0.05  # in which who may not would have
PEOPLE = 6  # in a drawn program
STEPS = 12


@exact("check_limiter", awaits=True)
async def check_limiter(make: Make, *, runs: int = 20, seed: int = 0) -> None:
    """Check that limiters keep what the engine relies on.

    Args:
        make: returns a new limiter of so many tokens; called in the loop, many times.
        runs: so many drawn programs of borrowing, giving back, cancelling and resizing.
        seed: draws them.

    Raises:
        ConformanceError: it breaks a promise; all of them are named.
        ConfigurationError: ``make`` makes no limiter.
    """
    check_limit("check_limiter", "runs", runs)
    given: Any = make
    if not callable(given) or (isinstance(given, Limiter) and not isinstance(given, type)):
        raise ConfigurationError(
            f"check_limiter: {make!r:.80} ({type(make).__name__}) is no function that makes a "
            f"limiter; give one: lambda tokens: MyLimiter(tokens)"
        )
    one: Any = make(1)
    if not isinstance(one, Limiter):
        missing = [name for name in _MEMBERS if not hasattr(one, name)]
        raise ConfigurationError(
            f"check_limiter: {one!r:.80} ({type(one).__name__}) has no {', '.join(missing)}; "
            f"see anabranch.abc.Limiter"
        )
    promises = Promises(one, "limiter")
    for promise, see in _PROMISES:
        await promises.keep_async(promise, partial(see, make))
    for number in range(runs):
        dice = random.Random(seed * 1_000_003 + number)
        drawn = _Drawn(make(dice.randint(1, 3)), dice)
        promise = f"drawn program {number} (seed={seed}) ends with all tokens home"
        if not await promises.keep_async(promise, drawn.run):
            break
    promises.done()


_MEMBERS = (
    "total_tokens",
    "borrowed_tokens",
    "acquire_on_behalf_of",
    "acquire_on_behalf_of_nowait",
    "release_on_behalf_of",
    "statistics",
)


@attrs.define(eq=False)
class _Line:
    """Be people who wait for tokens, each in a task of its own."""

    limiter: Limiter
    nursery: Any
    came: list[Any] = attrs.field(factory=list)

    def join(self, who: str) -> Any:
        """Let somebody wait; return the scope that lets them give up."""
        scope = current().CancelScope()
        self.nursery.start_soon(self._wait, who, scope)
        return scope

    async def _wait(self, who: str, scope: Any) -> None:
        with scope:
            await self.limiter.acquire_on_behalf_of(who)
            self.came.append(who)

    async def see(self, count: int, seen: str) -> None:
        """Claim that so many have come, soon, and no more."""
        await _until(lambda: len(self.came) >= count)
        await current().sleep(SHORT_S)
        claim(len(self.came) == count, f"{len(self.came)} of {count} came {seen}")


async def _until(condition: Callable[[], bool]) -> None:
    runtime = current()
    clock = runtime.lowlevel.current_clock().current_time
    end = clock() + LONG_S
    while not condition() and clock() < end:
        await runtime.sleep(0.005)


async def _waiting(limiter: Limiter, count: int) -> None:
    await _until(lambda: limiter.statistics().tasks_waiting == count)
    waiting = limiter.statistics().tasks_waiting
    claim(waiting == count, f"statistics().tasks_waiting is {waiting}, and {count} wait")


def _refuses(call: Callable[[], object], errors: tuple[type[Exception], ...], what: str) -> None:
    try:
        call()
    except errors:
        return
    raise BrokenError(f"{what} raised no {errors[0].__name__}")


async def _lends(make: Make) -> None:
    limiter = make(3)
    claim(limiter.total_tokens == 3, f"total_tokens is {limiter.total_tokens!r} of 3")
    for number in range(3):
        claim(limiter.borrowed_tokens == number, f"{limiter.borrowed_tokens} of {number} are lent")
        limiter.acquire_on_behalf_of_nowait(f"b{number}")
    full = lambda: limiter.acquire_on_behalf_of_nowait("one more")  # noqa: E731  # read once
    _refuses(full, (current().WouldBlock, anyio.WouldBlock), "a fourth token of 3")
    for number in range(3):
        limiter.release_on_behalf_of(f"b{number}")
    claim(limiter.borrowed_tokens == 0, f"{limiter.borrowed_tokens} are lent, and all are back")
    await current().lowlevel.checkpoint()


async def _knows_borrowers(make: Make) -> None:
    limiter = make(2)
    limiter.acquire_on_behalf_of_nowait("a")
    again = lambda: limiter.acquire_on_behalf_of_nowait("a")  # noqa: E731  # read once
    _refuses(again, (RuntimeError,), "a second token for one borrower")
    _refuses(
        lambda: limiter.release_on_behalf_of("b"), (RuntimeError,), "a release by who has none"
    )
    claim(limiter.borrowed_tokens == 1, f"{limiter.borrowed_tokens} are lent after both, not 1")
    await current().lowlevel.checkpoint()


async def _passes_on(make: Make) -> None:
    limiter = make(1)
    async with current().open_nursery() as nursery:
        line = _Line(limiter, nursery)
        limiter.acquire_on_behalf_of_nowait("first")
        for who in ("a", "b"):
            line.join(who)
        await _waiting(limiter, 2)
        limiter.release_on_behalf_of("first")
        await line.see(1, "for one token that was given back")
        limiter.release_on_behalf_of(line.came[0])
        await line.see(2, "after a second one was")
        await _waiting(limiter, 0)


async def _lets_give_up(make: Make) -> None:
    limiter = make(1)
    async with current().open_nursery() as nursery:
        line = _Line(limiter, nursery)
        limiter.acquire_on_behalf_of_nowait("first")
        scope = line.join("gives up")
        await _waiting(limiter, 1)
        line.join("stays")
        await _waiting(limiter, 2)
        scope.cancel(reason="check_limiter")
        await _waiting(limiter, 1)
        limiter.release_on_behalf_of("first")
        await line.see(1, "after one had given up")
        claim(line.came == ["stays"], f"the token went to {line.came}")


async def _survives_a_race(make: Make) -> None:
    """Cancel who waits in the very step in which the token comes, before it and after."""
    for release_first in (True, False):
        limiter = make(1)
        async with current().open_nursery() as nursery:
            line = _Line(limiter, nursery)
            limiter.acquire_on_behalf_of_nowait("first")
            scope = line.join("in a race")
            await _waiting(limiter, 1)
            line.join("stays")
            await _waiting(limiter, 2)
            if release_first:
                limiter.release_on_behalf_of("first")
            scope.cancel(reason="check_limiter")
            if not release_first:
                limiter.release_on_behalf_of("first")
            await _until(partial(bool, line.came))
            for who in line.came[:]:
                limiter.release_on_behalf_of(who)
            await _until(partial(line.came.__contains__, "stays"))
            order = "as" if release_first else "before"
            lost = f"a token was lost: its waiter was cancelled {order} it came"
            claim("stays" in line.came, lost)
            for who in set(line.came) - {"in a race"}:
                if limiter.borrowed_tokens:
                    limiter.release_on_behalf_of(who)
            nursery.cancel_scope.cancel(reason="check_limiter")


async def _grows(make: Make) -> None:
    limiter = make(1)
    async with current().open_nursery() as nursery:
        line = _Line(limiter, nursery)
        limiter.acquire_on_behalf_of_nowait("first")
        for who in ("a", "b", "c"):
            line.join(who)
        await _waiting(limiter, 3)
        limiter.total_tokens = 3
        claim(limiter.total_tokens == 3, f"total_tokens is {limiter.total_tokens!r} of 3")
        await line.see(2, "when 1 token became 3")
        nursery.cancel_scope.cancel(reason="check_limiter")


async def _shrinks(make: Make) -> None:
    limiter = make(3)
    async with current().open_nursery() as nursery:
        line = _Line(limiter, nursery)
        for who in ("x", "y", "z"):
            limiter.acquire_on_behalf_of_nowait(who)
        limiter.total_tokens = 1
        claim(limiter.borrowed_tokens == 3, f"{limiter.borrowed_tokens} of 3 are lent after it")
        line.join("a")
        await _waiting(limiter, 1)
        for who in ("x", "y"):
            limiter.release_on_behalf_of(who)
        await line.see(0, "while 1 of 1 was lent")
        limiter.release_on_behalf_of("z")
        await line.see(1, "when all were back")


async def _pauses(make: Make) -> None:
    limiter = make(1)
    limiter.total_tokens = 0
    async with current().open_nursery() as nursery:
        line = _Line(limiter, nursery)
        line.join("a")
        await _waiting(limiter, 1)
        await line.see(0, "at 0 tokens")
        limiter.total_tokens = 1
        await line.see(1, "when there was one again")


_PROMISES = (
    ("it lends as many tokens as it has", _lends),
    ("it knows who has one", _knows_borrowers),
    ("a token that is given back goes to one who waits", _passes_on),
    ("who gives up waiting takes nothing along", _lets_give_up),
    ("no token is lost between a cancellation and its coming", _survives_a_race),
    ("it grows while others wait", _grows),
    ("it shrinks below what is lent", _shrinks),
    ("0 tokens are a pause", _pauses),
)


@attrs.define(eq=False)
class _Drawn:
    """Be a drawn program: people come and go, give up, and somebody resizes."""

    limiter: Limiter
    dice: random.Random
    running: int = 0

    async def run(self) -> None:
        runtime = current()
        async with runtime.open_nursery() as nursery:
            for number in range(PEOPLE):
                plan = [
                    (self.dice.random() / 50, self.dice.choice([None, None, 0.0, 0.005]))
                    for _ in range(STEPS // 2)
                ]
                nursery.start_soon(self._borrow, f"p{number}", plan)
            nursery.start_soon(self._resize, [self.dice.randint(0, 4) for _ in range(STEPS)])
        lent = self.limiter.borrowed_tokens
        claim(lent == 0, f"{lent} tokens are not home at the end")

    async def _borrow(self, who: str, plan: list[tuple[float, float | None]]) -> None:
        runtime = current()
        clock = runtime.lowlevel.current_clock().current_time
        for seconds, patience in plan:
            end = float("inf") if patience is None else clock() + patience
            with runtime.CancelScope(deadline=end):
                await self.limiter.acquire_on_behalf_of(who)
                try:
                    await self._hold(seconds)
                finally:
                    self.running -= 1
                    self.limiter.release_on_behalf_of(who)

    async def _hold(self, seconds: float) -> None:
        self.running += 1
        lent = self.limiter.borrowed_tokens
        claim(self.running <= lent, f"{self.running} hold a token, and it says {lent}")
        await current().sleep(seconds)

    async def _resize(self, totals: list[int]) -> None:
        for total in (*totals, 2):
            await current().sleep(0.004)
            self.limiter.total_tokens = total
