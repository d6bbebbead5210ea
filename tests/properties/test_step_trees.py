"""Whatever tree of steps is drawn: results as if one after another, limits kept, nothing left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, given, settings

from anabranch.testing._schedules import run_asyncio, run_trio
from tests.properties import _step_trees as t
from tests.properties._checks import no_longer_than
from tests.properties._tree_runs import run_tree

both = pytest.mark.parametrize("run", [run_trio, run_asyncio])
REAL_SECONDS = 30  # a tree takes some milliseconds; one that spins is an error, with its seed


@pytest.mark.drawn
@pytest.mark.slow
@both
@settings(settings.get_profile("programs"))
@given(tree=t.trees())
def test_every_tree_keeps_the_promises(run: Callable[..., Any], tree: t.Tree) -> None:
    event(f"depth {t.depth_of(tree.root)}, {'calm' if tree.calm() else 'disturbed'}")
    with no_longer_than(REAL_SECONDS):
        world = run(run_tree, tree, seed=tree.seed)
    assert not world.faults, "\n".join([*world.faults, repr(tree)])
