"""Try a pipeline under other limits than its own: what ``anabranch bench`` compares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import attrs


@attrs.frozen
class Trial:
    """Say which limit every step has for now; None for one that follows the load."""

    limit: int | None


tried: ContextVar[Trial | None] = ContextVar("anabranch_tried", default=None)


@contextmanager
def trial(limit: int | None) -> Iterator[None]:
    """Give every step with branches the limit ``limit``, in this context, while the block runs."""
    before = tried.set(Trial(limit))
    try:
        yield
    finally:
        tried.reset(before)
