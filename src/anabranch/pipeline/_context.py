"""Copy a run's context for each branch, so that no branch sees what another changes.

Containers and the fields of attrs, dataclass and pydantic objects are copied down to their leaves.
Immutable leaves are shared, and so is whatever has the buffer protocol (bytes, arrays, views):
a context that holds 100 MB of arrays is not copied fifty times. Do not write into a shared array.
An object that cannot be copied (a lock, a connection) is shared too.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from anabranch.errors import ConfigurationError

_IMMUTABLE = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type, type(Ellipsis),
)  # fmt: skip


def check_context(context: object) -> None:
    """Raise ConfigurationError for what cannot be a context."""
    if context is None or isinstance(context, dict) or _fields_of(context) is not None:
        return
    raise ConfigurationError(
        f"context={context!r:.80} ({type(context).__name__}) cannot be copied field by field; "
        f"give a dict, or an attrs, dataclass or pydantic object"
    )


def copy_for_branch(context: Any) -> Any:
    """Return a copy of ``context`` that shares only what cannot change, and arrays."""
    return None if context is None else _copy(context, {})


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    known = memo.get(id(value))
    if known is not None:
        return known
    copier = _COPIERS.get(kind)
    if copier is not None:
        return copier(value, memo)
    names = _fields_of(value)
    if names is not None:
        return _copy_fields(value, names, memo)
    if callable(value) or _has_buffer(value):
        return value
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # locks, connections: whatever the object says, it cannot be copied
        return value


def _copy_dict(value: dict[Any, Any], memo: dict[int, Any]) -> dict[Any, Any]:
    new: dict[Any, Any] = {}
    memo[id(value)] = new
    for key, item in value.items():
        new[key] = _copy(item, memo)
    return new


def _copy_list(value: list[Any], memo: dict[int, Any]) -> list[Any]:
    new: list[Any] = []
    memo[id(value)] = new
    new.extend(_copy(item, memo) for item in value)
    return new


def _copy_deque(value: deque[Any], memo: dict[int, Any]) -> deque[Any]:
    new: deque[Any] = deque(maxlen=value.maxlen)
    memo[id(value)] = new
    new.extend(_copy(item, memo) for item in value)
    return new


def _copy_tuple(value: tuple[Any, ...], memo: dict[int, Any]) -> tuple[Any, ...]:
    new = tuple(_copy(item, memo) for item in value)
    return value if all(a is b for a, b in zip(new, value, strict=True)) else new


def _copy_fields(value: Any, names: Iterable[str], memo: dict[int, Any]) -> Any:
    try:
        new = copy.copy(value)
    except AttributeError:  # attrs reads every slot, and one may never have been set
        new = object.__new__(type(value))
    memo[id(value)] = new
    for name in names:
        if hasattr(value, name):  # a slot may never have been set
            object.__setattr__(new, name, _copy(getattr(value, name), memo))
    return new


_COPIERS: dict[type, Callable[[Any, dict[int, Any]], Any]] = {
    dict: _copy_dict,
    list: _copy_list,
    tuple: _copy_tuple,
    deque: _copy_deque,
    set: lambda value, _: set(value),  # what can be hashed is taken as a leaf
    frozenset: lambda value, _: value,
}


def _fields_of(value: object) -> list[str] | None:
    """List the fields of an attrs, dataclass or pydantic object; None for anything else."""
    kind = type(value)
    if attrs.has(kind):
        return [field.name for field in attrs.fields(kind)]
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    fields = getattr(kind, "model_fields", None)
    if isinstance(fields, dict) and hasattr(kind, "model_copy"):
        return list(fields)
    return None


def _has_buffer(value: object) -> bool:
    try:
        memoryview(value).release()  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return False
    return True
