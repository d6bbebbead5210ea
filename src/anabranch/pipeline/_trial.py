"""Try a pipeline under other limits than its own: what ``anabranch bench`` compares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import attrs


@attrs.define(eq=False)
class Trial:
    """Say which limit every step has for now; None for one that follows the load.

    Attributes:
        met: a step was given it.
    """

    limit: int | None
    met: bool = False


tried: ContextVar[Trial | None] = ContextVar("anabranch_tried", default=None)


@contextmanager
def trial(limit: int | None) -> Iterator[Trial]:
    """Give every step with branches the limit ``limit``, in this context, while the block runs."""
    now = Trial(limit)
    before = tried.set(now)
    try:
        yield now
    finally:
        tried.reset(before)
