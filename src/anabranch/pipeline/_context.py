"""Copy a run's context for each branch, so that no branch sees what another changes.

Containers and the fields of attrs, dataclass and pydantic objects are copied down to their leaves.
Immutable leaves are shared, and so is whatever has the buffer protocol (bytes, arrays, views):
a context that holds 100 MB of arrays is not copied fifty times. Do not write into a shared array.
An object that cannot be copied (a lock, a connection) is shared too.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

from anabranch.errors import ConfigurationError
from anabranch.pipeline._fields import ABSENT, attributes_of, names_of, put, shallow

IMMUTABLE = frozenset((
    type(None), bool, int, float, complex, str, bytes, range, slice, type, type(Ellipsis),
))  # fmt: skip

Memo = dict[int, Any]  # from the id of what was copied to its copy


def check_context(context: object) -> None:
    """Raise ConfigurationError for what cannot be a context."""
    if context is None or isinstance(context, dict) or names_of(context) is not None:
        return
    raise ConfigurationError(
        f"context={context!r:.80} ({type(context).__name__}) cannot be copied field by field; "
        f"give a dict, or an attrs, dataclass or pydantic object"
    )


def copy_for_branch(
    context: Any, only: Collection[str] | None = None, memo: Memo | None = None
) -> Any:
    """Return a copy of ``context`` that shares only what cannot change, and arrays.

    Args:
        only: the fields that the copy has; None for all.
        memo: is filled with what is a copy of what.

    Raises:
        ConfigurationError: it is nested too deeply.
    """
    if context is None:
        return None
    memo = {} if memo is None else memo
    try:
        if only is not None:
            return _copy_some(context, only, memo)
        if isinstance(context, dict) and type(context) is not dict:
            return _copy_other_dict(context, memo)
        return _copy(context, memo)
    except RecursionError:
        raise ConfigurationError(
            f"context ({type(context).__name__}): something in it is nested too deeply to be "
            f"copied for a branch; hold it flat, or leave it out by context_include_keys="
        ) from None


def _copy(value: Any, memo: Memo) -> Any:
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    known = memo.get(id(value))
    if known is not None:
        return known
    copier = _COPIERS.get(kind)
    if copier is not None:
        return copier(value, memo)
    names = names_of(value)
    if names is not None:
        return _copy_fields(value, names, memo)
    if callable(value) or _has_buffer(value):
        return value
    try:
        return copy.deepcopy(value, memo)
    except RecursionError:  # not the object's own word, and a copy is promised
        raise
    except Exception:  # locks, connections: whatever the object says, it cannot be copied
        return value


def _copy_dict(value: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    new: dict[Any, Any] = {}
    memo[id(value)] = new
    for key, item in value.items():
        new[key] = _copy(item, memo)
    return new


def _copy_other_dict(value: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    new = copy.copy(value)
    memo[id(value)] = new
    for key, item in value.items():
        new[key] = _copy(item, memo)
    return new


def _copy_list(value: list[Any], memo: Memo) -> list[Any]:
    new: list[Any] = []
    memo[id(value)] = new
    new.extend(_copy(item, memo) for item in value)
    return new


def _copy_deque(value: deque[Any], memo: Memo) -> deque[Any]:
    new: deque[Any] = deque(maxlen=value.maxlen)
    memo[id(value)] = new
    new.extend(_copy(item, memo) for item in value)
    return new


def _copy_tuple(value: tuple[Any, ...], memo: Memo) -> tuple[Any, ...]:
    if all(type(item) in IMMUTABLE for item in value):
        return value
    new = tuple(_copy(item, memo) for item in value)
    if all(a is b for a, b in zip(new, value, strict=True)):
        new = value
    # One that holds itself was copied meanwhile; one that is held often is copied once.
    known: tuple[Any, ...] = memo.setdefault(id(value), new)
    return known


def _copy_fields(
    value: Any, names: list[str], memo: Memo, only: Collection[str] | None = None
) -> Any:
    new = shallow(value)
    memo[id(value)] = new
    for name in names:
        if only is not None and name not in only:
            put(new, name, ABSENT)
            continue
        item = getattr(value, name, ABSENT)  # a slot may never have been set
        copied = item if type(item) in IMMUTABLE else _copy(item, memo)
        if copied is not item:
            put(new, name, copied)
    known = set(names)
    for attributes in attributes_of(new):
        if not attributes.keys() <= known:
            for name in attributes.keys() - known:
                attributes[name] = _copy(attributes[name], memo)
    return new


def _copy_some(context: Any, only: Collection[str], memo: Memo) -> Any:
    """Copy the fields ``only``; the copy has no others."""
    if isinstance(context, dict):
        new = copy.copy(context)
        memo[id(context)] = new
        for key, item in context.items():
            if key in only:
                new[key] = _copy(item, memo)
            else:
                del new[key]
        return new
    return _copy_fields(context, names_of(context) or [], memo, only)


_COPIERS: dict[type, Callable[[Any, Memo], Any]] = {
    dict: _copy_dict,
    OrderedDict: _copy_other_dict,
    defaultdict: _copy_other_dict,
    Counter: _copy_other_dict,
    list: _copy_list,
    tuple: _copy_tuple,
    deque: _copy_deque,
    set: lambda value, _: set(value),  # what can be hashed is taken as a leaf
    frozenset: lambda value, _: value,
}


def _has_buffer(value: object) -> bool:
    try:
        memoryview(value).release()  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return False
    except (ValueError, BufferError):  # it has one, which cannot be shown: numpy's dates
        return True
    return True
