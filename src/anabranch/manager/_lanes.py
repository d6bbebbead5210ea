"""Run the calls of one manager on one loop: three lanes, a limiter for each, and the throttle.

A call is a branch of a scheduler of its own under its lane's limiter, so what the scheduler knows
of tokens holds here: a call that waits for calls of its own lends its token, and nothing is left
running when it is cancelled.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any, NoReturn

from anabranch._branch import ASYNC, THREAD, Branch
from anabranch._host import Host, current_host
from anabranch._scheduler import Scheduler
from anabranch._token import holding
from anabranch._work import Status, is_async, name_of
from anabranch.abc import Limiter, Sampler
from anabranch.errors import BranchCancelledError
from anabranch.lanes._ending import at_loop_end
from anabranch.lanes._process import Call, Children
from anabranch.lanes._thread import IO_LIMIT, io_lane
from anabranch.manager._config import ConcurrencyManagerConfig
from anabranch.manager._line import Line
from anabranch.manager._metrics import Metrics
from anabranch.manager._throttle import Throttle, ThrottleLaw

NAMES = ("cpu", "io", "chunk")


class OneLane:
    """Run calls under one limiter: async ones here, plain ones in threads, or in processes."""

    def __init__(
        self, name: str, size: int, host: Host, metrics: Metrics | None, longest: int
    ) -> None:
        self.limiter: Limiter = host.runtime.CapacityLimiter(size)
        self.children: Children | None = None  # where calls go into processes
        self.throttle: Throttle | None = None
        self.line = Line(name, longest, host.runtime)
        self._name = name
        self._size = size
        self._host = host
        self._metrics = metrics
        self._numbers = count(1)

    def resize(self, share: float) -> None:
        """Let so much of its size be used, and at least one call run."""
        self.limiter.total_tokens = max(1, int(self._size * share + 1e-9))

    async def run(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], waits: bool
    ) -> Any:
        """Run one call; wait to be let into line, or with ``waits`` False be refused."""
        leave: Callable[[], object] = bool
        if holding.get() is None:  # what waits for a call of a call holds what that waits for
            leave = await self.line.enter(waits=waits)
        if self._metrics is not None:
            self._metrics.submit()
        branch = self._branch(fn, args, kwargs, leave)
        try:
            await self._scheduler().run_all([branch])
        finally:
            leave()
            self._count(branch)
        if branch.status is not Status.SUCCEEDED:
            raise_of(branch)
        return branch.value

    async def run_each(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        follower: Any,
    ) -> list[Branch]:
        """Run one call for each item; items of unknown number are pulled as fast as they run.

        Args:
            follower: hears of each that has ended, and may stop the scheduler.
        """
        begun: list[Branch] = []
        metrics = self._metrics

        def accept(item: Any) -> Branch:
            branch = self._branch(fn, (item, *args), kwargs, None)
            begun.append(branch)
            if metrics is not None:
                metrics.submit()
            return branch

        scheduler = self._scheduler([follower])
        try:
            if isinstance(items, Sequence):
                if items:
                    await scheduler.run_all([accept(item) for item in items])
            else:
                async with scheduler:
                    scheduler.feed_with(items, accept)
        finally:
            for branch in begun:
                self._count(branch)
        return begun

    def _scheduler(self, rules: Sequence[Any] = ()) -> Scheduler:
        scheduler = Scheduler(
            [self.limiter], reads=False, leases=False, host=self._host, rules=rules
        )
        if self.throttle is not None:
            scheduler.adapts = self.throttle.begin
        return scheduler

    def _branch(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        leave: Callable[[], object] | None,
    ) -> Branch:
        key = f"{self._name}-{next(self._numbers)} {name_of(fn)}"
        watched = _Watched(fn, self._metrics, leave)
        kind, call = THREAD, watched.call
        if self.children is not None:
            watched.fn = self._in_process
            args, kwargs = (key, fn, args, kwargs), {}
            kind, call = ASYNC, watched.call_async
        elif is_async(fn):
            kind, call = ASYNC, watched.call_async
        return Branch(key, kind, call, args, self._host.clock(), kwargs=kwargs)

    async def _in_process(
        self, key: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        assert self.children is not None, "only then is it called"
        return await self.children.run(Call(fn, args, kwargs, key))

    def _count(self, branch: Branch) -> None:
        if self._metrics is not None:
            self._metrics.ended(branch)


class _Watched:
    """Call a function, counted while it runs."""

    __slots__ = ("_leave", "_metrics", "fn")

    def __init__(
        self,
        fn: Callable[..., Any],
        metrics: Metrics | None,
        leave: Callable[[], object] | None,
    ) -> None:
        self.fn = fn
        self._metrics = metrics
        self._leave = leave

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call a plain one, in whichever thread this is."""
        self._begin()
        try:
            return self.fn(*args, **kwargs)
        finally:
            self._end()

    async def call_async(self, *args: Any, **kwargs: Any) -> Any:
        """Await an async one."""
        self._begin()
        try:
            return await self.fn(*args, **kwargs)
        finally:
            self._end()

    def _begin(self) -> None:
        if self._leave is not None:
            self._leave()
        if self._metrics is not None:
            self._metrics.begin()

    def _end(self) -> None:
        if self._metrics is not None:
            self._metrics.end()


