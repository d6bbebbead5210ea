"""See that steps merge what their branches changed: whose, in what order, and all or nothing."""

from __future__ import annotations

import collections
import dataclasses
import gc
import threading
import tracemalloc
import weakref
from functools import partial
from typing import Any

import anyio
import attrs
import pydantic
import pytest

from anabranch import (
    BranchFailureStrategy,
    ConfigurationError,
    Halt,
    MergeConfig,
    MergeError,
    MergeStrategy,
    Pipeline,
    Retry,
    Status,
    Step,
    StepResult,
)
from anabranch.pipeline._merge_step import SLICE, in_slices
from tests.pipeline import contexts as kinds

UPDATE, OVERWRITE = MergeStrategy.CONTEXT_UPDATE, MergeStrategy.OVERWRITE
IGNORE = BranchFailureStrategy.IGNORE


def sets(after: float = 0, **fields: Any) -> Any:
    """Make a branch that sets fields of its context, some seconds after its start."""

    async def branch(data: Any, *, context: Any) -> Any:
        await anyio.sleep(after)
        for name, value in fields.items():
            if isinstance(context, dict):
                context[name] = value
            else:
                object.__setattr__(context, name, value)
        return data

    return branch


def appends(value: Any) -> Any:
    async def branch(data: Any, *, context: Any) -> None:
        items = context["items"] if isinstance(context, dict) else context.items
        items.append(value)

    return branch


async def fails(data: Any, *, context: Any) -> None:
    context["failed"] = True
    raise ValueError(data)


async def fail(data: Any) -> None:
    raise ValueError(data)


async def run(step: Any, context: Any, **options: Any) -> StepResult[Any]:
    result = await Pipeline([step]).run(1, context=context, **options)
    return result.step_history[-1]


# Whose changes -------------------------------------------------------------------------------


async def test_by_default_nothing_is_merged() -> None:
    context = {"x": 0}
    assert (await run(Step.parallel({"a": sets(x=1), "b": sets(x=2)}), context)).success
    assert context == {"x": 0}


async def test_different_fields_both_keep_their_change_and_later_steps_see_them() -> None:
    async def total(data: Any, *, context: Any) -> Any:
        return context["x"] + context["y"]

    context = {"x": 0, "y": 0}
    step = Step.parallel({"a": sets(x=1), "b": sets(y=2)}, merge_strategy=UPDATE)
    result = await Pipeline([step, total]).run(1, context=context)
    assert result.output == 3
    assert result.context is context
    assert context == {"x": 1, "y": 2}


async def test_only_branches_that_succeeded_merge() -> None:
    context: dict[str, Any] = {}
    branches = {"a": sets(x=1), "bad": fails, "late": Step("late", sets(9, y=1), timeout=1)}
    step = Step.parallel(branches, merge_strategy=OVERWRITE, on_branch_failure=IGNORE)
    assert (await run(step, context)).success
    assert context == {"x": 1}


async def test_a_branch_that_a_halt_stopped_does_not_merge() -> None:
    context: dict[str, Any] = {}
    branches = {"a": sets(1, x=1), "b": sets(2, y=1)}
    step = Step.parallel(branches, merge_strategy=OVERWRITE, halt=Halt(on="success"))
    assert (await run(step, context)).success
    assert context == {"x": 1}


async def test_a_step_that_fails_merges_nothing() -> None:
    context: dict[str, Any] = {}
    result = await run(
        Step.parallel({"a": sets(x=1), "bad": fails}, merge_strategy=OVERWRITE), context
    )
    assert not result.success
    assert context == {}


async def test_a_contradiction_fails_the_step_and_keeps_what_the_branches_returned() -> None:
    context = {"x": 0, "y": 0}
    branches = {"a": sets(x=1, y=7), "b": sets(x=2)}
    result = await run(Step.parallel("both", branches, merge_strategy=UPDATE), context, timeout=9)
    assert not result.success
    assert result.status is Status.FAILED
    assert isinstance(result.error, MergeError)
    assert result.error.__notes__ == ["merge of step both"]
    assert "field 'x': branch 'a' set it to 1, branch 'b' set it to 2" in result.feedback
    assert result.output == {"a": 1, "b": 1}
    assert all(branch.success for branch in result.branches.values())
    assert context == {"x": 0, "y": 0}
    with pytest.raises(ExceptionGroup) as caught:
        result.unwrap()
    assert caught.value.exceptions == (result.error,)


