"""Parts that break one promise each, to see that the checks name it."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import anyio
import anyio.to_thread
import attrs

from anabranch import Bounds, Decision, Load


class InThreads:
    """Be a sound lane: each call in a thread, and waited for when it is cancelled."""

    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        return await anyio.to_thread.run_sync(lambda: fn(*args, **kwargs))


class LosesKeywords(InThreads):
    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        return await super().run(fn, args, {})


class SwallowsErrors(InThreads):
    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        try:
            return await super().run(fn, args, kwargs)
        except Exception:
            return None


class ChangesErrors(InThreads):
    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        try:
            return await super().run(fn, args, kwargs)
        except ValueError as error:
            raise RuntimeError("it failed") from error


class DiesOfAnError(InThreads):
    dead = False

    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        if self.dead:
            raise RuntimeError("dead")
        try:
            return await super().run(fn, args, kwargs)
        except ValueError:
            self.dead = True
            raise


class MixesUp(InThreads):
    """Keep the result of the last call in one place."""

    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        self.result = await super().run(fn, args, kwargs)
        await anyio.sleep(0.02)
        return self.result


class HoldsLoop:
    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return fn(*args, **kwargs)


class LeavesCallRunning:
    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        return await anyio.to_thread.run_sync(lambda: fn(*args, **kwargs), abandon_on_cancel=True)


class SwallowsCancel(InThreads):
    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        with anyio.CancelScope(shield=True):
            await super().run(fn, args, kwargs)
        return 11 if args == (1, 10) else None


LANES = [
    (LosesKeywords, "returns what the call returns"),
    (SwallowsErrors, "raises what the call raises"),
    (ChangesErrors, "raises what the call raises"),
    (DiesOfAnError, "goes on after a call that raised"),
    (MixesUp, "get each their own result"),
    (HoldsLoop, "the loop goes on"),
    (LeavesCallRunning, "has ended when run returns"),
]


class Limiter:
    """Be a sound limiter: a list of who waits, each with an event."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.lent: set[Any] = set()
        self.line: dict[Any, anyio.Event] = {}

    @property
    def total_tokens(self) -> float:
        return self._total

    @total_tokens.setter
    def total_tokens(self, total: int) -> None:
        self._total = total
        self.serve()

    @property
    def borrowed_tokens(self) -> int:
        return len(self.lent)

    def statistics(self) -> Any:
        return attrs.make_class("Statistics", ["tasks_waiting"])(len(self.line))

    def acquire_on_behalf_of_nowait(self, borrower: Any) -> None:
        if borrower in self.lent:
            raise RuntimeError("it has one")
        if self.line or len(self.lent) >= self._total:
            raise anyio.WouldBlock
        self.lent.add(borrower)

    async def acquire_on_behalf_of(self, borrower: Any) -> None:
        await anyio.lowlevel.checkpoint()
        try:
            self.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            await self.wait(borrower)

    async def wait(self, borrower: Any) -> None:
        event = self.line[borrower] = anyio.Event()
        try:
            await event.wait()
        except BaseException:
            if self.line.pop(borrower, None) is None:  # it came, and nobody will take it
                self.release_on_behalf_of(borrower)
            raise

    def release_on_behalf_of(self, borrower: Any) -> None:
        if borrower not in self.lent:
            raise RuntimeError("it has none")
        self.lent.remove(borrower)
        self.serve()

    def serve(self) -> None:
        while self.line and len(self.lent) < self._total:
            borrower = next(iter(self.line))
            self.lent.add(borrower)
            self.line.pop(borrower).set()


class LendsOneMore(Limiter):
    def acquire_on_behalf_of_nowait(self, borrower: Any) -> None:
        if len(self.lent) == self._total and not self.line and borrower not in self.lent:
            self.lent.add(borrower)
        else:
            super().acquire_on_behalf_of_nowait(borrower)


class ForgetsBorrowers(Limiter):
    def release_on_behalf_of(self, borrower: Any) -> None:
        self.lent.discard(borrower)
        self.serve()


class LosesTokens(Limiter):
    """Leave a token with whoever was cancelled as it came."""

    async def wait(self, borrower: Any) -> None:
        event = self.line[borrower] = anyio.Event()
        try:
            await event.wait()
        except BaseException:
            self.line.pop(borrower, None)
            raise


class KeepsPlace(Limiter):
    """Leave whoever gave up in the line."""

    async def wait(self, borrower: Any) -> None:
        event = self.line[borrower] = anyio.Event()
        await event.wait()