class Lanes:
    """Keep the lanes of one manager on one loop, from its first call there to the loop's end."""

    def __init__(
        self,
        config: ConcurrencyManagerConfig,
        metrics: Mapping[str, Metrics] | None,
        samplers: Sequence[Sampler] | None,
        forget: Callable[[Lanes], object],
    ) -> None:
        self.host = host = current_host()
        longest = config.max_queue_size
        self.by_name = {
            name: OneLane(name, size, host, None if metrics is None else metrics[name], longest)
            for name, size in zip(NAMES, config.sizes, strict=True)
        }
        if config.use_processes:
            self.by_name["cpu"].children = Children(host.runtime)
        self.throttle: Throttle | None = None
        if config.enable_auto_throttle:
            law = ThrottleLaw(config.cpu_threshold / 100, config.memory_threshold / 100)
            self.throttle = Throttle(host, law, samplers, self._resize)
            for lane in self.by_name.values():
                lane.throttle = self.throttle
        self._threads = sum(config.sizes)
        self._forget = forget
        self._left: Any = None  # an Event while somebody waits until nothing runs
        self._wider = ExitStack()
        self._loop_end: AsyncGenerator[None, None] | None = None
        self.active = 0

    async def open(self) -> None:
        """Hear of the loop's end, and see that there are threads enough."""
        if self._loop_end is None:
            if self._threads > IO_LIMIT:
                self._wider.enter_context(io_lane(self.host).at_least(self._threads))
            self._loop_end = await at_loop_end(self._end)

    def _resize(self, share: float) -> None:
        for lane in self.by_name.values():
            lane.resize(share)

    def enter(self) -> None:
        """Count a call, or a map."""
        self.active += 1

    def leave(self) -> None:
        """Count its end."""
        self.active -= 1
        if not self.active and self._left is not None:
            self._left.set()

    async def all_left(self) -> None:
        """Wait until no call is under way."""
        while self.active:
            self._left = self.host.runtime.Event()
            await self._left.wait()

    def close(self, *, kill: bool = False, wait: bool = True) -> None:
        """End idle processes; those that work end after their call."""
        children = self.by_name["cpu"].children
        if children is not None:
            children.close(kill=kill, wait=wait)

    def _end(self) -> None:
        self._wider.close()
        self.close(kill=True)
        self._forget(self)


def raise_of(branch: Branch, note: str = "") -> NoReturn:
    """Raise why a call did not succeed."""
    error = error_of(branch)
    branch.error = None  # its traceback will hold this frame, and the frame the branch
    if note:
        error.add_note(note)
    try:
        raise error
    finally:
        del error


def error_of(branch: Branch) -> BaseException:
    """Return why a call did not succeed."""
    if branch.error is not None:
        return branch.error
    return BranchCancelledError(f"{branch.key} was stopped: {branch.reason or branch.status}")