async def test_only_mapped_fields_merge() -> None:
    context = {"x": 0, "y": 0}
    both = {"a": sets(x=1, y=1), "b": sets(x=2, y=2), "c": sets(z=3)}
    fields = {"a": ["x"], "b": ["y"]}
    step = Step.parallel(both, merge_strategy=UPDATE, field_mapping=fields)
    assert (await run(step, context)).success
    assert context == {"x": 1, "y": 2, "z": 3}


async def test_a_config_says_how_fields_are_put_together() -> None:
    async def hit(data: Any, *, context: Any) -> None:
        context["hits"] += 1
        context["seen"].append(context["hits"])

    context: dict[str, Any] = {"hits": 3, "seen": []}
    config = MergeConfig(counter_fields=["hits"], deduplicate_lists=True)
    branches = {f"b{i}": hit for i in range(10)}
    assert (
        await run(Step.parallel(branches, merge_strategy=UPDATE, merge_config=config), context)
    ).success
    assert context == {"hits": 13, "seen": [4]}


# Order ---------------------------------------------------------------------------------------


async def test_the_later_one_wins_in_the_order_that_is_asked_for() -> None:
    branches = {"slow": sets(2, x="slow"), "fast": sets(1, x="fast")}
    wanted = {"declared": "fast", "completed": "slow"}
    for name, winner in wanted.items():
        context = {"x": ""}
        step = Step.parallel(branches, merge_strategy=OVERWRITE, merge_order=name)
        assert (await run(step, context)).success
        assert context == {"x": winner}


async def test_the_first_to_end_is_kept_if_asked() -> None:
    context = {"x": ""}
    branches = {"slow": sets(2, x="slow"), "fast": sets(1, x="fast")}
    step = Step.parallel(
        branches,
        merge_strategy=MergeStrategy.KEEP_FIRST,
        merge_order="completed",
        track_completion=False,
    )
    assert (await run(step, context)).success
    assert context == {"x": "fast"}


async def test_new_keys_come_in_declared_order() -> None:
    context: dict[str, Any] = {}
    branches = {key: sets(3 - i, **{key: i}) for i, key in enumerate("abc")}
    assert (await run(Step.parallel(branches, merge_strategy=UPDATE), context)).success
    assert list(context) == ["a", "b", "c"]


# Kinds of contexts ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [kinds.Attrs, kinds.Data, kinds.Model])
async def test_a_context_that_can_be_changed_is_changed_in_place(make: Any) -> None:
    context = make()
    step = Step.parallel({"a": sets(n=1), "b": appends(2)}, merge_strategy=UPDATE)
    result = await Pipeline([step]).run(1, context=context)
    assert result.success, result.feedback
    assert result.context is context
    assert (context.n, context.items) == (1, [2])


@pytest.mark.parametrize("make", [kinds.Frozen, kinds.FrozenData, kinds.FrozenModel])
async def test_a_frozen_context_is_replaced_and_later_steps_see_the_new_one(make: Any) -> None:
    async def see(data: Any, *, context: Any) -> Any:
        return context.n, list(context.items)

    context = make()
    step = Step.parallel({"a": sets(n=1), "b": appends(2)}, merge_strategy=UPDATE)
    nested = Pipeline([Step.parallel({"c": appends(3)}, merge_strategy=UPDATE)])
    result = await Pipeline([step, see, nested, see]).run(1, context=context)
    assert result.success, result.feedback
    assert result.step_history[1].output == (1, [2])
    assert result.output == (1, [2, 3])
    assert result.context == make(n=1, items=[2, 3])
    assert context == make()


@pytest.mark.parametrize("make", [kinds.Frozen, kinds.FrozenData, kinds.FrozenModel, dict])
async def test_what_a_live_run_returns_has_the_merged_context(make: Any) -> None:
    context = make()
    step = Step.parallel({"a": sets(n=1)}, merge_strategy=UPDATE)
    async with Pipeline([step, Step.parallel({"b": sets(n=2)}, merge_strategy=UPDATE)]).open(
        1, context=context
    ) as live:
        keys = [outcome.key async for outcome in live.outcomes]
    assert keys == ["a", "b"]
    assert live.result.context == make(n=2)


async def test_neither_converters_nor_validators_are_asked_twice() -> None:
    asked = []

    @attrs.define
    class Checked:
        n: int = attrs.field(default=0, converter=lambda n: asked.append(n) or n * 10)

    context = Checked()
    asked.clear()

    async def change(data: Any, *, context: Any) -> None:
        context.n = 3

    assert (await run(Step.parallel({"a": change}, merge_strategy=UPDATE), context)).success
    assert context.n == 30
    assert asked == [3]


