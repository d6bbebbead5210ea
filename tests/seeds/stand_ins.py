"""Stand in for the names that the seeds' blocks leave open.

The data of a run is the Watch that counts how many of its branches run at once.
"""

from __future__ import annotations

from typing import Any

import anyio

import anabranch
from anabranch import ConcurrencyConfig, Pipeline, Step, StepResult
from tests.branches import Watch

PUBLIC = {name: getattr(anabranch, name) for name in anabranch.__all__}


def takes(seconds: float, name: str) -> Step[Watch, str]:
    """Make a step that sleeps, counted by the watch that it is given."""

    async def work(watch: Watch) -> str:
        return await watch.sleeps(name, seconds)

    return Step(name, work)


async def load(watch: Watch) -> Watch:
    """Sleep half a second, counted, and hand the watch on to the next step."""
    await watch.sleeps("load", 0.5)
    return watch


pipeline = Pipeline([takes(1, "work")])
pipeline1 = Pipeline([takes(2, "slow")])
pipeline2 = Pipeline([takes(1, "quick")])
data_processing_pipeline = Pipeline([Step("load", load), takes(0.5, "process")])
branches = {f"branch{i}": pipeline for i in range(25)}


class Executor:
    """Stand in for the origin's executor, to which a config comes in beside the step."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def execute(
        self, parallel_step: Any, concurrency_config: ConcurrencyConfig
    ) -> StepResult[Any]:
        """Run a step under the limit that the config begins with."""
        limiter = anyio.CapacityLimiter(concurrency_config.initial_limit())
        result = await Pipeline([parallel_step]).run(self._watch, limiter=limiter)
        return result.step_history[0]

    _handle_parallel_step_enhanced = execute
