"""Whatever is drawn, under whatever schedule: each job has one outcome, each token comes home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import event, given, settings

from anabranch.testing._schedules import run_asyncio, run_trio
from tests.properties import _programs as p
from tests.properties._checks import no_longer_than, run_program
from tests.properties._draws import programs

both = pytest.mark.parametrize("run", [run_trio, run_asyncio])
REAL_SECONDS = 30  # a program takes some milliseconds; one that spins is an error, with its seed


@pytest.mark.drawn
@pytest.mark.slow
@both
@settings(settings.get_profile("programs"))
@given(program=programs())
def test_every_program_keeps_the_promises(run: Callable[..., Any], program: p.Program) -> None:
    event(f"depth {p.deepest(program.root)}")
    with no_longer_than(REAL_SECONDS):
        world = run(run_program, program, seed=program.seed)
    assert not world.faults, "\n".join([*world.faults, repr(program)])