async def test_pydantic_knows_what_was_set() -> None:
    context = kinds.Model()
    assert (await run(Step.parallel({"a": sets(n=1)}, merge_strategy=UPDATE), context)).success
    assert context.model_dump(exclude_unset=True) == {"n": 1}


async def test_a_field_that_is_frozen_alone_may_still_be_changed_inside() -> None:
    @attrs.define
    class Half:
        n: int = 0
        items: list[Any] = attrs.field(factory=list, on_setattr=attrs.setters.frozen)

    context = Half()
    assert (await run(Step.parallel({"a": appends(1)}, merge_strategy=UPDATE), context)).success
    assert context.items == [1]


# Nesting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [dict, kinds.Frozen])
@pytest.mark.parametrize("outer", [UPDATE, MergeStrategy.NO_MERGE])
async def test_nested_steps_merge_into_their_branch_which_merges_further_up(
    outer: MergeStrategy, make: Any
) -> None:
    inner = Step.parallel({"x": appends(1), "y": sets(n=2)}, merge_strategy=UPDATE)
    context = make(n=0, items=[])
    own = sets(m=3) if make is dict else sets()
    branches = {"in": Pipeline([inner]), "own": own, "twice": Step.parallel({"deep": inner})}
    result = await Pipeline([Step.parallel(branches, merge_strategy=outer)]).run(1, context=context)
    assert result.success, result.feedback
    if outer is UPDATE:
        found = result.context if make is dict else attrs.asdict(result.context)
        assert found == {"n": 2, "items": [1]} | ({"m": 3} if make is dict else {})
    else:
        assert result.context == make(n=0, items=[])


async def test_a_contradiction_further_in_fails_its_branch_alone() -> None:
    inner = Step.parallel("inner", {"a": sets(x=1), "b": sets(x=2)}, merge_strategy=UPDATE)
    context: dict[str, Any] = {}
    step = Step.parallel(
        {"in": inner, "y": sets(y=3)}, merge_strategy=UPDATE, on_branch_failure=IGNORE
    )
    result = await run(step, context)
    assert result.success
    assert isinstance(result.branches["in"].error, MergeError)
    assert context == {"y": 3}


async def test_steps_of_a_branch_see_what_was_merged_in_it_before() -> None:
    async def double(data: Any, *, context: Any) -> None:
        context["x"] *= 2

    inner = Step.parallel({"a": sets(x=2)}, merge_strategy=UPDATE) >> Step("double", double)
    context = {"x": 0}
    assert (await run(Step.parallel({"in": inner}, merge_strategy=UPDATE), context)).success
    assert context == {"x": 4}


async def test_each_attempt_has_a_copy_of_its_own_and_only_the_last_one_merges() -> None:
    attempts = []

    async def branch(data: Any, *, context: Any) -> None:
        context["n"] += 1
        attempts.append(context["n"])
        if len(attempts) < 3:
            raise ValueError("again")

    context = {"n": 0}
    step = Step("b", branch, retry=Retry(attempts=3, wait=0.1))
    assert (await run(Step.parallel({"b": step}, merge_strategy=UPDATE), context)).success
    assert attempts == [1, 1, 1]
    assert context == {"n": 1}


@pytest.mark.parametrize("make", [dict, kinds.Frozen])
async def test_what_takes_over_merges_too(make: Any) -> None:
    deep = Step.parallel({"x": appends(1)}, merge_strategy=UPDATE)
    own = Step("own", fails, fallback=sets(n=2)) if make is dict else sets(n=2)
    branches = {"deep": Step("a", fail, fallback=deep), "own": own}
    step = Step.parallel(branches, merge_strategy=UPDATE)
    behind = Step("behind", fail, fallback=deep)  # in the pipeline itself, whose context it shares
    result = await Pipeline([step, behind]).run(1, context=make(n=0, items=[]))
    assert result.success, result.feedback
    assert result.context == make(n=2, items=[1, 1])
    with pytest.raises(ConfigurationError, match=r"give context="):
        await Pipeline([Step.parallel({"b": behind})]).run(1)


