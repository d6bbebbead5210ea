"""Contexts of every kind, and a call for a worker process, which must be able to import it."""

from __future__ import annotations

import dataclasses
from typing import Any

import attrs
import pydantic


@attrs.define
class Attrs:
    n: int = 0
    items: list[Any] = attrs.field(factory=list)
    never_set: int = attrs.field(init=False)


@attrs.frozen
class Frozen:
    n: int = 0
    items: list[Any] = attrs.field(factory=list)


@dataclasses.dataclass
class Data:
    n: int = 0
    items: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenData:
    n: int = 0
    items: list[Any] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    n: int = 0
    items: list[Any] = []


class FrozenModel(pydantic.BaseModel, frozen=True, extra="allow"):
    n: int = 0
    items: list[Any] = []


OBJECTS = [Attrs, Frozen, Data, FrozenData, Model, FrozenModel]


def changes_context(data: Any, context: Any) -> str:
    """Change a number and a list in a list, and delete a key."""
    context["n"] += data
    context["items"][1].append(3)
    del context["gone"]
    return "value"
