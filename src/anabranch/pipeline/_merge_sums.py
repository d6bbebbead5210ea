"""Add up what each of several branches added to one field: to a number, or to a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Iterable
from enum import Enum
from numbers import Number
from operator import is_
from typing import Any, TypeAlias, TypeVar

from anabranch.pipeline._fields import ABSENT
from anabranch.pipeline._merge_changes import is_equal

T = TypeVar("T")
Work: TypeAlias = Generator[int, None, T]  # yields how much it has done, returns its value

AT_ONCE = 256  # items between two yields


class Given:
    """Keep what branches changed one field to, in merge order."""

    __slots__ = ("_kinds", "keys", "values")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.values: list[Any] = []
        self._kinds: set[type] = set()  # so that nobody need look at each value again

    def add(self, key: str, value: Any) -> None:
        """Add the value of the branch ``key``."""
        self.keys.append(key)
        self.values.append(value)
        self._kinds.add(type(value))

    def are(self, *kinds: type) -> bool:
        """Tell whether every value is of one of these classes."""
        return all(issubclass(kind, kinds) for kind in self._kinds)

    def is_any(self, *kinds: type) -> bool:
        """Tell whether a value is of one of these classes."""
        return any(issubclass(kind, kinds) for kind in self._kinds)

    def holds_the_same(self, other: Given) -> bool:
        """Tell whether the values are the same objects."""
        return len(self.values) == len(other.values) and all(map(is_, self.values, other.values))


def can_be_summed(old: Any, given: Given) -> bool:
    """Tell whether a field was and is a number for every branch, or a ``Counter``."""
    if isinstance(old, Counter) or (old is ABSENT and given.are(Counter)):
        return given.are(Counter)
    return (old is ABSENT or _is_number(old)) and given.are(Number) and not given.is_any(bool, Enum)


def odd_one(old: Any, given: Given) -> tuple[str, Any]:
    """Return which branch has a value that cannot be added up; its key is empty for ``old``."""
    kind = Counter if isinstance(given.values[0] if old is ABSENT else old, Counter) else Number
    if old is not ABSENT and kind is Number and not _is_number(old):
        return "", old
    pairs = zip(given.keys, given.values, strict=True)
    fits = _is_number if kind is Number else lambda value: isinstance(value, Counter)
    return next((key, value) for key, value in pairs if not fits(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, (bool, Enum))


def summed(old: Any, given: Given) -> Work[Any]:
    """Return ``old`` and what each branch added to it; what was not there began at nothing."""
    if isinstance(given.values[0], Counter):
        return (yield from _summed_by_key(Counter() if old is ABSENT else old, given.values))
    total = old = 0 if old is ABSENT else old
    for number, value in enumerate(given.values, 1):
        total = total + (value - old)
        if not number % AT_ONCE:
            yield AT_ONCE
    return total


def _summed_by_key(old: Counter[Any], values: list[Counter[Any]]) -> Work[Counter[Any]]:
    total = Counter(old)
    for value in values:
        for key in [*value, *(key for key in old if key not in value)]:
            total[key] += value[key] - old[key]
        yield 1 + len(value)
    return Counter({key: count for key, count in total.items() if count or key in old})


def joined(old: list[Any], values: list[list[Any]]) -> Work[list[Any]]:
    """Return what no branch took out of ``old``, then what each put in, every value once."""
    was, gone = _Values(), _Values()
    for item in old:
        was.add(item)
    for value in values:
        kept = _Values()
        for number, item in enumerate(value, 1):
            kept.add(item)
            if not number % AT_ONCE:
                yield AT_ONCE
        for item in old:
            if item not in kept:
                gone.add(item)
        yield 1 + len(old)
    result = _Values()
    for item in old:
        if item not in gone:
            result.add(item)
    for value in values:
        for item in value:
            if item not in was:
                result.add(item)
        yield 1 + len(value)
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
