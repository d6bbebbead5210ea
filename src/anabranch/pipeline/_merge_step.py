"""Merge for one run of a step: hand each branch its copy of the context, note what it changed.

What a branch changed is told when it ends, by whoever ran it, and the rest of its copy is let go:
while a step runs it keeps changes and not contexts. Only a merging function gets whole contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from inspect import isawaitable
from types import CoroutineType
from typing import Any

from anabranch._branch import ASYNC, NO_KWARGS, run_in
from anabranch.abc import Lane
from anabranch.errors import MergeError
from anabranch.pipeline._config import MergeStrategy
from anabranch.pipeline._merge import merged
from anabranch.pipeline._merge_changes import Changes, Copy, Original
from anabranch.pipeline._merge_sums import Work
from anabranch.pipeline._merge_terms import MergeTerms

NOTHING, CHANGES, CONTEXT = range(3)  # what is kept of a branch
UNCHANGED: Changes = {}


class Merge:
    """Belong to one run of a step that merges, or that narrows what its branches are given.

    Raises:
        ConfigurationError: the terms name a field that the context does not have.
    """

    def __init__(self, where: str, terms: MergeTerms, context: Any) -> None:
        terms.check_fields(where, context)
        self.terms = terms
        self.keeps = CHANGES if terms.merges else NOTHING
        if not isinstance(terms.strategy, MergeStrategy):
            self.keeps = CONTEXT
        self._original = Original(context, terms.only)
        # By key and turn: a thread that was given up may end when its fallback has long noted.
        self._kept: dict[tuple[str, int], Any] = {}
        self._turns: dict[str, int] = {}

    def copy(self, key: str) -> Copy:
        """Copy the context for a branch."""
        return self._original.copy(self._turn(key))

    def note(self, key: str, copy: Copy, context: Any) -> None:
        """Keep what a branch changed; ``context`` is its copy, or what took the place of that."""
        if self.keeps is CONTEXT:
            self._kept[key, copy.turn] = (copy, context)
        elif self.keeps is CHANGES:
            changes = copy.changes_to(context)
            if changes:
                self._kept[key, copy.turn] = changes

    def pass_over(self, key: str) -> None:
        """Let nothing count that was changed, or still is, before a fallback took over."""
        self._turns[key] = self._turn(key) + 1

    def call(
        self, fn: Callable[..., Any], kind: int, lane: Lane | None, data: Any, key: str
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what to call, with which arguments, in place of ``fn(data, context=...)``."""
        args = (fn, data, key, self._turn(key))
        if lane is not None:
            return self._in_lane, (lane, *args)
        return self._awaited if kind == ASYNC else self._called, args

    def _turn(self, key: str) -> int:
        return self._turns.get(key, 0)

    async def _awaited(self, fn: Callable[..., Any], data: Any, key: str, turn: int) -> Any:
        copy = self._original.copy(turn)
        value = await fn(data, context=copy.context)
        self.note(key, copy, copy.context)
        return value

    def _called(self, fn: Callable[..., Any], data: Any, key: str, turn: int) -> Any:
        copy = self._original.copy(turn)
        value = fn(data, context=copy.context)
        if type(value) is CoroutineType:
            return self._noted_after(value, copy, key)
        self.note(key, copy, copy.context)
        return value

    async def _noted_after(self, coroutine: Any, copy: Copy, key: str) -> Any:
        value = await coroutine
        self.note(key, copy, copy.context)
        return value

    async def _in_lane(
        self, lane: Lane, fn: Callable[..., Any], data: Any, key: str, turn: int
    ) -> Any:
        """Call in a lane, which may be another process: the copy is made and compared there."""
        args = (fn, data, self._original.context, self.terms.only, self.keeps)
        value, kept = await run_in(lane, key)(call_with_copy, args, NO_KWARGS)
        if self.keeps is CONTEXT:
            self._kept[key, turn] = (Copy(self._original, kept, {}), kept)
        elif kept:
            self._kept[key, turn] = kept
        return value

    def let_go(self) -> None:
        """Forget what branches changed: the step has ended, and its result may live long."""
        self._kept.clear()
        self.keeps = NOTHING  # of a thread that was abandoned too
        self._original = Original(self._original.context, self.terms.only)

    async def changes(self, keys: Iterable[str], checkpoint: Callable[[], Any]) -> Changes:
        """Return what is to change in the context.

        Args:
            keys: of the branches whose changes count, in the order in which they merge.
            checkpoint: is awaited now and then.

        Raises:
            MergeError: what the branches changed does not go together.
        """
        found = ((key, self._kept.get((key, self._turn(key)))) for key in keys)
        if self.keeps is CONTEXT:
            return await self._changes_by_function({key: kept for key, kept in found if kept})
        kept = ((key, changes or UNCHANGED) for key, changes in found)
        return await in_slices(merged(self._original.context, kept, self.terms), checkpoint)

    async def _changes_by_function(self, kept: Mapping[str, tuple[Copy, Any]]) -> Changes:
        """Let the user's function merge into a copy of the context, and tell what it changed."""
        strategy = self.terms.strategy
        assert callable(strategy), "or it would be a MergeStrategy"
        copy = Original(self._original.context).copy()
        context = strategy(copy.context, {key: context for key, (_, context) in kept.items()})
        if isawaitable(context):
            context = await context
        if context is None:
            return copy.changes()
        if type(context) is not type(copy.context):
            raise MergeError(
                f"the function of merge_strategy= returned {type(context).__name__}; return "
                f"a {type(copy.context).__name__}, or None and change the one that it is given"
            )
        # It may have chosen the context of one branch, whose objects are copies of ours.
        chosen = next((own for own, found in kept.values() if found is context), copy)
        return chosen.changes_to(context)


def call_with_copy(
    fn: Callable[..., Any], data: Any, context: Any, only: Collection[str] | None, keeps: int
) -> Any:
    """Call ``fn`` with a copy of the context; return its value, and what is kept of the copy."""
    copy = Original(context, only).copy()
    value = fn(data, context=copy.context)
    if type(value) is CoroutineType:
        return _awaited_with_copy(value, copy, keeps)
    return value, _kept_of(copy, keeps)


async def _awaited_with_copy(coroutine: Any, copy: Copy, keeps: int) -> Any:
    return await coroutine, _kept_of(copy, keeps)


def _kept_of(copy: Copy, keeps: int) -> Any:
    if keeps == CHANGES:
        return copy.changes()
    return copy.context if keeps == CONTEXT else None


SLICE = 512  # fields, branches or items that are merged before the loop goes round


async def in_slices(work: Work[Changes], checkpoint: Callable[[], Any]) -> Changes:
    """Do ``work`` to its end, and let the loop go round now and then."""
    done = 0
    while True:
        try:
            done += next(work)
        except StopIteration as end:
            changes: Changes = end.value
            return changes
        if done >= SLICE:
            done = 0
            await checkpoint()
