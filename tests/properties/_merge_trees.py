"""Draw trees of steps that change one context, and say by a simple model what becomes of it.

The model copies contexts whole, looks at every field of every one, and knows nothing of objects.
"""

from __future__ import annotations

import copy
from typing import Any

import attrs
from hypothesis import strategies as st

from anabranch import MergeConfig, MergeStrategy

FIELDS = ("n0", "n1", "l0", "l1", "d0", "new")
GONE = "<gone>"


class ConflictError(Exception):
    """Two branches contradict each other."""


@attrs.frozen
class Leaf:
    """Change a context by ``ops`` after ``turn``, which no other leaf has; then perhaps fail."""

    turn: int
    ops: tuple[tuple[str, str, int], ...]
    fails: bool
    plain: bool

    def after(self, context: dict[str, Any]) -> dict[str, Any] | None:
        mine = copy.deepcopy(context)
        apply(mine, self.ops)
        return None if self.fails else mine

    def ends(self) -> int:
        return self.turn


@attrs.frozen
class Fan:
    """Run branches in parallel, on terms of its own."""

    branches: tuple[Leaf | Fan, ...]
    strategy: MergeStrategy
    config: MergeConfig | None
    order: str
    limit: int | None
    fields: tuple[tuple[int, tuple[str, ...]], ...]
    piped: bool  # it stands in a pipeline, between steps that see what it has merged

    def keys(self) -> list[str]:
        return [f"b{i}" for i in range(len(self.branches))]

    def ends(self) -> int:
        return max(branch.ends() for branch in self.branches)

    def after(self, context: dict[str, Any]) -> dict[str, Any] | None:
        """Return the context after the step; None if the step fails."""
        afters = [(i, branch.after(context)) for i, branch in enumerate(self.branches)]
        good = [(i, after) for i, after in afters if after is not None]
        if self.order == "completed":
            good.sort(key=lambda pair: self.branches[pair[0]].ends())
        if not good:
            return None
        if self.strategy is MergeStrategy.NO_MERGE:
            return context
        mapping = dict(self.fields)
        for i, after in good:
            if any(name not in context and name not in after for name in mapping.get(i, ())):
                return None
        seen = [(set(mapping.get(i, FIELDS)), after) for i, after in good]
        try:
            return self._merged(context, seen)
        except ConflictError:
            return None

    def _merged(self, context: dict[str, Any], seen: Any) -> dict[str, Any]:
        config = self.config or MergeConfig()
        found = copy.deepcopy(context)
        for name in FIELDS:
            if name in config.excluded_fields:
                continue
            old = context.get(name, GONE)
            new = [after.get(name, GONE) for wanted, after in seen if name in wanted]
            new = [value for value in new if value != old]
            if new:
                put(found, name, self._decide(old, new, config, name))
        return found

    def _decide(self, old: Any, new: list[Any], config: MergeConfig, name: str) -> Any:
        numbers = all(type(value) is int for value in [old, *new])
        named = name in config.counter_fields
        if named and not numbers:
            raise ConflictError
        if len(new) == 1:
            return new[0]
        every = config.accumulate_counters and not config.counter_fields
        if named or (every and numbers):
            return old + sum(value - old for value in new)
        if config.deduplicate_lists and all_are(list, old, new):
            return join([] if old == GONE else old, new)
        if config.deep_merge_dicts and all_are(dict, old, new):
            return self._deep({} if old == GONE else old, new, config)
        if self.strategy is MergeStrategy.OVERWRITE:
            return new[-1]
        if self.strategy is MergeStrategy.KEEP_FIRST:
            return new[0]
        agree = all(value == new[0] for value in new)
        if not agree or self.strategy is MergeStrategy.ERROR_ON_CONFLICT:
            raise ConflictError
        return new[0]

    def _deep(self, old: dict[str, Any], new: list[Any], config: MergeConfig) -> dict[str, Any]:
        found = dict(old)
        for name in sorted({key for each in [old, *new] for key in each}):
            before = old.get(name, GONE)
            after = [each.get(name, GONE) for each in new]
            after = [value for value in after if value != before]
            if after:
                put(found, name, self._decide(before, after, config, f"?{name}"))
        return found


