"""Bound how deep steps are nested: deeper than Python's stack, a run would break half-way.

A level costs up to ten of the interpreter's frames while its branches run. Past the end of the
stack a ``RecursionError`` comes up wherever it may, in the loop's own code too, which asyncio does
not survive; so it is refused when the step is made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from anabranch.errors import ConfigurationError

FRAMES = 12  # of the stack for a level; two more than it takes: the caller and the leaf have some


def depth_around(where: str, inner: Iterable[int]) -> int:
    """Return how many levels a step has whose parts have ``inner`` levels.

    Raises:
        ConfigurationError: more than Python's stack has room for.
    """
    depth = 1 + max(inner, default=0)
    if depth * FRAMES > sys.getrecursionlimit():
        raise ConfigurationError(
            f"{where}: {depth} steps are nested in each other, and Python's stack "
            f"(sys.getrecursionlimit() is {sys.getrecursionlimit()}) has room for "
            f"{sys.getrecursionlimit() // FRAMES}; nest less deep: a loop over the levels, or a "
            f"map_over, needs no nesting"
        )
    return depth
