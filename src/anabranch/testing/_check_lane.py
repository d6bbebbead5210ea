"""Check a lane of one's own: results, errors, many calls at once, cancellation, the free loop.

It runs calls in real time, on the loop that runs it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from anabranch._open import open_scheduler
from anabranch._options import exact
from anabranch._runtime import current, keeps_real_time
from anabranch._sampling import Realness
from anabranch._work import Job, Status
from anabranch._work import check_lane as check_is_lane
from anabranch.abc import Lane
from anabranch.errors import ConfigurationError
from anabranch.testing import _calls as calls
from anabranch.testing._promises import Promises, claim

Said: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]
Says: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Any, ...]]

MANY = 8  # calls at once
BEATS = 50  # a hundredth of a second each: how long a call lasts that is to be cancelled
QUIET_S = 0.2  # in which a call that was stopped must not beat


@exact("check_lane", awaits=True)
async def check_lane(
    lane: Lane,
    *,
    says: Says | None = None,
    value: Callable[[Any], Any] | None = None,
    raises: type[Exception] = ValueError,
    stops: bool = True,
    holds_loop: bool = False,
) -> None:
    """Check that a lane keeps what the engine and its users rely on.

    Args:
        lane: an object with an async ``run(fn, args, kwargs)``.
        says: makes ``(fn, args)`` for this lane of a plain function and its arguments, for a lane
            that runs something else than functions.
        value: takes what the function returned out of what ``run`` returned.
        raises: what a ValueError of the function comes as.
        stops: it stops a call that is cancelled, or waits for it; without, it may leave it running,
            and its users must know.
        holds_loop: it runs calls on the loop itself, and so cannot leave it free or stop them.

    Raises:
        ConformanceError: it breaks a promise; all of them are named.
        ConfigurationError: what is no lane, or virtual time, in which no call can take any.
    """
    check_is_lane("check_lane", lane)
    if isinstance(lane, str):
        raise ConfigurationError(f"check_lane: {lane!r} is a name; give an object that is a lane")
    await _see_real_time()
    subject = _Subject(lane, says, value or (lambda found: found), raises)
    promises = Promises(lane, "lane")
    keep = promises.keep_async
    await keep("it returns what the call returns", subject.returns)
    await keep("it raises what the call raises", subject.fails)
    await keep("it goes on after a call that raised", subject.returns)
    await keep(f"{MANY} calls at once get each their own result", subject.keeps_apart)
    await keep("each branch on it has one outcome", subject.has_outcomes)
    if not holds_loop:
        await keep("the loop goes on while a call runs", subject.leaves_loop_free)
    if stops and not holds_loop:
        await keep("a call that is cancelled has ended when run returns", subject.stops)
    await keep("it goes on after a call that was cancelled", subject.returns)
    promises.done()


async def _see_real_time() -> None:
    runtime = current()
    realness = Realness(runtime.lowlevel.current_clock().current_time, keeps_real_time())
    await runtime.sleep(0.02)
    if not realness.look():
        raise ConfigurationError(
            "check_lane runs in virtual time, where no call can take any; use the real clock: "
            'trio.run, asyncio.run, or @pytest.mark.anabranch(clock="real")'
        )


@attrs.frozen
class _Subject:
    lane: Lane
    says: Says | None
    value: Callable[[Any], Any]
    raises_: type[Exception]

    def said(self, fn: Callable[..., Any], *args: Any) -> tuple[Any, ...]:
        return (fn, args) if self.says is None else self.says(fn, args)

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        said, given = self.said(fn, *args)
        return self.value(await self.lane.run(said, given, {}))

    async def returns(self) -> None:
        found = await self.run(calls.add, 1, 10)
        claim(found == 11, f"add(1, 10) gave {found!r:.80}")
        if self.says is None:
            found = self.value(await self.lane.run(calls.add, (1,), {"two": 5}))
            claim(found == 6, f"add(1, two=5) gave {found!r:.80}")

    async def fails(self) -> None:
        try:
            found = await self.run(calls.fail, "the words of an error")
        except self.raises_ as error:
            claim("the words of an error" in str(error), f"the words are lost: {error!r:.200}")
        else:
            claim(False, f"a call that raised ValueError gave {found!r:.80}")

    async def keeps_apart(self) -> None:
        found: dict[int, Any] = {}

        async def one(number: int) -> None:
            found[number] = await self.run(calls.rest, 0.01, number)

        async with current().open_nursery() as nursery:
            for number in range(MANY):
                nursery.start_soon(one, number)
        wrong = {number: got for number, got in found.items() if got != number}
        claim(not wrong, f"by the number that each should have returned: {wrong!r:.200}")

    async def has_outcomes(self) -> None:
        asked: list[tuple[Any, ...]] = [
            (calls.add, 1, 2),
            (calls.fail, "no"),
            (calls.add, 3, 4),
            (calls.rest, 0.01, 9),
        ]
        async with open_scheduler(2) as scheduler:
            for number, (fn, *args) in enumerate(asked):
                scheduler.submit(Job(str(number), *self.said(fn, *args), lane=self.lane))
            outcomes = [outcome async for outcome in scheduler.outcomes]
        keys = sorted(outcome.key for outcome in outcomes)
        claim(keys == ["0", "1", "2", "3"], f"outcomes came for {keys}")
        ends = {outcome.key: outcome.status for outcome in outcomes}
        expected = dict.fromkeys("023", Status.SUCCEEDED) | {"1": Status.FAILED}
        claim(ends == expected, f"they ended as {ends}")

    async def leaves_loop_free(self) -> None:
        turns = 0
        runtime = current()

        async def turn() -> None:
            nonlocal turns
            while True:
                await runtime.sleep(0.01)
                turns += 1

        async with runtime.open_nursery() as nursery:
            nursery.start_soon(turn)
            await self.run(calls.rest, 0.3)
            nursery.cancel_scope.cancel(reason="the call has ended")
        claim(turns >= 3, f"a call of 0.3 s left the loop {turns} turns, where 30 would do")

    async def stops(self) -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder, "beats")
            found: list[Any] = []
            async with current().open_nursery() as nursery:
                nursery.start_soon(self._beat, path, found)
                await _until_begun(path)
                nursery.cancel_scope.cancel(reason="check_lane")
            then = _size(path)
            with current().CancelScope(shield=True):
                await current().sleep(QUIET_S)
            now = _size(path)
            claim(now == then, f"run returned, and the call went on for {now - then} beats more")
            claim(not found or found == [BEATS], f"run swallowed it, and returned {found!r:.80}")

    async def _beat(self, path: Path, found: list[Any]) -> None:
        found.append(await self.run(calls.beat, str(path), BEATS))


async def _until_begun(path: Path) -> None:
    while not _size(path):
        await current().sleep(0.01)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
