"""Whatever is done to an engine, and in whatever order: it does what a dict and a sum would do."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties._checks import no_longer_than
from tests.properties._machine import Machine
from tests.properties._machine_pipeline import PipelineMachine
from tests.properties._machine_scheduler import SchedulerMachine

REAL_SECONDS = 600
STEPS = 25


def sized(share: float) -> settings:
    """Take a share of the programs: one drive takes as long as ten of them."""
    programs = settings.get_profile("programs")
    return settings(
        programs,
        max_examples=int(programs.max_examples * share),
        stateful_step_count=STEPS,
        report_multiple_bugs=False,
        phases=set(programs.phases) - {Phase.explain},  # which takes minutes here
    )


class SchedulerOnTrio(SchedulerMachine):
    loop = "trio"


class SchedulerOnAsyncio(SchedulerMachine):
    loop = "asyncio"


class PipelineOnTrio(PipelineMachine):
    loop = "trio"


class PipelineOnAsyncio(PipelineMachine):
    loop = "asyncio"


@pytest.mark.drawn
@pytest.mark.slow
@pytest.mark.parametrize("machine", [SchedulerOnTrio, SchedulerOnAsyncio])
def test_a_scheduler_does_what_its_model_does(machine: type[Machine]) -> None:
    with no_longer_than(REAL_SECONDS):
        run_state_machine_as_test(machine, settings=sized(0.1))


@pytest.mark.drawn
@pytest.mark.slow
@pytest.mark.parametrize("machine", [PipelineOnTrio, PipelineOnAsyncio])
def test_a_live_run_does_what_its_model_does(machine: type[Machine]) -> None:
    with no_longer_than(REAL_SECONDS):
        run_state_machine_as_test(machine, settings=sized(0.1))