# Functions that merge ------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("make", [dict, kinds.Attrs, kinds.Frozen])
async def test_a_function_may_merge(is_async: bool, make: Any) -> None:
    def best(context: Any, branches: dict[str, Any]) -> Any:
        assert list(branches) == ["a", "b"]
        values = [b["n"] if make is dict else b.n for b in branches.values()]
        if make is dict:
            context["n"] = max(values)
            return None
        return attrs.evolve(context, n=max(values))

    async def best_async(context: Any, branches: dict[str, Any]) -> Any:
        await anyio.sleep(0)
        return best(context, branches)

    async def bare(data: Any) -> None:
        pass

    context = make(n=0, items=[])
    branches = {"a": sets(2, n=7), "b": sets(1, n=5), "takes none": bare}
    step = Step.parallel(branches, merge_strategy=best_async if is_async else best)
    result = await Pipeline([step]).run(1, context=context)
    assert result.success, result.feedback
    found = result.context
    assert (found["n"] if make is dict else found.n) == 7
    assert (result.context is context) == (make is not kinds.Frozen)


async def test_a_function_may_choose_one_branch() -> None:
    row = {"n": 0}
    context: dict[str, Any] = {"rows": [row], "first": row, "x": 0}

    async def branch(data: Any, *, context: Any) -> None:
        context["x"] = 1
        context["rows"].append({"n": 1})

    step = Step.parallel({"a": branch}, merge_strategy=lambda _, branches: branches["a"])
    assert (await run(step, context)).success
    assert context == {"rows": [row, {"n": 1}], "first": row, "x": 1}
    assert context["rows"][0] is row is context["first"]


async def test_a_function_gets_the_branches_in_the_order_of_completion_if_asked() -> None:
    seen: list[str] = []
    step = Step.parallel(
        {"slow": sets(2, x=1), "fast": sets(1, x=1)},
        merge_strategy=lambda context, branches: seen.extend(branches),
        merge_order="completed",
    )
    assert (await run(step, {})).success
    assert seen == ["fast", "slow"]


@pytest.mark.parametrize("returned", [3, {"x": 1}])
async def test_a_function_that_fails_changes_nothing(returned: Any) -> None:
    def merge(context: Any, branches: Any) -> Any:
        context.items.append(1)
        if returned == 3:
            raise ZeroDivisionError("three")
        return returned

    context = kinds.Attrs()
    result = await run(Step.parallel({"a": appends(2)}, merge_strategy=merge), context)
    assert not result.success
    assert isinstance(result.error, ZeroDivisionError if returned == 3 else MergeError)
    assert result.branches["a"].success
    assert context.items == []


# What branches are given ---------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [MergeStrategy.NO_MERGE, UPDATE])
async def test_branches_are_given_only_what_is_named(strategy: MergeStrategy) -> None:
    async def keys(data: Any, *, context: Any) -> list[str]:
        context["a"] += 1
        return list(context)

    context = {"a": 1, "b": [2], "c": 3}
    nested = Pipeline([Step("keys", keys)])
    branches = {"x": keys} if strategy is UPDATE else {"x": keys, "nested": nested}
    step = Step.parallel(branches, context_include_keys=["a", "c"], merge_strategy=strategy)
    result = await run(step, context)
    assert set(map(tuple, result.output.values())) == {("a", "c")}
    assert context == {"a": 2 if strategy is UPDATE else 1, "b": [2], "c": 3}


async def test_a_field_that_is_not_there_is_named_when_the_step_begins() -> None:
    started = []

    async def start(data: Any, *, context: Any) -> None:
        started.append(data)

    cases: list[tuple[Any, dict[str, Any], str]] = [
        ({"total": 1}, {"context_include_keys": ["totl"]}, "context_include_keys names 'totl'"),
        ({"total": 1}, {"merge_config": MergeConfig(counter_fields=["totl"])}, "counter_fields"),
        (kinds.Data(), {"merge_config": MergeConfig(excluded_fields=["item"])}, "excluded_fields"),
        (kinds.Data(), {"field_mapping": {"a": ["item"]}}, "field_mapping: a names 'item'"),
    ]
    for context, options, words in cases:
        step = Step.parallel("s", {"a": start}, **{"merge_strategy": UPDATE, **options})
        result = await run(step, context)
        assert isinstance(result.error, ConfigurationError)
        assert words in result.feedback
        assert "did you mean" in str(result.error)
        assert "step 's'" in str(result.error)
    assert started == []


