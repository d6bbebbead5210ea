"""Execute a block of a seed as it stands, with ``await`` at its top level."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from collections.abc import Mapping
from typing import Any


class Names(dict[str, Any]):
    """Keep what a block gives names to; also each value of a name that it gives twice.

    Attributes:
        outer: what its functions see. values_of: each name to all of its values, in order.
    """

    def __init__(self, known: Mapping[str, Any]) -> None:
        super().__init__()
        self.outer: dict[str, Any] = {"__name__": "seed", **known}
        self.values_of: defaultdict[str, list[Any]] = defaultdict(list)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.outer[name] = value
        self.values_of[name].append(value)


async def execute(block: str, known: Mapping[str, Any]) -> Names:
    """Execute a block in which the names of ``known`` mean what it says; return its own names."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(block, "<seed>", "exec", flags=flags, dont_inherit=True)
    names = Names(known)
    waiting = eval(code, names.outer, names)
    if inspect.isawaitable(waiting):
        await waiting
    return names
