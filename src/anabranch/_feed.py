"""Pull jobs from iterables, one at a time, only as fast as they run.

A plain iterable is pulled by a hand that has tokens and finds the queue empty.
An async one has a task of its own, which waits until a token is free and then pulls one.
Whoever reads the outcomes slows the pulling down: never more than two limits' worth unread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextvars import Context, copy_context
from types import AsyncGeneratorType
from typing import Any

from anabranch._branch import Branch
from anabranch._runtime import Runtime

Accept = Callable[[Any], Branch]


class Feeds:
    """Keep what a scheduler is being fed from; ``error`` is what an iterable raised."""

    def __init__(
        self,
        runtime: Runtime,
        may_pull: Callable[[], bool],
        on_error: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.error: Exception | None = None
        self._runtime = runtime
        self._may_pull = may_pull
        self._on_error = on_error
        self._on_end = on_end
        self._plain: deque[tuple[Iterator[Any], Accept, Context]] = deque()
        self._over = False  # nothing is accepted any more
        self._async = 0  # async feeds that have not ended
        self._scopes: set[Any] = set()  # of those that have begun
        self._read: Any = None  # an Event while async feeds wait for the reader

    def __bool__(self) -> bool:
        return bool(self._plain or self._async)

    def is_plain(self) -> bool:
        """Tell whether a plain iterable is left."""
        return bool(self._plain)

    def has_plain(self) -> bool:
        """Tell whether a hand may find something to pull."""
        return bool(self._plain) and self._may_pull()

    def add(self, elements: Iterable[Any], accept: Accept) -> None:
        """Pull from a plain iterable, after those that were added before.

        It runs in the context of now: the hand that pulls may have been started by any branch.
        """
        self._plain.append((iter(elements), accept, copy_context()))

    def add_async(self) -> None:
        """Count an async feed, for which ``run_async`` is about to be started."""
        self._async += 1

    def end(self) -> None:
        """Pull nothing more; an async iterable is cancelled where it waits for its next element."""
        self._over = True
        self._plain.clear()
        for scope in self._scopes:
            scope.cancel(reason="nothing more is pulled")

    def reader_moved(self) -> None:
        """Let the async feeds look again whether they may pull."""
        if self._read is not None:
            self._read.set()
            self._read = None

    def pull(self) -> Branch | None:
        """Pull one element and make it a branch; None when there is none, or none is wanted."""
        if not self._may_pull():
            return None
        while self._plain:
            elements, accept, context = self._plain[0]
            try:
                return context.run(_next, elements, accept)
            except StopIteration:
                self._plain.popleft()
            except Exception as error:
                self._fail(error)
        return None

    async def run_async(
        self,
        elements: AsyncIterable[Any],
        accept: Accept,
        token_is_free: Callable[[], Awaitable[None]],
        push: Callable[[Branch], None],
    ) -> None:
        """Pull from an async iterable whenever a token is free, until it ends."""
        with self._runtime.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._pull_async(elements, accept, token_is_free, push)
            finally:
                self._scopes.discard(scope)

    async def _pull_async(
        self,
        elements: AsyncIterable[Any],
        accept: Accept,
        token_is_free: Callable[[], Awaitable[None]],
        push: Callable[[Branch], None],
    ) -> None:
        iterator: Any = None
        try:
            iterator = aiter(elements)
            while not self._over:
                await self._wanted()
                await token_is_free()
                element = await anext(iterator)
                if not self._over:
                    push(accept(element))
        except StopAsyncIteration:
            pass
        except Exception as error:
            self._fail(error)
        finally:
            self._async -= 1
            self._on_end()
            if isinstance(iterator, AsyncGeneratorType):
                await iterator.aclose()

    async def _wanted(self) -> None:
        while not self._may_pull():
            if self._read is None:
                self._read = self._runtime.Event()
            await self._read.wait()

    def _fail(self, error: Exception) -> None:
        """Keep the iterable's error for whoever owns the scheduler, and stop everything."""
        self.error = self.error or error
        self.end()
        self._on_error()


def _next(elements: Iterator[Any], accept: Accept) -> Branch:
    return accept(next(elements))
