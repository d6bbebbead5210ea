"""Let each pool run plain functions in threads or processes, in its own words.

Each is a context manager that is given a limit; what it opens has ``run(fn, items, timeout)`` and,
where there is a way to stop what runs, ``stop()``, which may be called from another thread.
``nested(leaf, outer, inner)`` calls the leaf for the inner items within each of the outer ones, as
the peer's documents say that it is done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import anyio.from_thread
import attrs

from anabranch import Budget, Pipeline, Step, WorkerPool

Fn = Callable[[Any], Any]


@attrs.frozen
class Pool:
    """Run functions over items; stop what runs, where that can be done."""

    run: Callable[..., Any]
    stop: Callable[[], object] | None = None
    nested: Callable[[Fn, Sequence[Any], Sequence[Any]], Any] = attrs.field()

    @nested.default
    def _plain(self) -> Callable[..., Any]:
        return partial(_nested, self.run)


def _nested(run: Callable[..., Any], leaf: Fn, outer: Sequence[Any], inner: Sequence[Any]) -> Any:
    return run(partial(_inner, run, leaf, inner), outer)


def _inner(run: Callable[..., Any], leaf: Fn, inner: Sequence[Any], item: Any) -> Any:
    return list(run(leaf, [f"{item}-{each}" for each in inner]))


@contextlib.contextmanager
def thread_pool(limit: int) -> Iterator[Pool]:
    with ThreadPoolExecutor(limit) as executor:
        yield _of_executor(executor)


@contextlib.contextmanager
def process_pool(limit: int) -> Iterator[Pool]:
    spawn = multiprocessing.get_context("spawn")  # as ours are started
    with ProcessPoolExecutor(limit, mp_context=spawn) as executor:
        yield _of_executor(executor)


@contextlib.contextmanager
def our_pool(limit: int) -> Iterator[Pool]:
    with WorkerPool(limit) as executor:
        yield _of_executor(executor)


def _of_executor(executor: Executor) -> Pool:
    def run(fn: Fn, items: Sequence[Any], timeout: float | None = None) -> list[Any]:
        try:
            return list(executor.map(fn, items, timeout=timeout))
        except TimeoutError:
            executor.shutdown(wait=False, cancel_futures=True)
            raise

    return Pool(run, lambda: executor.shutdown(wait=False, cancel_futures=True))


def our_steps(lane: str, loop: str = "asyncio") -> Callable[..., Any]:
    """Map a step over items, in a loop of its own that runs beside this thread."""

    @contextlib.contextmanager
    def opened(limit: int, budget: Budget | None = None) -> Iterator[Pool]:
        with anyio.from_thread.start_blocking_portal(loop) as portal:
            limiter = portal.call(anyio.CapacityLimiter, limit)
            futures: list[Any] = []

            async def once(call: Pipeline[Any, Any], items: Sequence[Any]) -> Any:
                return (await call.run(items, budget=budget)).unwrap()

            def called(call: Pipeline[Any, Any], items: Sequence[Any]) -> Any:
                futures.append(portal.start_task_soon(once, call, items))
                return futures[-1].result()

            @cache
            def pipeline(fn: Fn, timeout: float | None) -> Pipeline[Any, Any]:
                step = Step("step", fn, lane=lane)
                mapped = Step.map_over("map", step, max_concurrency=limit, timeout=timeout)
                return Pipeline([mapped])

            def run(fn: Fn, items: Sequence[Any], timeout: float | None = None) -> Any:
                return called(pipeline(fn, timeout), items)

            def nested(leaf: Fn, outer: Sequence[Any], inner: Sequence[Any]) -> Any:
                def items(item: Any) -> list[str]:
                    return [f"{item}-{each}" for each in inner]

                step = Step("leaf", leaf, lane=lane)
                below = Step.map_over("inner", step, items=items, max_concurrency=limiter)
                above = Step.map_over("outer", Pipeline([below]), max_concurrency=limiter)
                return called(Pipeline([above]), outer)

            yield Pool(run, lambda: [future.cancel() for future in futures], nested)

    return opened


def joblib_peer(backend: str) -> Callable[..., Any]:
    @contextlib.contextmanager
    def opened(limit: int) -> Iterator[Pool]:
        from joblib import Parallel, delayed

        def run(fn: Fn, items: Sequence[Any], timeout: float | None = None) -> Any:
            with Parallel(limit, backend=backend, timeout=timeout) as parallel:
                return parallel(delayed(fn)(item) for item in items)

        yield Pool(run)

    return opened


def dask_peer(processes: bool) -> Callable[..., Any]:
    """Start Dask's local mode: a scheduler, and threads or processes, without its dashboard."""

    @contextlib.contextmanager
    def opened(limit: int) -> Iterator[Pool]:
        import dask
        from distributed import Client

        dask.config.set({"distributed.worker.memory.terminate": False})
        many = {"n_workers": limit, "threads_per_worker": 1} if processes else {"n_workers": 1}
        if not processes:
            many["threads_per_worker"] = limit
        futures: list[Any] = []
        with Client(processes=processes, dashboard_address=None, **many) as client:

            def run(fn: Fn, items: Sequence[Any], timeout: float | None = None) -> Any:
                mine = client.map(fn, list(items), pure=False)
                futures.extend(mine)
                try:
                    return client.gather(_ended(mine, timeout))
                except TimeoutError:
                    client.cancel(mine)
                    raise

            yield Pool(run, lambda: client.cancel(futures, force=True), partial(_seceding, run))

    return opened


def _seceding(run: Callable[..., Any], leaf: Fn, outer: Sequence[Any], inner: Sequence[Any]) -> Any:
    """Nest as Dask's documents say: the outer one leaves its thread to the inner ones."""

    def inside(item: Any) -> Any:
        from distributed import worker_client

        with worker_client() as client:
            mine = client.map(leaf, [f"{item}-{each}" for each in inner], pure=False)
            return client.gather(mine)

    return run(inside, outer)


def _ended(futures: Any, timeout: float | None) -> Any:
    """Wait for all, or raise TimeoutError; gather itself waits as long as it takes."""
    from distributed import wait

    if timeout is not None:
        wait(futures, timeout=timeout)
    return futures