def put(context: dict[str, Any], name: str, value: Any) -> None:
    if value == GONE:
        context.pop(name, None)
    else:
        context[name] = value


def all_are(kind: type, old: Any, new: list[Any]) -> bool:
    return all(isinstance(value, kind) for value in new) and (old == GONE or isinstance(old, kind))


def join(old: list[Any], new: list[list[Any]]) -> list[Any]:
    kept = [item for item in old if all(item in each for each in new)]
    found: list[Any] = []
    for item in kept + [item for each in new for item in each if item not in old]:
        if item not in found:
            found.append(item)
    return found


def apply(context: dict[str, Any], ops: Any) -> None:
    """Do what a leaf does; what does not fit does nothing."""
    for name, op, value in ops:
        held = context.get(name)
        if op == "set":
            context[name] = value
        elif op == "same" and name in context:
            context[name] = copy.deepcopy(held)
        elif op == "delete":
            context.pop(name, None)
        elif op == "add" and isinstance(held, int):
            context[name] = held + value
        elif op == "add" and isinstance(held, list):
            held.append([value])
        elif op == "add" and isinstance(held, dict):
            held[f"k{value}"] = held.get(f"k{value}", 0) + 1
        elif op == "take" and isinstance(held, list) and held:
            held.pop(value % len(held))
        elif op == "take" and isinstance(held, dict) and held:
            held.pop(sorted(held)[value % len(held)])
        elif op == "make":
            context[name] = [[value]] if value % 2 else {f"k{value}": 0}


def first_context() -> dict[str, Any]:
    return {"n0": 0, "n1": 10, "l0": [[1], [2]], "l1": [], "d0": {"k1": 1, "k2": 2}}


OPS = st.tuples(
    st.sampled_from(FIELDS),
    st.sampled_from(("set", "same", "delete", "add", "add", "take", "make")),
    st.integers(0, 3),
)
NAMES = st.lists(st.sampled_from(FIELDS), max_size=2, unique=True)


@st.composite
def configs(draw: Any) -> MergeConfig | None:
    if draw(st.booleans()):
        return None
    counters = draw(st.sampled_from([(), (), ("n0",), ("n0", "n1")]))
    return MergeConfig(
        deep_merge_dicts=draw(st.booleans()),
        deduplicate_lists=draw(st.booleans()),
        accumulate_counters=draw(st.booleans()),
        counter_fields=counters,
        excluded_fields=[name for name in draw(NAMES) if name not in counters],
    )


@st.composite
def fans(
    draw: Any, order: str | None = None, turns: list[int] | None = None, depth: int = 0
) -> Fan:
    """Draw a step; each leaf takes one of the turns that are left."""
    turns = draw(st.permutations(range(64))) if turns is None else turns
    order = draw(st.sampled_from(("declared", "completed"))) if order is None else order
    branches: list[Leaf | Fan] = []
    for _ in range(draw(st.integers(1, 4))):
        if depth < 2 and draw(st.integers(0, 2)) == 0:
            branches.append(draw(fans(order, turns, depth + 1)))
        else:
            ops = tuple(draw(st.lists(OPS, max_size=4)))
            fails = draw(st.integers(0, 7)) == 0
            plain = order == "declared" and draw(st.booleans())  # it takes no turn
            branches.append(Leaf(turns.pop(), ops, fails, plain))
    strategy = draw(st.sampled_from(list(MergeStrategy)))
    merges = strategy is not MergeStrategy.NO_MERGE
    config = draw(configs()) if merges else None
    excluded = () if config is None else config.excluded_fields
    fields = []
    if merges and draw(st.integers(0, 3)) == 0:
        names = [name for name in draw(NAMES) if name not in excluded]
        fields = [(draw(st.integers(0, len(branches) - 1)), tuple(names))]
    # Under a limit the order of completion is another one than that of the turns.
    limit = draw(st.sampled_from((None, 1, 2))) if order == "declared" else None
    return Fan(tuple(branches), strategy, config, order, limit, tuple(fields), draw(st.booleans()))
