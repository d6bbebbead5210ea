"""Whatever branches change, under whatever schedule: the context becomes what the model says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from anabranch import BranchFailureStrategy, MergeConfig, MergeError, MergeStrategy, Pipeline, Step
from anabranch.pipeline._fields import ABSENT, held, put
from anabranch.testing._schedules import run_asyncio, run_trio
from tests.properties import _merge_trees as t

both = pytest.mark.parametrize("run", [run_trio, run_asyncio])
TURN = 1 / 64  # seconds


@attrs.frozen
class Box:
    """Be a frozen context, in which a field may be missing."""

    n0: Any
    n1: Any
    l0: Any
    l1: Any
    d0: Any
    new: Any = attrs.field(init=False)


def view(context: Any) -> dict[str, Any]:
    fields = {name: held(context, name) for name in t.FIELDS}
    return {name: value for name, value in fields.items() if value is not ABSENT}


def change(leaf: t.Leaf, context: Any) -> None:
    seen = view(context)
    t.apply(seen, leaf.ops)
    for name in t.FIELDS:
        value = seen.get(name, ABSENT)
        if isinstance(context, Box):
            put(context, name, value)
        elif value is not ABSENT:
            context[name] = value
        else:
            context.pop(name, None)
    if leaf.fails:
        raise ValueError("as it was drawn")


def built(node: t.Leaf | t.Fan) -> Any:
    if isinstance(node, t.Fan):
        return piped(node)

    def plain(data: Any, *, context: Any) -> None:
        change(node, context)

    async def later(data: Any, *, context: Any) -> None:
        await anyio.sleep(node.turn * TURN)
        change(node, context)

    return Step("plain", plain, lane="inline") if node.plain else later


def piped(fan: t.Fan) -> Any:
    """Make a step, perhaps in a pipeline whose last step sees the context that it left behind."""

    async def count(data: Any, *, context: Any) -> None:
        before.append(view(context))

    async def see(data: Any, *, context: Any) -> None:
        expected = fan.after(before.pop())
        assert view(context) == expected

    before: list[Any] = []
    return Pipeline([count, step_of(fan), see]) if fan.piped else step_of(fan)


def step_of(fan: t.Fan) -> Any:
    merges = fan.strategy is not MergeStrategy.NO_MERGE
    keys = fan.keys()
    return Step.parallel(
        {key: built(branch) for key, branch in zip(keys, fan.branches, strict=True)},
        merge_strategy=fan.strategy,
        merge_config=fan.config,
        merge_order=fan.order if merges else "declared",
        field_mapping={keys[i]: names for i, names in fan.fields} or None,
        max_concurrency=fan.limit,
        on_branch_failure=BranchFailureStrategy.IGNORE,
    )


@pytest.mark.drawn
@pytest.mark.slow
@both
@given(fan=t.fans(), frozen=st.booleans(), seed=st.integers(0, 2**16))
def test_the_context_becomes_what_the_model_says(
    run: Callable[..., Any], fan: t.Fan, frozen: bool, seed: int
) -> None:
    if frozen and any(fan_.fields for fan_ in every_fan(fan)):
        fan = without_fields(fan)  # an object has the field that a dict may lack
    pipeline = Pipeline([piped(fan)])
    context = Box(**t.first_context()) if frozen else t.first_context()
    expected = fan.after(t.first_context())
    event("merges" if expected is not None else "fails")
    result = run(lambda: pipeline.run(1, context=context), seed=seed)
    step = result.failed_step or result.step_history[-1]
    assert result.success == (expected is not None), step.feedback
    assert view(result.context) == (t.first_context() if expected is None else expected)
    if frozen:
        assert view(context) == t.first_context()
    elif not result.success:
        assert isinstance(step.error, MergeError | ExceptionGroup)


def every_fan(fan: t.Fan) -> list[t.Fan]:
    inner = [each for each in fan.branches if isinstance(each, t.Fan)]
    return [fan, *[deep for each in inner for deep in every_fan(each)]]


def without_fields(fan: t.Fan) -> t.Fan:
    branches = [without_fields(b) if isinstance(b, t.Fan) else b for b in fan.branches]
    return attrs.evolve(fan, fields=(), branches=tuple(branches))


@pytest.mark.drawn
@pytest.mark.slow
@both
@given(
    delays=st.lists(st.integers(0, 3), min_size=2, max_size=8),
    limit=st.sampled_from((None, 1, 3)),
    seeds=st.tuples(st.integers(0, 2**16), st.integers(0, 2**16)),
)
def test_the_schedule_decides_nothing_in_declared_order(
    run: Callable[..., Any], delays: list[int], limit: int | None, seeds: tuple[int, int]
) -> None:
    def branch(number: int) -> Any:
        async def append(data: Any, *, context: Any) -> None:
            await anyio.sleep(delays[number] * TURN)
            context["last"] = number
            context["share"] += 0.1 * number
            context["log"].append(number)
            context[f"own{number}"] = number

        return append

    config = MergeConfig(counter_fields=["share"], deduplicate_lists=True)
    step = Step.parallel(
        {f"b{i}": branch(i) for i in range(len(delays))},
        merge_strategy=MergeStrategy.OVERWRITE,
        merge_config=config,
        max_concurrency=limit,
    )

    def contexts(seed: int) -> Any:
        first = {"last": None, "share": 0.1, "log": []}
        return list(run(lambda: Pipeline([step]).run(1, context=first), seed=seed).context.items())

    one, other = map(contexts, seeds)
    assert one == other
    assert dict(one)["log"] == list(range(len(delays)))
    assert dict(one)["last"] == len(delays) - 1
