"""Put together what the branches of a step changed: a pure function of values.

Generators yield now and then how much they have done, so that who runs them can let the loop go
round; their value is what they return.
"""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

import attrs

from anabranch.errors import MergeError
from anabranch.pipeline._config import MergeConfig, MergeStrategy
from anabranch.pipeline._fields import ABSENT, held
from anabranch.pipeline._merge_changes import Changes, is_equal
from anabranch.pipeline._merge_sums import (
    Given,
    Work,
    can_be_summed,
    joined,
    odd_one,
    summed,
)
from anabranch.pipeline._merge_terms import MergeTerms, nearest

AT_ONCE = 256  # fields or branches between two yields
SHOWN = 60  # characters of a value in a message


def merged(
    context: Any, changes: Iterable[tuple[str, Changes]], terms: MergeTerms
) -> Work[Changes]:
    """Return what is to change in ``context``.

    Args:
        changes: what each branch changed, by its key, in the order in which they merge.

    Raises:
        MergeError: what branches changed does not go together.
    """
    given: dict[Any, Given] = {}
    excluded = set(terms.config.excluded_fields)
    for key, changed in changes:
        wanted = terms.fields.get(key)
        if wanted is not None:
            _check_wanted(key, wanted, context, changed)
        for field, value in changed.items():
            if field not in excluded and (wanted is None or field in wanted):
                _add(given, field, key, value)
        yield 1 + len(changed)
    folding = _Folding(terms.strategy, terms.config)
    result = yield from folding.fold_each(context, given, "")
    folding.raise_conflict()
    return result


def _check_wanted(key: str, wanted: Iterable[str], context: Any, changed: Changes) -> None:
    """Raise MergeError for a field which field_mapping takes from a branch that has none."""
    for field in sorted(wanted):
        if field not in changed and held(context, field) is ABSENT:
            raise MergeError(
                f"field_mapping takes {field!r} from branch {key!r}, which set no such field; "
                f"{nearest(field, changed)}",
                field,
                (key,),
            )


