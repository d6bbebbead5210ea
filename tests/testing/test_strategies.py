"""What the public strategies draw is small, runs, and can be read."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import find, given

from anabranch import ConfigurationError
from anabranch.testing import (
    StepTree,
    follow,
    limits,
    resizes,
    run_virtual,
    sleep,
    step_trees,
)
from anabranch.testing._strategies import Leaf, Parallel

each_loop = pytest.mark.parametrize("loop", ["trio", "asyncio"])


@pytest.mark.slow
@each_loop
@given(tree=step_trees(fails=False))
def test_each_leaf_of_a_drawn_tree_is_called_once_where_nothing_fails(
    loop: str, tree: StepTree
) -> None:
    pipeline, played = tree.build()
    result = run_virtual(pipeline.run, 1, loop=loop)
    assert result.success, result
    assert sorted(call.key for call in played.calls) == sorted(leaf.name for leaf in tree.leaves())
    assert not played.running


@pytest.mark.slow
@each_loop
@given(tree=step_trees(depth=2, most=5))
def test_nothing_runs_when_a_drawn_tree_has_ended(loop: str, tree: StepTree) -> None:
    assert 1 <= tree.depth() <= 2
    assert len(tree.leaves()) <= 8
    pipeline, played = tree.build()
    limiter = run_virtual(_run, pipeline, loop=loop)
    assert limiter.borrowed_tokens == 0
    assert not played.running


async def _run(pipeline: Any) -> Any:
    limiter = anyio.CapacityLimiter(2)
    await pipeline.run(1, limiter=limiter)
    return limiter


@pytest.mark.slow
def test_a_tree_shrinks_to_one_leaf() -> None:
    found = find(step_trees(), lambda tree: True)
    assert found == StepTree(Parallel("p0", (Leaf("b1", ()),), None))


def test_what_leaves_do_may_be_drawn_by_the_user() -> None:
    from hypothesis import strategies as st

    acts = st.just(sleep(7))
    found = find(step_trees(behaviours=acts), lambda tree: any(leaf.acts for leaf in tree.leaves()))
    assert "sleep(7)" in repr(found)


@pytest.mark.slow
@given(moves=resizes(5, pauses=True), limit=limits(5))
def test_resizes_come_in_order_and_never_end_in_a_pause(moves: Any, limit: int) -> None:
    async def main() -> float:
        limiter = anyio.CapacityLimiter(limit)
        await follow(limiter, moves)
        assert anyio.current_time() == (moves[-1].at if moves else 0)
        return limiter.total_tokens

    assert 1 <= run_virtual(main) <= 5
    assert [move.at for move in moves] == sorted(move.at for move in moves)
    assert all(0 <= move.total <= 5 for move in moves)


@pytest.mark.parametrize(
    ("draw", "options"),
    [(limits, {"most": 0}), (resizes, {"count": 0}), (step_trees, {"depth": 1.5})],
)
def test_bounds_that_cannot_be_meant_are_refused(draw: Any, options: Any) -> None:
    with pytest.raises(ConfigurationError, match=draw.__name__):
        draw(**options)
