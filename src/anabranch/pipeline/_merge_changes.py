"""Tell what a branch changed in its copy of the context.

Changed is what is neither the same object nor equal. A branch's copies are other objects, and many
classes compare by identity, so a copy is looked into: one that was left alone is no change.
What did change comes with the original's own objects in place of copies that were left alone, so
what two fields hold in common they hold in common afterwards, and the rest of the copy is let go.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from operator import is_
from typing import Any

import attrs

from anabranch.pipeline._context import IMMUTABLE, Memo, copy_for_branch
from anabranch.pipeline._fields import ABSENT, held, names_of, put

Changes = dict[Any, Any]  # from the fields that changed to what they hold; ABSENT where deleted

_DICTS = frozenset((dict, OrderedDict, defaultdict, Counter))
_SEQUENCES = frozenset((list, tuple, deque))
_PLAIN = IMMUTABLE | {type(ABSENT)}


class Original:
    """Be the context that the branches of a step have copies of; nobody changes it meanwhile.

    Args:
        only: the fields that the copies have; None for all.
    """

    def __init__(self, context: Any, only: Collection[str] | None = None) -> None:
        self.context = context
        self.only = only
        self._copied: list[Any] | None = None

    def copy(self, turn: int = 0) -> Copy:
        """Copy it for a branch."""
        memo: Memo = {}
        return Copy(self, copy_for_branch(self.context, self.only, memo), memo, turn)

    def copied(self) -> list[Any]:
        """List what in it is copied for a branch; found out once for all of them."""
        if self._copied is None:
            fields = _fields_in(self.context) if self.only is None else self.only
            parts = [held(self.context, name) for name in fields]
            self._copied = list(_reachable(parts))
        return self._copied


@attrs.define(eq=False)
class Copy:
    """Be one branch's copy, and know what in it is a copy of what."""

    original: Original
    context: Any
    memo: Memo  # from the id of an object in the original to its copy
    turn: int = 0  # of those who were to make the branch's changes

    def changes(self) -> Changes:
        """Tell which fields the branch changed, in the original's order and then in its own."""
        return self.changes_to(self.context)

    def changes_to(self, context: Any) -> Changes:
        """Tell in what ``context``, which took the place of this copy, differs."""
        old, only = self.original.context, self.original.only
        names = _not_identical(old, context)
        if not names:
            return {}
        look = _Look(self, context)
        changes: Changes = {}
        for name in names:
            before, now = held(old, name), held(context, name)
            if now is ABSENT and only is not None and name not in only:
                continue  # it was never there
            if before is ABSENT or now is ABSENT or not look.left_alone(before, now):
                changes[name] = now
        return {name: now if now is ABSENT else look.at_home(now) for name, now in changes.items()}


def is_equal(one: Any, other: Any) -> bool:
    """Tell whether two values are the same or equal; what cannot be compared is not."""
    if one is other:
        return True
    try:
        answer = one == other
        if isinstance(answer, bool):
            return answer
        return getattr(answer, "shape", None) == () and bool(answer)  # numpy's own bool
    except Exception:  # whatever the user's comparison raises, or a recursion without an end
        return False