@attrs.define(eq=False)
class _Folding:
    """Decide fields that several branches changed, and collect where they contradict."""

    strategy: Any
    config: MergeConfig
    _conflicts: list[MergeError] = attrs.field(factory=list)
    # A new list or dict for each that there was: fields that shared one share its successor.
    _made: dict[tuple[int, int], list[tuple[Given, Any]]] = attrs.field(factory=dict)

    def fold_each(self, old: Any, given: dict[Any, Given], path: str) -> Work[Changes]:
        """Return what becomes of each field of ``old`` that was changed."""
        counters = () if path else self.config.counter_fields
        result: Changes = {}
        for number, (name, changed) in enumerate(given.items(), 1):
            before, whole = held(old, name), f"{path}{name}"
            if name in counters:
                result[name] = yield from self._count(before, changed, whole)
            elif len(changed.values) == 1:
                result[name] = changed.values[0]
            else:
                result[name] = yield from self._decide(before, changed, whole)
            if not number % AT_ONCE:
                yield AT_ONCE
        return result

    def raise_conflict(self) -> None:
        """Raise the first contradiction, if there is one."""
        if self._conflicts:
            error, *more = self._conflicts
            if more:
                error.add_note(f"{len(more)} more: {', '.join(each.field for each in more[:10])}")
            raise error

    def _decide(self, old: Any, given: Given, path: str) -> Work[Any]:
        config = self.config
        every = config.accumulate_counters and not config.counter_fields
        if every and old is not ABSENT and can_be_summed(old, given):
            return (yield from summed(old, given))
        if config.deduplicate_lists and _all_are(list, old, given):
            return (yield from self._join(old, given))
        if config.deep_merge_dicts and _all_are(dict, old, given):
            return (yield from self._merge_dict(old, given, path))
        if self.strategy is MergeStrategy.OVERWRITE:
            return given.values[-1]
        if self.strategy is not MergeStrategy.KEEP_FIRST:
            yield from self._note_conflict(given, path)
        return given.values[0]

    def _count(self, old: Any, given: Given, path: str) -> Work[Any]:
        if not can_be_summed(old, given):
            key, value = odd_one(old, given)
            raise MergeError(
                f"field {path!r} is a counter, and {_by(key, value)}, which cannot be added up; "
                f"keep it a number, or take it out of counter_fields",
                path,
                (key,) if key else (),
            )
        return given.values[0] if len(given.values) == 1 else (yield from summed(old, given))

    def _known(self, old: Any, given: Given, new: Any) -> Any:
        """Return what was made of the same before; else ``new``, which is known from now on."""
        made = self._made.setdefault((id(old), id(given.values[0])), [])
        for other, result in made:
            if other.holds_the_same(given):
                return result
        made.append((given, new))
        return new

    def _join(self, old: Any, given: Given) -> Work[list[Any]]:
        empty: list[Any] = []
        result: list[Any] = self._known(old, given, empty)
        if result is empty:
            result += yield from joined([] if old is ABSENT else old, given.values)
        return result

    def _merge_dict(self, old: Any, given: Given, path: str) -> Work[dict[Any, Any]]:
        # It is known before it is filled, for it may hold itself.
        new: dict[Any, Any] = copy.copy(given.values[0] if old is ABSENT else old)
        result: dict[Any, Any] = self._known(old, given, new)
        if result is not new:
            return result
        before: dict[Any, Any] = {} if old is ABSENT else old
        parts: dict[Any, Given] = {}
        for key, value in zip(given.keys, given.values, strict=True):
            for name, item in value.items():
                known = before.get(name, ABSENT)
                if known is not item and (known is ABSENT or not is_equal(known, item)):
                    _add(parts, name, key, item)
            for name in [name for name in before if name not in value]:
                _add(parts, name, key, ABSENT)
            yield 1 + len(value)
        changes = yield from self.fold_each(before, parts, f"{path}.")
        for name, item in changes.items():
            if item is ABSENT:
                del result[name]
            else:
                result[name] = item
        return result

    def _note_conflict(self, given: Given, path: str) -> Work[None]:
        """Note the first branch that contradicts the first; agreeing may be enough, or not."""
        agree = self.strategy is MergeStrategy.CONTEXT_UPDATE
        first, value = given.keys[0], given.values[0]
        for number, other in enumerate(islice(given.values, 1, None), 1):
            if not agree or not is_equal(value, other):
                key = given.keys[number]
                words = (
                    f"field {path!r}: {_by(first, value)}, {_by(key, other)}; let one of them "
                    f"change it, or decide by MergeStrategy.OVERWRITE or .KEEP_FIRST, "
                    f"or by a MergeConfig"
                )
                self._conflicts.append(MergeError(words, path, (first, key)))
                return
            if not number % AT_ONCE:
                yield AT_ONCE


def short(value: Any) -> str:
    """Write a value in a few words, however large it is, and whatever its repr does."""
    if isinstance(value, (bytes, bytearray)):
        return f"{type(value).__name__} of length {len(value)}, {bytes(value[:20])!r}..."
    words = _REPR.repr(value)
    return words if len(words) <= SHOWN else words[: SHOWN - 3] + "..."


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = SHOWN


def _all_are(kind: type, old: Any, given: Given) -> bool:
    return (old is ABSENT or isinstance(old, kind)) and given.are(kind)


def _add(given: dict[Any, Given], name: Any, key: str, value: Any) -> None:
    found = given.get(name)
    if found is None:
        found = given[name] = Given()
    found.add(key, value)


def _by(key: str, value: Any) -> str:
    """Say what a branch did, or what there was if no branch is named."""
    if not key:
        return f"the context holds {short(value)}"
    return f"branch {key!r} " + ("deleted it" if value is ABSENT else f"set it to {short(value)}")
