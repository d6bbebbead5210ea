"""Hear of a loop's end: there trio and asyncio close the asynchronous generators that are left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable


async def at_loop_end(fn: Callable[[], object]) -> AsyncGenerator[None, None]:
    """Call ``fn`` when the running loop ends; whoever keeps what this returns is heard of it."""
    waiting = _wait(fn)
    await anext(waiting)
    return waiting


async def _wait(fn: Callable[[], object]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        fn()
