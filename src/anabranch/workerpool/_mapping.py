"""Map a function over items by submitted tasks, and yield the results in the items' order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

from anabranch.workerpool._clock import monotonic

T = TypeVar("T")


class Chunk(Generic[T]):
    """Make several calls in turn; a further attempt goes on where the last one failed."""

    def __init__(self, fn: Callable[..., T], batch: list[tuple[Any, ...]]) -> None:
        self.values: list[T] = []
        self._fn = fn
        self._batch = batch

    def __call__(self) -> None:
        """Make the calls that are left."""
        for args in self._batch[len(self.values) :]:
            self.values.append(self._fn(*args))


Part: TypeAlias = "tuple[Chunk[Any] | None, Future[Any]]"  # a chunk's future, or that of one call


def map_over(
    submit: Callable[..., Future[Any]],
    fn: Callable[..., T],
    iterables: Iterable[Iterable[Any]],
    *,
    timeout: float | None,
    size: int,
    ahead: int | None,
) -> Iterator[T]:
    """Submit calls of ``fn``, ``size`` to a task; return an iterator over their results.

    Args:
        ahead: how many tasks are submitted ahead of the one that is waited for; None for all.
    """
    deadline = None if timeout is None else monotonic() + timeout
    parts = _submitted(submit, fn, zip(*iterables), size)  # noqa: B905  # the shortest ends it
    return _results(deque(islice(parts, ahead)), parts, deadline)


def _submitted(
    submit: Callable[..., Future[Any]],
    fn: Callable[..., Any],
    items: Iterator[tuple[Any, ...]],
    size: int,
) -> Iterator[Part]:
    if size == 1:
        for args in items:
            yield None, submit(fn, *args)
        return
    while batch := list(islice(items, size)):
        chunk = Chunk(fn, batch)
        yield chunk, submit(chunk)


def _results(line: deque[Part], rest: Iterator[Part], deadline: float | None) -> Iterator[Any]:
    try:
        while line:
            yield from _values(*line.popleft(), deadline)
            line.extend(islice(rest, 1))
    finally:
        for _, future in line:
            future.cancel()


def _values(chunk: Chunk[Any] | None, future: Future[Any], deadline: float | None) -> Iterator[Any]:
    """Yield what one task returned; of a chunk that failed, what it got before that."""
    error = None
    try:
        value = future.result(None if deadline is None else max(0.0, deadline - monotonic()))
    except BaseException as raised:
        if chunk is None or not future.done():
            raise
        error = raised
    finally:
        future.cancel()
    del future
    try:
        values = [value] if chunk is None else chunk.values[::-1]
        if chunk is None:
            del value
        while values:
            yield values.pop()
        if error is not None:
            raise error
    finally:
        del error
