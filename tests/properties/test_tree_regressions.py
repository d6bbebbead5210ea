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

_SLOW = Leaf("s4", "stubborn", after=1.0, bare=True)
_FED = Line(
    "l11",
    (
        Parallel(
            "p9",
            (
                ("k3", _SLOW),
                ("k5", _SLOW),
                ("k6", Map("m7", Leaf("s8", "sleep", 0.002), 2, "async", 0.5, Limit("pool"))),
            ),
            Limit("pool", 1),
        ),
        Leaf("s10", "quick", bare=True),
        _SLOW,
    ),
)
_STUBBORN = Leaf("s1", "stubborn", 0.5, after=0.002, returns=True)

_QUICK = Leaf("s3", "sleep")
_BOTH = Parallel(
    "p8",
    (
        ("k1", Line("l5", (Parallel("p4", (("k2", _QUICK),), Limit("pool")), _QUICK))),
        ("k6", Map("m7", _QUICK, 1, "callable")),
    ),
)

TREES = {
    "a knot that is drawn tight when a sibling ends is undone": Tree(
        0, Line("l50", (Parallel("p48", (("k2", _ITEMS), ("k6", _BESIDE)), Limit("pool", 1)),))
    ),
    "a feed waits for what its hands need, and not for less": Tree(
        0,
        Line(
            "l15",
            (
                Map("m1", Map("m2", _FED, 1, "async", ignore=True), 5, limit=Limit("pool")),
                Map(
                    "m12",
                    Map("m13", Leaf("s14", "quick"), 4, limit=Limit("pool")),
                    5,
                    limit=Limit("config", 5),
                ),
            ),
        ),
        (1, 2),
    ),
    "the step that was stopped has the name of the pipeline that it is in": Tree(
        0,
        Line(
            "l6",
            (
                Line("l3", (Parallel("p2", (("k0", Leaf("s1", "sleep", 0.5)),)),)),
                Parallel("p5", (("k4", Leaf("s1", "sleep", 0.5)),)),
            ),
        ),
        handed=0,
        timeout=0.5,
    ),
    "no step begins after one that kept a cancellation to itself": Tree(
        0, Line("l5", (Line("l2", (_STUBBORN,)), _STUBBORN)), timeout=0.5
    ),
    "a map loses no item while the token of its branch is on its way back": Tree(
        0, Line("l14", (Parallel("p9", (("k0", _BOTH),), Limit("pool")),))
    ),
    "a knot that is drawn tight when a dispatcher is sent away is undone": Tree(
        0,
        Line(
            "l33",
            (
                Parallel(
                    "p32",
                    (
                        (
                            "k0",
                            Map(
                                "m1",
                                Line(
                                    "l18",
                                    (
                                        Parallel(
                                            "p15",
                                            (
                                                (
                                                    "k2",
                                                    Parallel(
                                                        "p11",
                                                        (
                                                            (
                                                                "k3",
                                                                Leaf("s4", "sleep", context=True),
                                                            ),
                                                            ("k5", Leaf("s6", "sleep", 1.0)),
                                                            (
                                                                "k7",
                                                                Leaf(
                                                                    "s8",
                                                                    "quick",
                                                                    context=True,
                                                                    bare=True,
                                                                ),
                                                            ),
                                                            ("k9", Leaf("s10", "sleep")),
                                                        ),
                                                        Limit("pool"),
                                                    ),
                                                ),
                                                (
                                                    "k12",
                                                    Leaf("s8", "quick", context=True, bare=True),
                                                ),
                                                (
                                                    "k13",
                                                    Leaf("s14", "sleep", 0.001953125, context=True),
                                                ),
                                            ),
                                            Limit("pool", 1),
                                            ignore=True,
                                        ),
                                        Leaf("s16", "quick", context=True),
                                        Leaf("s17", "sleep", 0.5, bare=True),
                                    ),
                                ),
                                4,
                                limit=Limit("int", 4),
                                ignore=True,
                            ),
                        ),
                        (
                            "k19",
                            Line(
                                "l31",
                                (
                                    Parallel(
                                        "p30",
                                        (
                                            (
                                                "k20",
                                                Parallel(
                                                    "p25",
                                                    (
                                                        (
                                                            "k21",
                                                            Line(
                                                                "l24",
                                                                (
                                                                    Map(
                                                                        "m22",
                                                                        Leaf(
                                                                            "s23",
                                                                            "sleep",
                                                                            context=True,
                                                                        ),
                                                                        0,
                                                                        limit=Limit("pool", 1),
                                                                        ignore=True,
                                                                    ),
                                                                    Parallel(
                                                                        "p11",
                                                                        (
                                                                            (
                                                                                "k3",
                                                                                Leaf(
                                                                                    "s4",
                                                                                    "sleep",
                                                                                    context=True,
                                                                                ),
                                                                            ),
                                                                            (
                                                                                "k5",
                                                                                Leaf(
                                                                                    "s6",
                                                                                    "sleep",
                                                                                    1.0,
                                                                                ),
                                                                            ),
                                                                            (
                                                                                "k7",
                                                                                Leaf(
                                                                                    "s8",
                                                                                    "quick",
                                                                                    context=True,
                                                                                    bare=True,
                                                                                ),
                                                                            ),
                                                                            (
                                                                                "k9",
                                                                                Leaf(
                                                                                    "s10", "sleep"
                                                                                ),
                                                                            ),
                                                                        ),
                                                                        Limit("pool"),
                                                                    ),
                                                                ),
                                                            ),
                                                        ),
                                                    ),
                                                    Limit("int", 3),
                                                ),
                                            ),
                                            ("k26", Leaf("s4", "sleep", context=True)),
                                            (
                                                "k27",
                                                Parallel(
                                                    "p29",
                                                    (("k28", Leaf("s4", "sleep", context=True)),),
                                                    spelling="keyword",
                                                ),
                                            ),
                                        ),
                                        Limit("int", 1),
                                    ),
                                ),
                                1,
                            ),
                        ),
                    ),
                    Limit("pool"),
                    ignore=True,
                ),
            ),
        ),
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
