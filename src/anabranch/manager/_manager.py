"""Run calls in three lanes, cpu, io and chunk, from any loop: seed 003's facade."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Self

from anabranch._branch import Branch
from anabranch._host import current_host
from anabranch._options import exact
from anabranch._runtime import Runtime
from anabranch._scheduler import Scheduler
from anabranch._token import holding
from anabranch._work import Status, check_callable, check_limit, is_async, name_of
from anabranch.abc import Sampler
from anabranch.errors import ConfigurationError, SchedulerClosedError
from anabranch.manager._config import ConcurrencyManagerConfig
from anabranch.manager._lanes import NAMES, Lanes, error_of, raise_of
from anabranch.manager._metrics import Metrics
from anabranch.samplers._checked import check_samplers


class ConcurrencyManager:
    """Run functions of three kinds beside each other, each under a limit of its own.

    ``cpu`` is for what computes: processes. ``io`` is for what waits, ``chunk`` for pieces of a
    whole: plain functions run in threads there, async ones on the loop.
    It may be used from several loops at once; each has its own lanes, which end with it.

    Args:
        config: sizes and thresholds.
        samplers: one or several, instead of those of the machine.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    @exact("ConcurrencyManager")
    def __init__(
        self,
        config: ConcurrencyManagerConfig | None = None,
        *,
        samplers: Sequence[Sampler] | Sampler | None = None,
    ) -> None:
        if config is not None and not isinstance(config, ConcurrencyManagerConfig):
            raise ConfigurationError(
                f"ConcurrencyManager: config={config!r:.80} ({type(config).__name__}) is no "
                f"ConcurrencyManagerConfig; give one"
            )
        self.config = config or ConcurrencyManagerConfig()
        self._samplers: Sequence[Sampler] | None = None
        if samplers is not None:
            self._samplers = check_samplers("ConcurrencyManager: samplers=", samplers)
        kept = self.config.enable_metrics
        self._metrics = {name: Metrics() for name in NAMES} if kept else None
        self._lock = threading.Lock()
        self._all: list[Lanes] = []
        self._closed = False
        self._leaving = False

    async def run_cpu(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``fn(*args, **kwargs)`` in a process, and return what it returns.

        Raises:
            ConfigurationError: an async function. LaneError: what cannot be pickled, or its
            process died. SchedulerClosedError: after ``shutdown``.
        """
        return await self._run("cpu", fn, args, kwargs)

    async def run_io(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``fn(*args, **kwargs)`` in a thread, or await it, and return what it returns."""
        return await self._run("io", fn, args, kwargs)

    async def run_chunk(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call ``fn(*args, **kwargs)`` as ``run_io`` does, in the lane for chunks."""
        return await self._run("chunk", fn, args, kwargs)

    async def run_cpu_nowait(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call as ``run_cpu`` does, if there is a place in line; raise QueueFull if not."""
        return await self._run("cpu", fn, args, kwargs, waits=False)

    async def run_io_nowait(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call as ``run_io`` does, if there is a place in line; raise QueueFull if not."""
        return await self._run("io", fn, args, kwargs, waits=False)

    async def run_chunk_nowait(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call as ``run_chunk`` does, if there is a place in line; raise QueueFull if not."""
        return await self._run("chunk", fn, args, kwargs, waits=False)

    async def map_cpu(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *args: Any,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Call ``fn(item, *args, **kwargs)`` for each item; return results in their order.

        The first error cancels the rest and is raised; with ``return_exceptions`` it stands in
        its place instead.
        """
        return await self._map("cpu", fn, items, args, kwargs, return_exceptions)

    async def map_io(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *args: Any,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Call as ``map_cpu`` does, in threads or on the loop."""
        return await self._map("io", fn, items, args, kwargs, return_exceptions)

    async def map_chunks(
        self,
        fn: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        /,
        *args: Any,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Call as ``map_io`` does, in the lane for chunks."""
        return await self._map("chunk", fn, items, args, kwargs, return_exceptions)

    async def process_in_batches(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        batch_size: int | None = None,
        lane: str = "chunk",
    ) -> list[Any]:
        """Call ``fn(item)`` for each item, a whole batch in one call of the lane.

        So what it costs to get into a lane is paid once for each batch. Results are in the order
        of the items; the first error cancels the rest and is raised.

        Args:
            batch_size: items of a batch; None for the config's ``chunk_batch_size``.
            lane: ``cpu``, ``io`` or ``chunk``.

        Raises:
            ConfigurationError: a batch of less than one item, or a lane that there is not.
        """
        size = self.config.chunk_batch_size if batch_size is None else batch_size
        check_limit("process_in_batches", "batch_size", size)
        if lane not in NAMES:
            raise ConfigurationError(
                f"process_in_batches: lane={lane!r} is none of {', '.join(NAMES)}; give one of them"
            )
        _check_function(lane, "map", fn)
        items = list(items)
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        whole = partial(each_of_async if is_async(fn) else each_of, fn)
        found = await self._map(lane, whole, batches, (), {}, return_exceptions=False)
        return [result for results in found for result in results]

    def get_stats(self) -> dict[str, dict[str, Any]]:
        """Return what each lane has done, by its name; rates in percent, times in seconds."""
        return {name: self._stats(name) for name in NAMES}

    @property
    def is_shut_down(self) -> bool:
        """Whether it takes no call any more."""
        return self._closed or self._leaving

    @property
    def throttle_factor(self) -> float:
        """The share of its lanes that may be used: 1.0 unless the machine is busy."""
        with self._lock:
            throttles = [each.throttle for each in self._all]
        return min((each.factor for each in throttles if each is not None), default=1.0)

    @property
    def _throttle_factor(self) -> float:
        return self.throttle_factor

    def shutdown(self, wait: bool = True) -> None:
        """Take no call any more; end idle processes, and those that work after their call.

        Args:
            wait: False does not wait for idle processes to end.
        """
        with self._lock:
            self._closed = True
            every = list(self._all)
        for lanes in every:
            lanes.close(wait=wait)

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._leaving = True
        try:
            lanes = self._here()
            if lanes is not None:
                await lanes.all_left()
        finally:
            self.shutdown()

    def _stats(self, name: str) -> dict[str, Any]:
        found = self._metrics[name].stats() if self._metrics is not None else {}
        with self._lock:
            lanes = [each.by_name[name] for each in self._all]
        sizes = dict(zip(NAMES, self.config.sizes, strict=True))
        limits = [int(lane.limiter.total_tokens) for lane in lanes]
        queued = sum(lane.line.length for lane in lanes)
        return {**found, "tasks_queued": queued, "limit": min(limits, default=sizes[name])}

    def _check_open(self) -> None:
        # While the block is being left, what runs may still make the calls that it needs to end.
        from_inside = not self._closed and holding.get() is not None
        if self._closed or (self._leaving and not from_inside):
            raise SchedulerClosedError("this manager was shut down; make another one")

    def _here(self) -> Lanes | None:
        """Return the lanes of the running loop, if there are any yet."""
        host = current_host()
        with self._lock:
            return next((each for each in self._all if each.host is host), None)

    async def _lanes(self) -> Lanes:
        self._check_open()
        lanes = current_host().part(self._make)
        await lanes.open()
        return lanes

    def _make(self, runtime: Runtime) -> Lanes:
        del runtime
        lanes = Lanes(self.config, self._metrics, self._samplers, self._forget)
        with self._lock:
            self._all.append(lanes)
        return lanes

    def _forget(self, lanes: Lanes) -> None:
        with self._lock:
            if lanes in self._all:
                self._all.remove(lanes)

    async def _run(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        waits: bool = True,
    ) -> Any:
        _check_function(name, "run", fn)
        lanes = await self._lanes()
        lanes.enter()
        try:
            return await lanes.by_name[name].run(fn, args, kwargs, waits)
        finally:
            lanes.leave()

    async def _map(
        self,
        name: str,
        fn: Callable[..., Any],
        items: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        return_exceptions: bool,
    ) -> list[Any]:
        first = FirstFailure(stops=not return_exceptions)
        branches = await self.run_each(name, fn, items, args, kwargs, first)
        if first.branch is not None and not return_exceptions:
            raise_of(first.branch)
        return [
            each.value if each.status is Status.SUCCEEDED else error_of(each) for each in branches
        ]

    async def run_each(
        self,
        name: str,
        fn: Callable[..., Any],
        items: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        follower: Any,
    ) -> list[Branch]:
        """Run one call for each item in a lane; ``follower`` hears of each that has ended."""
        _check_function(name, "map", fn)
        if not isinstance(items, (Iterable, AsyncIterable)):
            raise ConfigurationError(
                f"map_{name}: {items!r:.80} ({type(items).__name__}) is not iterable; give items"
            )
        if isinstance(items, Collection) and not isinstance(items, Sequence):
            items = list(items)
        lanes = await self._lanes()
        lanes.enter()
        try:
            return await lanes.by_name[name].run_each(fn, items, args, kwargs, follower)
        finally:
            lanes.leave()


class FirstFailure:
    """Remember the first call of a map that did not succeed, and stop the rest if asked to."""

    cancels = False  # not one by one

    def __init__(self, *, stops: bool) -> None:
        self._stops = stops
        self.branch: Branch | None = None

    def opened(self, scheduler: Scheduler) -> None:
        """Hear of nothing that matters here."""

    filled = closed = opened

    def ended(self, scheduler: Scheduler, branch: Branch) -> None:
        """Hear how one ended."""
        if self.branch is None and branch.status is not Status.SUCCEEDED:
            self.branch = branch
            if self._stops:
                scheduler.stop(f"{branch.key} {branch.status}")


def _check_function(lane: str, what: str, fn: object) -> None:
    where = f"{what}_{'chunks' if (what, lane) == ('map', 'chunk') else lane}"
    check_callable(where, fn)
    if lane == "cpu" and is_async(fn):
        raise ConfigurationError(
            f"{where} cannot run the async function {name_of(fn)}: it runs in a process; "
            f"use {what}_io, or make it a plain function"
        )


def each_of(fn: Callable[[Any], Any], batch: list[Any]) -> list[Any]:
    """Call ``fn`` for each item of a batch; a process imports this by its name."""
    return [fn(item) for item in batch]


async def each_of_async(fn: Callable[[Any], Any], batch: list[Any]) -> list[Any]:
    """Await ``fn`` for each item of a batch."""
    return [await fn(item) for item in batch]