def test_a_step_that_merges_is_refused_without_a_context_before_anything_starts() -> None:
    def never(data: Any) -> Any:
        raise AssertionError("it was started")

    merging = Step.parallel("fan", {"a": sets(x=1)}, merge_strategy=UPDATE)
    narrowing = Step.parallel("fan", {"a": sets(x=1)}, context_include_keys=["x"])
    for step in (merging, narrowing, Step.parallel({"deep": Pipeline([never, merging])}),
                 Step.map_over("m", merging, items=[1])):  # fmt: skip
        pipeline: Pipeline[Any, Any] = Pipeline([never, step])
        for start in (pipeline.run_sync, pipeline.open, partial(anyio.run, pipeline.run)):
            with pytest.raises(ConfigurationError, match=r"'fan' merges .* give context=\{\}"):
                start()


# Lanes ---------------------------------------------------------------------------------------


@pytest.mark.real_clock
@pytest.mark.parametrize("lane", ["io", "inline"])
async def test_plain_functions_merge_too(lane: str) -> None:
    threads = set()

    def branch(data: Any, context: Any) -> None:
        threads.add(threading.get_ident())
        context["items"].append(data)
        context[f"n{len(threads)}"] = 1

    async def later(data: Any, context: Any) -> str:
        context["later"] = data
        return "done"

    def hands_on(data: Any, context: Any) -> Any:
        return later(data, context=context)

    context: dict[str, Any] = {"items": []}
    branches = {"a": Step("a", branch, lane=lane), "b": Step("b", hands_on, lane=lane)}
    result = await run(Step.parallel(branches, merge_strategy=UPDATE), context)
    assert result.output["b"] == "done"
    assert context == {"items": [1], "n1": 1, "later": 1}


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.leaves("process", "descriptor", "thread", reason="the lane keeps its processes")
@pytest.mark.parametrize("strategy", [UPDATE, lambda context, branches: branches["a"]])
async def test_what_a_branch_changed_in_a_process_comes_back(strategy: Any) -> None:
    context = {"n": 1, "items": [[1], [2]], "left": kinds.Data(3), "gone": 1}
    kept = context["items"][0]
    step = Step.parallel(
        {"a": Step("a", kinds.changes_context, lane="cpu"), "b": sets()}, merge_strategy=strategy
    )
    result = await run(step, context)
    assert result.success, result.feedback
    assert result.output["a"] == "value"
    assert context == {"n": 2, "items": [[1], [2, 3]], "left": kinds.Data(3)}
    assert kept == [1]


class Here:
    """Be a lane of the user's, which runs what it is given where it stands."""

    async def run(self, fn: Any, args: Any, kwargs: Any) -> Any:
        value = fn(*args, **kwargs)
        return await value if hasattr(value, "__await__") else value


async def test_a_lane_of_the_users_merges_plain_and_async_functions() -> None:
    def plain(data: Any, context: Any) -> str:
        context["x"] = data
        return "plain"

    async def other(data: Any, *, context: Any) -> str:
        context["y"] = data
        return "async"

    context: dict[str, Any] = {}
    branches = {"a": Step("a", plain, lane=Here()), "b": Step("b", other, lane=Here())}
    result = await run(Step.parallel(branches, merge_strategy=UPDATE), context)
    assert result.output == {"a": "plain", "b": "async"}
    assert context == {"x": 1, "y": 1}


# Cost ----------------------------------------------------------------------------------------


async def test_fifty_branches_of_a_large_context_copy_and_keep_none_of_it() -> None:
    big = bytes(100_000_000)
    rows = [[i] for i in range(100)]

    async def branch(data: Any, *, context: Any) -> None:
        assert context["deep"]["big"][0] is big
        context["rows"][data] = None
        await anyio.sleep(1)

    class Holder:
        def __init__(self) -> None:
            self.big = big

    context = {"deep": {"big": [big, bytearray(10)]}, "plain": Holder(), "rows": rows, "n": 0}
    deep = context["deep"]
    step = Step.parallel({f"b{i}": branch for i in range(50)}, merge_strategy=UPDATE)
    tracemalloc.start()
    try:
        result = await Pipeline([step]).run(3, context=context)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.success, result.feedback
    assert context["deep"] is deep
    assert context["rows"][3] is None
    assert context["rows"][4] is rows[4]
    assert peak < 10_000_000


