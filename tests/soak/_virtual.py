"""Draw programs and step trees as the properties do, and run each on both loops, in virtual time.

They hold the engine to a second account of every token, outcome and cancellation; here they only
come in numbers that no test would wait for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from anabranch.testing._schedules import run_asyncio, run_trio
from tests.properties import _step_trees as t
from tests.properties._checks import no_longer_than, run_program
from tests.properties._draws import programs
from tests.properties._tree_runs import run_tree
from tests.soak._round import Round

COUNT = 20  # drawn in a round
REAL_SECONDS = 30
RUNNERS: dict[str, Callable[..., Any]] = {"trio": run_trio, "asyncio": run_asyncio}
FAULTS = {  # what stands in a drawn value, and what it is called here
    "Fail": "errors",
    "'fail'": "errors",
    "Untidy": "errors while leaving",
    "Stubborn": "cancellations ignored",
    "'stubborn'": "cancellations ignored",
    "End": "cancellations from outside",
    "Cancel": "cancellations by glob",
    "Cut": "cancellations by glob",
    "timeout=": "timeouts",
    "Resize": "limits moved",
    "Pause": "limits moved",
    "Move": "limits moved",
}
_FAULT = re.compile(
    r"\b(Fail|Untidy|Stubborn|End|Cancel|Cut|Resize|Pause|Move)\(|('fail'|'stubborn'|timeout=)"
)


def soak_programs(this: Round) -> None:
    """Run programs of the scheduler: nested, fed, resized, cancelled."""
    _run_drawn(this, programs(), run_program, "programs of schedulers")


def soak_trees(this: Round) -> None:
    """Run trees of steps: parallel, mapped, in lines."""
    _run_drawn(this, t.trees(), run_tree, "trees of steps")


def _run_drawn(this: Round, drawn: st.SearchStrategy[Any], run: Any, name: str) -> None:
    @seed(this.draw.getrandbits(64))
    @settings(
        max_examples=COUNT,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def run_each(value: Any) -> None:
        for one, other in _FAULT.findall(repr(value)):
            this.injected[FAULTS[one or other]] += 1
        for loop, runner in RUNNERS.items():
            with no_longer_than(REAL_SECONDS):
                world = runner(run, value, seed=value.seed)
            this.claim(not world.faults, f"on {loop}: {world.faults}\n{value!r}")
            this.did[f"{name} on {loop}"] += 1

    run_each()
