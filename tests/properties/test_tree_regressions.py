"""Trees that once failed, each under enough schedules to fail again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from anabranch.testing._schedules import run_asyncio, run_trio
from tests.properties._checks import no_longer_than
from tests.properties._step_trees import Leaf, Limit, Line, Map, Parallel, Tree
from tests.properties._tree_runs import run_tree

SCHEDULES = 10

_ITEMS = Map(
    "m3", Map("m4", Leaf("s5", "quick"), 5, limit=Limit("pool", 1)), 4, limit=Limit("pool")
)
_BESIDE = Parallel(
    "p24",
    (
        ("k20", Leaf("s11", "sleep", 1.0, bare=True)),
        ("k21", Map("m22", Leaf("s23", "quick"), 4, limit=Limit("pool"), ignore=True)),
    ),
)

TREES = {
    "a knot that is drawn tight when a sibling ends is undone": Tree(
        0, Line("l50", (Parallel("p48", (("k2", _ITEMS), ("k6", _BESIDE)), Limit("pool", 1)),))
    ),
    "a live run tells of the branch that a nested map was": Tree(
        0,
        Line("l4", (Parallel("p3", (("k0", Map("m1", Leaf("s2", "sleep"), 3)),)),)),
        live=True,
    ),
}


@pytest.mark.parametrize("run", [run_trio, run_asyncio])
@pytest.mark.parametrize("name", TREES)
def test_a_tree_that_failed_once(run: Callable[..., Any], name: str) -> None:
    for seed in range(SCHEDULES):
        tree = attrs.evolve(TREES[name], seed=seed)
        with no_longer_than(30):
            world = run(run_tree, tree, seed=seed)
        assert not world.faults, "\n".join([*world.faults, repr(tree)])
