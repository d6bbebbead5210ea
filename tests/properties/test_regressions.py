"""Programs that once failed, each under enough schedules to fail again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from anabranch.testing._schedules import run_asyncio, run_trio
from tests.properties._checks import no_longer_than, run_program
from tests.properties._programs import (
    Checkpoints,
    Children,
    End,
    Fail,
    Feed,
    Group,
    Mark,
    Move,
    Nest,
    Pause,
    Program,
    Sleep,
    Spec,
    Stubborn,
    Untidy,
)

SCHEDULES = 10

PROGRAMS = {
    "a block's error comes out when the block is cancelled too": Program(
        0, Group((1,), (Spec(),), (Feed((Spec(),)),), block=(Untidy(0.0),)), end=End(0.0, "scope")
    ),
    "an error beside a cancellation, both of child tasks, is kept": Program(
        0,
        Group(
            (1,),
            (
                Spec(
                    (
                        Children(
                            (
                                Group((1,), (Spec(), Spec()), block=(Fail(),)),
                                Group((1,), (Spec(),)),
                            )
                        ),
                    )
                ),
            ),
            how="run_all",
        ),
        end=End(0.0, "scope"),
    ),
    "a feed is pulled in the context in which it was given": Program(
        0,
        Group(
            (1,),
            (Spec(), Spec(), Spec()),
            (Feed((Spec(), Spec(), Spec())),),
            block=(Sleep(0.0), Mark()),
        ),
    ),
    "each of two async feeds hears that outcomes were read": Program(
        0,
        Group(
            (1,),
            (Spec(),),
            (Feed((Spec(copies=7),), 0.0), Feed((Spec(copies=7),), 0.0)),
            how="dawdles",
        ),
    ),
    "outcomes end after a block that was cancelled while it was fed": Program(
        0, Group((1,), (Spec(),), (Feed((Spec(),)),)), end=End(0.0, "scope")
    ),
    "a feed that yields at the step's deadline raises nothing": Program(
        0,
        Group((1,), (Spec((Sleep(2.0),)),), (Feed((Spec(copies=2),), 0.5),), 0.5, "reads"),
    ),
    "a lone hand that must make way comes back": Program(
        0,
        Group(
            (1,),
            (Spec((Checkpoints(2),)),),
            block=(Pause(0.5, 3), Nest(Group((-1, 3), (Spec((Sleep(0.5),)),), how="run_bare"))),
        ),
        (3,),
        (Move(1 / 512, 0, 2), Move(1 / 512, 0, 0)),
    ),
    "a sentry that is told to end while it is cancelled waits for no grace": Program(
        0,
        Group(
            (1, -1),
            (
                Spec(
                    (
                        Children(
                            (
                                Group(
                                    (1, -1),
                                    (
                                        Spec((Checkpoints(1),)),
                                        Spec((Stubborn(0.0, 0.0),)),
                                        Spec(),
                                        Spec(),
                                    ),
                                    how="run_all",
                                ),
                                Group((-1,), (Spec(), Spec(), Spec()), (Feed((Spec(),), 0.0),)),
                            )
                        ),
                    )
                ),
                Spec(),
            ),
            how="run_all",
        ),
        (2,),
        end=End(0.0, "scope"),
    ),
    "who waits behind somebody that is done is about to look again": Program(
        0,
        Group(
            (-1, 2),
            (
                Spec(
                    (
                        Children(
                            (
                                Group(
                                    (-2,),
                                    (Spec((Untidy(2.0),), "b"), Spec((Stubborn(0.0, 0.0),), "b")),
                                    block=(Pause(0.5, 2),),
                                ),
                                Group(
                                    (-1,),
                                    (Spec((Mark(),), "b"), Spec((Fail(), Fail()))),
                                    how="run_all",
                                ),
                                Group((-2,), (Spec((Checkpoints(3),)),)),
                            )
                        ),
                    )
                ),
                Spec(),
                Spec(),
                Spec((Sleep(0.0),)),
            ),
            block=(Sleep(0.0),),
        ),
        (1, 2),
        end=End(0.25, "scope"),
    ),
}


@pytest.mark.parametrize("run", [run_trio, run_asyncio])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_failed_once(run: Callable[..., Any], name: str) -> None:
    for seed in range(SCHEDULES):
        program = attrs.evolve(PROGRAMS[name], seed=seed)
        with no_longer_than(30):
            world = run(run_program, program, seed=seed)
        assert not world.faults, "\n".join([*world.faults, repr(program)])
