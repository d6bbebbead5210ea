"""Name the steps of a pipeline when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anabranch._work import name_of
from anabranch.errors import ConfigurationError, DuplicateKeyError
from anabranch.pipeline._node import Node
from anabranch.pipeline._step import as_node


def parts_of(where: str, steps: object) -> tuple[Any, ...]:
    """Return the parts that a pipeline was given, as a tuple.

    Raises:
        ConfigurationError: none, or what is no list of them.
    """
    if isinstance(steps, Node):
        steps = [steps]
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        raise ConfigurationError(
            f"{where}: steps={steps!r:.80} ({type(steps).__name__}) is no list; "
            f"give a list of steps"
        )
    if not steps:
        raise ConfigurationError(f"{where}: it has no steps; give it at least one")
    return tuple(steps)


def named(where: str, parts: tuple[Any, ...]) -> tuple[tuple[str, Node[Any, Any]], ...]:
    """Give each step its name: its own, or its kind, or its function's, and a number.

    Raises:
        DuplicateKeyError: the user gave one twice.
    """
    given = [part.name for part in parts if isinstance(part, Node) and part.name is not None]
    for name in given:
        if given.count(name) > 1:
            raise DuplicateKeyError(
                f"{where}: two steps are named {name!r}; give each a name of its own"
            )
    taken = set(given)
    found = []
    for index, part in enumerate(parts, 1):
        if isinstance(part, Node):
            found.append((part.name or _number(part.kind, taken), part))
        else:
            bare = name_of(part).rpartition(".")[2] if callable(part) else f"step {index}"
            name = _number(bare, taken)
            found.append((name, as_node(where, name, part)))
    return tuple(found)


def _number(kind: str, taken: set[str]) -> str:
    """Return the first free name of an unnamed step: ``parallel``, ``parallel-2``, ..."""
    number, name = 1, kind
    while name in taken:
        number += 1
        name = f"{kind}-{number}"
    taken.add(name)
    return name
