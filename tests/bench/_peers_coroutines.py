"""Let each peer run coroutines under a limit, in its own words, as its documents show it.

Each is opened in a running loop, with a limit; it gives what is awaited with a function and items.
``shared`` asks for one limiter for all nested runs; who cannot have one limits each run by itself.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import Annotated, Any, TypedDict

import anyio
import trio

from anabranch import Budget, Pipeline, Step

Fn = Callable[[Any], Awaitable[Any]]
Run = Callable[[Fn, Sequence[Any]], Awaitable[Any]]


def anabranch_on(loop: str) -> Callable[..., Run]:
    """Map a step over items; the pipeline is made once for each function, as pipelines are."""

    def opened(limit: int, shared: bool = False, budget: Budget | None = None) -> Run:
        limiter = {"trio": trio, "asyncio": anyio}[loop].CapacityLimiter(limit) if shared else limit

        @cache
        def pipeline(fn: Fn) -> Pipeline[Any, Any]:
            return Pipeline([Step.map_over("step", fn, max_concurrency=limiter)])

        async def run(fn: Fn, items: Sequence[Any]) -> Any:
            return (await pipeline(fn).run(items, budget=budget)).unwrap()

        return run

    return opened


def parallel(limit: int, shared: bool = False) -> Run:
    """Make a step of so many branches, each by its name: what is written where they are few."""
    del shared

    @cache
    def pipeline(fn: Fn, count: int) -> Pipeline[Any, Any]:
        step = Step("branch", fn)
        branches = {str(number): step for number in range(count)}
        return Pipeline([Step.parallel(branches, max_concurrency=limit)])

    async def run(fn: Fn, items: Sequence[Any]) -> Any:
        return (await pipeline(fn, len(items)).run(None)).unwrap()

    return run


def streamed_on_asyncio(limit: int, shared: bool = False) -> Run:
    """Do the same, but read outcomes as they come and keep none of them."""
    del shared

    async def run(fn: Fn, items: Sequence[Any]) -> None:
        pipeline = Pipeline([Step.map_over("step", fn, max_concurrency=limit)])
        async with pipeline.open(items) as live:
            async for outcome in live.outcomes:
                assert outcome.error is None

    return run


def gather(limit: int, shared: bool = False) -> Run:
    held = asyncio.Semaphore(limit)

    async def run(fn: Fn, items: Sequence[Any]) -> list[Any]:
        tokens = held if shared else asyncio.Semaphore(limit)

        async def one(item: Any) -> Any:
            async with tokens:
                return await fn(item)

        return await asyncio.gather(*[one(item) for item in items])

    return run


def asyncio_group(limit: int, shared: bool = False) -> Run:
    held = asyncio.Semaphore(limit)

    async def run(fn: Fn, items: Sequence[Any]) -> list[Any]:
        tokens = held if shared else asyncio.Semaphore(limit)

        async def one(item: Any) -> Any:
            async with tokens:
                return await fn(item)

        async with asyncio.TaskGroup() as group:
            started = [group.create_task(one(item)) for item in items]
        return [each.result() for each in started]

    return run


def nursery(limit: int, shared: bool = False) -> Run:
    return _owned(trio.CapacityLimiter, trio.open_nursery, limit, shared)


def anyio_group(limit: int, shared: bool = False) -> Run:
    return _owned(anyio.CapacityLimiter, anyio.create_task_group, limit, shared)


def _owned(limiter: Any, opens: Callable[[], Any], limit: int, shared: bool) -> Run:
    held = limiter(limit)

    async def run(fn: Fn, items: Sequence[Any]) -> list[Any]:
        tokens = held if shared else limiter(limit)
        outputs: list[Any] = [None] * len(items)

        async def one(place: int, item: Any) -> None:
            async with tokens:
                outputs[place] = await fn(item)

        async with opens() as owner:
            for place, item in enumerate(items):
                owner.start_soon(one, place, item)
        return outputs

    return run


def aiometer_peer(limit: int, shared: bool = False) -> Run:
    import aiometer

    async def run(fn: Fn, items: Sequence[Any]) -> list[Any]:
        async with aiometer.amap(fn, list(items), max_at_once=limit) as results:
            return [result async for result in results]

    return run


def aiostream_peer(limit: int, shared: bool = False) -> Run:
    from aiostream import stream

    async def run(fn: Fn, items: Sequence[Any]) -> list[Any]:
        return await stream.list(stream.map(stream.iterate(items), fn, task_limit=limit))

    return run


class Found(TypedDict):
    """Be the state of a graph: what its branches have found, added up."""

    items: list[Any]
    found: Annotated[list[Any], operator.add]


def langgraph_peer(limit: int, shared: bool = False) -> Run:
    """Send each item to a node, as LangGraph's map-reduce does; compiled once for each function."""
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Send

    @cache
    def graph(fn: Fn) -> Any:
        async def node(item: Any) -> dict[str, Any]:
            return {"found": [await fn(item)]}

        builder = StateGraph(Found)
        builder.add_node("node", node)
        builder.add_conditional_edges(
            START, lambda state: [Send("node", item) for item in state["items"]], ["node"]
        )
        builder.add_edge("node", END)
        return builder.compile()

    async def run(fn: Fn, items: Sequence[Any]) -> list[Any]:
        given: Any = {"items": list(items), "found": []}
        return (await graph(fn).ainvoke(given, {"max_concurrency": limit}))["found"]

    return run
