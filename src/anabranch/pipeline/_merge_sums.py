"""Add up what each of several branches added to one field: to a number, or to a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Iterable
from enum import Enum
from numbers import Number
from typing import Any, TypeAlias, TypeVar

from anabranch.pipeline._fields import ABSENT
from anabranch.pipeline._merge_changes import is_equal

T = TypeVar("T")
Work: TypeAlias = Generator[int, None, T]  # yields how much it has done, returns its value
Given: TypeAlias = list[tuple[str, Any]]  # branch, and what it changed the field to; merge order

ITEMS_AT_ONCE = 1024


def all_count(old: Any, given: Given) -> bool:
    """Tell whether a field was and is a number for every branch, or a ``Counter``."""
    return old is not ABSENT and not_a_number(old, given) is None


def not_a_number(old: Any, given: Given) -> tuple[str, Any] | None:
    """Return which branch has a value that cannot be added up; its key is empty for ``old``."""
    if old is ABSENT:
        return not_a_number(given[0][1], given)
    tally = isinstance(old, Counter)
    for key, value in [("", old), *given]:
        if not (isinstance(value, Counter) if tally else _is_number(value)):
            return key, value
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, (bool, Enum))


def summed(old: Any, given: Given) -> Work[Any]:
    """Return ``old`` and what each branch added to it; what was not there began at nothing."""
    if isinstance(given[0][1], Counter):
        return (yield from _summed_by_key(Counter() if old is ABSENT else old, given))
    yield len(given)
    total = old = 0 if old is ABSENT else old
    for _, value in given:
        total = total + (value - old)
    return total


def _summed_by_key(old: Counter[Any], given: Given) -> Work[Counter[Any]]:
    total = Counter(old)
    for _, value in given:
        for key in [*value, *(key for key in old if key not in value)]:
            total[key] += value[key] - old[key]
        yield 1 + len(value)
    return Counter({key: count for key, count in total.items() if count or key in old})


def joined(old: list[Any], given: Given) -> Work[list[Any]]:
    """Return what no branch took out of ``old``, then what each put in, every value once."""
    was, gone = _Values(), _Values()
    for item in old:
        was.add(item)
    for _, value in given:
        kept = _Values()
        for number, item in enumerate(value, 1):
            kept.add(item)
            if not number % ITEMS_AT_ONCE:
                yield ITEMS_AT_ONCE
        for item in old:
            if item not in kept:
                gone.add(item)
        yield len(old)
    result = _Values()
    for item in old:
        if item not in gone:
            result.add(item)
    for _, value in given:
        for item in value:
            if item not in was:
                result.add(item)
        yield len(value)
    return result.items


class _Values:
    """Hold each value once, in order: by hash where that is possible, else one by one."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._hashed: set[Hashable] = set()
        self._others: list[Any] = []

    def __contains__(self, item: Any) -> bool:
        key = _key_of(item)
        if key is not None:
            return key in self._hashed
        return any(is_equal(item, other) for other in self._others)

    def add(self, item: Any) -> None:
        """Add ``item``, unless there is one like it."""
        if item in self:
            return
        self.items.append(item)
        key = _key_of(item)
        if key is None:
            self._others.append(item)
        else:
            self._hashed.add(key)


def _key_of(value: Any) -> tuple[Any, ...] | None:
    """Return what is hashed for ``value``; None for what can only be compared one by one."""
    kind = type(value)
    if kind is dict:
        return _key_of_parts(kind, value, value.values())
    if kind is list:
        return _key_of_parts(kind, (), value)
    try:
        hash(value)
    except Exception:  # whatever the user's __hash__ raises
        return None
    return (value,)


def _key_of_parts(
    kind: type, names: Iterable[Any], values: Iterable[Any]
) -> tuple[Any, ...] | None:
    try:
        keys = [_key_of(value) for value in values]
    except RecursionError:
        return None
    if any(key is None for key in keys):
        return None
    return (kind, frozenset(zip(names, keys, strict=True)) if names else tuple(keys))