class SleepsThroughGrowth(Limiter):
    total_tokens = property(
        lambda self: self._total, lambda self, total: setattr(self, "_total", total)
    )


class LendsAboveAfterShrink(Limiter):
    """Give a token on to who waits, whatever the total is by now."""

    def release_on_behalf_of(self, borrower: Any) -> None:
        super().release_on_behalf_of(borrower)
        if self.line:
            who = next(iter(self.line))
            self.lent.add(who)
            self.line.pop(who).set()


LIMITERS = [
    (LendsOneMore, "as many tokens as it has"),
    (ForgetsBorrowers, "knows who has one"),
    (LosesTokens, "no token is lost"),
    (KeepsPlace, "who gives up"),
    (SleepsThroughGrowth, "grows while others wait"),
    (LendsAboveAfterShrink, "shrinks below"),
]


class Stays:
    """Be a sound law that never moves."""

    def initial(self, bounds: Bounds) -> Any:
        return bounds

    def next(self, state: Any, load: Load) -> Any:
        return Decision(state, int(load.limit))


class AddsOne(Stays):
    def next(self, state: Any, load: Load) -> Any:
        return Decision(state, int(load.limit) + 1, "more")


class Fraction(Stays):
    def next(self, state: Any, load: Load) -> Any:
        return Decision(state, load.limit / 2, "half")  # type: ignore[arg-type]  # on purpose


class GivesNoReason(Stays):
    def next(self, state: Any, load: Load) -> Any:
        return Decision(state, state.floor)


class BelievesInSignals(Stays):
    def next(self, state: Any, load: Load) -> Any:
        assert load.cpu is not None
        return Decision(state, int(load.limit))


class RemembersItself(Stays):
    def __init__(self) -> None:
        self.calls = itertools.count()

    def next(self, state: Any, load: Load) -> Any:
        wanted = state.floor if next(self.calls) % 2 else state.ceiling
        return Decision(state, wanted, "turn" if wanted != load.limit else "")


class ChangesState(Stays):
    def initial(self, bounds: Bounds) -> Any:
        return {"bounds": bounds, "calls": 0}

    def next(self, state: Any, load: Load) -> Any:
        state["calls"] += 1
        bounds = state["bounds"]
        wanted = bounds.floor if state["calls"] % 2 else bounds.ceiling
        return Decision(state, wanted, "turn" if wanted != load.limit else "")


class SharesState(Stays):
    """Keep one figure for all of its limits."""

    seen = 0.0

    def next(self, state: Any, load: Load) -> Any:
        self.seen = max(self.seen, load.t)
        wanted = state.floor if self.seen > load.t else state.ceiling
        return Decision(state, wanted, "late" if wanted != load.limit else "")


class Impatient(Stays):
    def next(self, state: Any, load: Load) -> Any:
        return Decision(state, int(load.limit), "", again=0.0)


class Returns(Stays):
    def next(self, state: Any, load: Load) -> Any:
        return int(load.limit)


LAWS = [
    (AddsOne, "within the bounds"),
    (Fraction, "whole numbers"),
    (GivesNoReason, "a reason exactly"),
    (BelievesInSignals, "decides whatever it is told"),
    (RemembersItself, "in its state only"),
    (ChangesState, "in its state only"),
    (SharesState, "does not depend on"),
    (Impatient, "asks again"),
    (Returns, "return a Decision"),
]


@attrs.frozen
class Tells:
    """Be a sampler that tells this."""

    what: Any

    def sample(self) -> Any:
        return self.what


class Hangs:
    def sample(self) -> Any:
        time.sleep(1.5)
        return {}


class Raises:
    def sample(self) -> Any:
        raise OSError("no /proc")


class OneAtATime:
    """Refuse who asks while another does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def sample(self) -> Any:
        if not self.lock.acquire(blocking=False):
            raise RuntimeError("busy")
        try:
            time.sleep(0.02)
        finally:
            self.lock.release()
        return {"cpu": 0.5}


SAMPLERS = [
    (Tells({"cpu": 95.0}), "percent"),
    (Tells({"memory_used": -1}), "negative"),
    (Tells({"cpus": 4}), "signals that there are"),
    (Tells([("cpu", 0.5)]), "a mapping"),
    (Tells({"cpu": "high"}), "no number"),
    (Raises(), "no /proc"),
    (OneAtATime(), "threads may ask"),
    (Hangs(), "within 1 s"),
]
