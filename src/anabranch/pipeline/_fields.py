"""Read and write the fields of an object that has some: attrs, dataclass, pydantic, or a dict.

Fields are put in place as they are. Their values were accepted by such an object before, so
neither converters nor validators are asked again, and putting many of them cannot stop half-way.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs


class Absent(Enum):
    """Stand for what a field holds that is not there; an enum, as that is pickled as itself."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@attrs.frozen
class _Frozen:
    """Be frozen by attrs, which gives all such classes one and the same function."""


_FROZEN_SETATTR = _Frozen.__setattr__
_EMPTY: Mapping[str, Any] = {}


def names_of(value: object) -> list[str] | None:
    """List the fields of an attrs, dataclass or pydantic object; None for anything else."""
    kind = type(value)
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if is_model(kind):
        return [*kind.model_fields, *_extra_of(value)]  # type: ignore[attr-defined]  # it is pydantic's
    return None


def is_model(kind: type) -> bool:
    """Tell whether a class is a pydantic model; pydantic itself is never imported."""
    return isinstance(getattr(kind, "model_fields", None), dict) and hasattr(kind, "model_copy")


def is_frozen(value: object) -> bool:
    """Tell whether the class of an object with fields says that they are never set again."""
    kind = type(value)
    if attrs.has(kind):
        return kind.__setattr__ is _FROZEN_SETATTR
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is not None:
        return bool(parameters.frozen)
    config = getattr(kind, "model_config", None)
    return isinstance(config, dict) and bool(config.get("frozen"))


def held(value: Any, name: Any) -> Any:
    """Return what a field of ``value`` holds; ABSENT for none, whatever the class's default is."""
    if isinstance(value, dict):
        return value.get(name, ABSENT)
    state: Mapping[str, Any] = getattr(value, "__dict__", _EMPTY)
    if name in state:
        return state[name]
    if hasattr(getattr(type(value), name, None), "__set__"):  # a slot
        return getattr(value, name, ABSENT)
    return _extra_of(value).get(name, ABSENT) if is_model(type(value)) else ABSENT


def put(value: Any, name: str, item: Any) -> None:
    """Set a field of an object, a frozen one too; ABSENT takes it away."""
    kind = type(value)
    if is_model(kind) and name not in kind.model_fields:
        extra = value.__pydantic_extra__
        if item is ABSENT:
            extra.pop(name, None)
        else:
            extra[name] = item
    elif item is not ABSENT:
        object.__setattr__(value, name, item)
    elif held(value, name) is not ABSENT:
        object.__delattr__(value, name)


def attributes_of(value: Any) -> list[dict[str, Any]]:
    """List where an object with fields keeps its attributes: fields, and what is none."""
    state = getattr(value, "__dict__", None)
    if is_model(type(value)) and value.__pydantic_private__:
        return [state, value.__pydantic_private__]
    return [state] if state else []


def shallow(value: Any) -> Any:
    """Return a copy of an object with fields that holds the same things."""
    try:
        return copy.copy(value)
    except AttributeError:  # attrs reads every slot, and one may never have been set
        new = object.__new__(type(value))
        for name in names_of(value) or ():
            put(new, name, held(value, name))
        return new


def with_changes(context: Any, changes: Mapping[Any, Any]) -> Any:
    """Return ``context`` with fields changed: itself, or a changed copy of one that is frozen."""
    if isinstance(context, dict):
        for key, item in changes.items():
            if item is ABSENT:
                context.pop(key, None)
            else:
                context[key] = item
        return context
    if not changes:
        return context
    changed = shallow(context) if is_frozen(context) else context
    for name, item in changes.items():
        put(changed, name, item)
        if is_model(type(changed)):
            changed.__pydantic_fields_set__.add(name)
    return changed


def _extra_of(value: Any) -> Mapping[str, Any]:
    """Return what a pydantic object holds beyond its declared fields."""
    extra: Mapping[str, Any] | None = value.__pydantic_extra__
    return _EMPTY if extra is None else extra