class _Look:
    """Compare one branch's context with the original."""

    def __init__(self, copy: Copy, context: Any) -> None:
        self._copy = copy
        self._context = context
        root = copy.original.context
        self._memo = copy.memo if context is copy.context else {**copy.memo, id(root): context}
        self._assumed: set[int] = set()  # what is being compared further up is assumed to be equal
        self._pairs: dict[tuple[int, int], Any] = {}  # likewise, of what is taken apart
        self._taken_apart = 0  # how many objects around this are
        # By id: what was looked at, which keeps it alive, and what stands in its place.
        self._at_home: dict[int, tuple[Any, Any]] = {}
        self._originals: dict[int, Any] | None = None

    def left_alone(self, old: Any, new: Any) -> bool:
        """Tell whether ``new`` is ``old``, its equal, or a copy of it that was not changed."""
        self._assumed = {id(self._copy.original.context)}
        self._pairs.clear()
        try:
            return self._same(old, new)
        except RecursionError:
            return False

    def _same(self, old: Any, new: Any) -> bool:
        kind = type(old)
        if old is new or kind in IMMUTABLE or kind is not type(new):
            return is_equal(old, new)
        is_copy = self._memo.get(id(old)) is new
        if is_copy:
            if id(old) in self._assumed:
                return True
            self._assumed.add(id(old))
        if kind in _DICTS:
            return self._same_items(old, new)
        if kind in _SEQUENCES:
            if len(old) != len(new):
                return False
            return all(map(is_, old, new)) or self._all_same(zip(old, new, strict=True))
        if is_copy and names_of(old) is not None:  # comparing it itself may go round in circles
            return self._same_fields(old, new) or is_equal(old, new)
        return is_equal(old, new) or (
            (is_copy or self._taken_apart > 0) and self._same_state(old, new)
        )

    def _same_items(self, old: dict[Any, Any], new: dict[Any, Any]) -> bool:
        if old.keys() != new.keys() or (type(old) is OrderedDict and list(old) != list(new)):
            return False
        return self._all_same((item, new[key]) for key, item in old.items())

    def _all_same(self, pairs: Iterable[tuple[Any, Any]]) -> bool:
        return all(old is new or self._same(old, new) for old, new in pairs)

    def _same_fields(self, old: Any, new: Any) -> bool:
        names = names_of(old) or []
        both = ((held(old, name), held(new, name)) for name in names)
        return names == names_of(new) and self._all_same(both)

    def _same_state(self, old: Any, new: Any) -> bool:
        """Compare what pickling an object and its copy would write.

        What it is made of may have been copied by its own ``__deepcopy__``, so the memo knows of
        no part of it: a table of arrays is taken apart down to their bytes.
        """
        if (id(old), id(new)) in self._pairs:
            return True
        self._pairs[id(old), id(new)] = old, new  # alive, or others may get their ids
        self._taken_apart += 1
        try:
            return self._all_same([(_state_of(old), _state_of(new))])
        except RecursionError:
            raise
        except Exception:  # it says by its own words that it cannot be taken apart
            return False
        finally:
            self._taken_apart -= 1

    def at_home(self, value: Any) -> Any:
        """Return ``value`` with the original's objects in place of copies that were left alone."""
        try:
            return self._home(value)
        except RecursionError:  # deeper than any copy: what was not reached stays as it is
            return value

    def _home(self, value: Any) -> Any:
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        if id(value) in self._at_home:
            return self._at_home[id(value)][1]
        if self._originals is None:
            self._originals = self._find_originals()
        old = self._originals.get(id(value))
        if old is not None and self.left_alone(old, value):
            return old
        if kind is tuple:
            new = tuple([self._home(item) for item in value])
            if all(a is b for a, b in zip(new, value, strict=True)):
                new = value
            self._at_home[id(value)] = value, new
            return new
        self._at_home[id(value)] = value, value
        for key, item, replace in _parts_of(value):
            new = self._home(item)
            if new is not item:
                replace(value, key, new)
        return value

    def _find_originals(self) -> dict[int, Any]:
        """Map the id of each copy to what it is a copy of."""
        memo, original = self._memo, self._copy.original
        olds = [old for old in original.copied() if id(old) in memo]
        found = {id(memo[id(old)]): old for old in olds}
        for root in (self._context, self._copy.context):
            found[id(root)] = original.context
        return found


def _not_identical(old: Any, new: Any) -> list[Any]:
    """List the fields that do not hold the same object in both; most do, so this is quick."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name, item in old.items() if new.get(name, ABSENT) is not item]
        missing = sum(name not in new for name in names)
        if len(new) > len(old) - missing:
            names += [name for name in new if name not in old]
        return names
    names = _fields_in(old)
    known = set(names)
    names += [name for name in _fields_in(new) if name not in known]
    return [name for name in names if held(old, name) is not held(new, name)]


def _fields_in(context: Any) -> list[Any]:
    return list(context) if isinstance(context, dict) else names_of(context) or []


def _reachable(parts: list[Any]) -> Iterator[Any]:
    """Yield what containers and objects with fields hold, and what those hold, once each."""
    seen: set[int] = set()
    while parts:
        value = parts.pop()
        if type(value) in IMMUTABLE or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        parts += value if type(value) is tuple else [item for _, item, _ in _parts_of(value)]


Replace = Callable[[Any, Any, Any], None]


def _parts_of(value: Any) -> list[tuple[Any, Any, Replace]]:
    """List the parts of what can be changed in place: where each is, it, and how to replace it."""
    kind = type(value)
    if kind in _DICTS:
        items, replace = value.items(), kind.__setitem__
    elif kind is list or kind is deque:
        items, replace = enumerate(value), kind.__setitem__
    else:
        names = names_of(value) or ()
        items, replace = ((name, held(value, name)) for name in names), put
    return [(where, item, replace) for where, item in items if type(item) not in _PLAIN]


def _state_of(value: Any) -> Any:
    """Return what makes up an object, as tuples, lists and dicts."""
    try:
        state = value.__reduce_ex__(4)
    except Exception:  # it cannot be pickled; its attributes may tell
        return vars(value)
    if not isinstance(state, tuple):
        return state
    return tuple([list(part) if isinstance(part, Iterator) else part for part in state])