async def test_a_step_that_merges_keeps_changes_and_not_contexts() -> None:
    alive: collections.Counter[str] = collections.Counter()

    class Part(list):  # type: ignore[type-arg]  # of anything
        def __deepcopy__(self, memo: Any) -> Any:
            alive["made"] += 1
            return Part(self)

        def __del__(self) -> None:
            alive["gone"] += 1

    async def branch(data: Any, *, context: Any) -> None:
        context["n"] = 1

    seen = []

    async def look(data: Any, *, context: Any) -> None:
        await anyio.sleep(1)
        seen.append(alive["made"] - alive["gone"])

    context = {"part": Part([1]), "n": 0}
    branches = {f"b{i}": branch for i in range(20)} | {"look": look}
    assert (await run(Step.parallel(branches, merge_strategy=UPDATE), context)).success
    assert alive["made"] == 21
    assert seen == [1]


@pytest.mark.parametrize("strategy", [OVERWRITE, lambda context, branches: branches["b"]])
async def test_a_result_that_lives_long_keeps_no_changes(strategy: Any) -> None:
    class Value:
        pass

    values = []

    async def branch(data: Any, *, context: Any) -> None:
        value = context["x"] = Value()
        values.append(weakref.ref(value))

    context = {"x": None}
    result = await run(Step.parallel({"a": branch, "b": branch}, merge_strategy=strategy), context)
    assert result.success
    gc.collect()
    assert [value() is not None for value in values] == [False, True]
    assert result.branches["a"].success


async def test_without_merging_nothing_is_kept() -> None:
    kept = []

    class Part:
        pass

    async def branch(data: Any, *, context: Any) -> None:
        context["x"] = Part()

    async def look(data: Any, *, context: Any) -> None:
        await anyio.sleep(1)
        kept.append(sum(isinstance(each, Part) for each in gc.get_objects()))

    step = Step.parallel({"a": branch, "b": branch, "look": look}, context_include_keys=["x"])
    assert (await run(step, {"x": 0})).success
    assert kept == [0]


async def test_the_loop_goes_round_while_much_is_merged() -> None:
    rounds = 0

    async def checkpoint() -> None:
        nonlocal rounds
        rounds += 1

    def work() -> Any:
        for _ in range(100):
            yield SLICE // 2
        return {"x": 1}

    assert await in_slices(work(), checkpoint) == {"x": 1}
    assert rounds == 50


# Cancellation --------------------------------------------------------------------------------


async def test_a_merge_that_is_cancelled_from_outside_changes_nothing() -> None:
    async def merge(context: Any, branches: Any) -> None:
        context["x"] = 1
        scope.cancel()
        await anyio.sleep(1)

    context = {"x": 0}
    events: list[Any] = []
    with anyio.CancelScope() as scope:
        step = Step.parallel({"a": sets(y=1)}, merge_strategy=merge)
        await Pipeline([step]).run(1, context=context, observer=events.append)
    assert scope.cancelled_caught
    assert context == {"x": 0}


async def test_the_steps_deadline_goes_on_to_apply_to_the_merge() -> None:
    async def merge(context: Any, branches: Any) -> None:
        await anyio.sleep_forever()

    context = {"x": 0}
    step = Step.parallel({"a": sets(1, x=1)}, merge_strategy=merge, timeout=3)
    result = await run(step, context)
    assert result.status is Status.TIMED_OUT
    assert result.reason == "deadline: 3 s (timeout=)"
    assert result.branches["a"].success
    assert result.latency_s == pytest.approx(3, abs=0.01)
    assert context == {"x": 0}


# Seed 004 ------------------------------------------------------------------------------------


async def test_seed_004_completion_order_decides_who_overwrites() -> None:
    branches = {f"branch_{i}": sets(5 - i, answer=i) for i in range(5)}
    context = {"answer": None}
    step = Step.parallel(
        branches=branches, merge_strategy=MergeStrategy.OVERWRITE, merge_order="completed",
        max_concurrency=5, track_completion=True,
    )  # fmt: skip
    result = await run(step, context)
    assert result.completion_order[-1] == "branch_0"
    assert context == {"answer": 0}


def test_seed_004_no_merge_is_the_default() -> None:
    @dataclasses.dataclass
    class Context:
        n: int = 0

    context = Context()
    Pipeline([Step.parallel(branches={"a": sets(n=1)})]).run_sync(1, context=context)
    assert context.n == 0


class Settings(pydantic.BaseModel, validate_assignment=True):
    n: int = 0


async def test_a_pydantic_context_that_checks_assignments_merges() -> None:
    context = Settings()
    assert (await run(Step.parallel({"a": sets(n=1)}, merge_strategy=UPDATE), context)).success
    assert context.n == 1
