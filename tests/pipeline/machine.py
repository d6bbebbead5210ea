"""A machine whose memory and CPU are what a test says, and branches that take of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from anabranch import (
    ExecutionConfig,
    Pipeline,
    PipelineResult,
    ResourceLimits,
    Step,
)
from anabranch.pipeline import _resources
from anabranch.pipeline._gate import Gate
from anabranch.pipeline._meter import Reading

LIMIT = 1000.0


class Load:
    """Be the machine: branches take memory and give it back, and a script says the rest."""

    def __init__(self) -> None:
        self.memory: float | None = 0.0
        self.others: float | None = 0.0  # what is not the branches'
        self.cpu: float | None = None
        self.running: list[str] = []
        self.began: list[str] = []
        self.ended: list[str] = []
        self.peak = 0
        self.readings = 0
        self.before: Callable[[], None] = lambda: None  # called with each reading
        self.gates: list[Gate] = []

    async def read(self, exact_above: float) -> Reading:
        self.readings += 1
        self.before()
        if self.memory is None or self.others is None:
            return Reading(None, self.cpu)
        return Reading(self.memory + self.others, self.cpu)

    def takes(self, name: str, mb: float = 0.0, seconds: float = 10.0) -> Any:
        """Return a branch that takes some memory while it runs."""

        async def branch(_: Any) -> str:
            self.began.append(name)
            self.running.append(name)
            self.peak = max(self.peak, len(self.running))
            self.memory = (self.memory or 0.0) + mb
            try:
                await anyio.sleep(seconds)
            finally:
                self.memory = (self.memory or 0.0) - mb
                self.running.remove(name)
            self.ended.append(name)
            return name

        return branch


@contextmanager
def loaded() -> Iterator[Load]:
    """Put a machine in the place of the real one."""
    machine = Load()

    def gate(runtime: Any) -> Gate:
        machine.gates.append(Gate(runtime))
        return machine.gates[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_resources, "meter_of", lambda host: machine)
        patch.setattr(_resources, "Gate", gate)
        yield machine


async def run(
    *steps: Any, memory: float | None = LIMIT, cpu: float | None = None, **options: Any
) -> PipelineResult[Any]:
    limits = ResourceLimits(max_memory_mb=memory, max_cpu_percent=cpu)
    config = ExecutionConfig(resource_limits=limits)
    with anyio.fail_after(100_000):
        return await Pipeline(list(steps), execution_config=config).run(1, **options)


def statuses(result: Any) -> dict[str, str]:
    return {key: str(branch.status) for key, branch in result.branches.items()}


def home(load: Load) -> bool:
    """Tell whether every token is back, and nobody waits."""
    return all(not each.borrowed_tokens and not each.tasks_waiting for each in load.gates)


def after(seconds: float, branch: Any) -> Any:
    async def late(data: Any) -> Any:
        await anyio.sleep(seconds)
        return await branch(data)

    return late


def tree(load: Load, path: str, depth: int, width: int, seconds: float = 1, **terms: Any) -> Any:
    if depth == 0:
        return load.takes(path, 100, seconds)
    below = (depth - 1, width, seconds)
    inside = {str(i): tree(load, f"{path}/{i}", *below, **terms) for i in range(width)}
    return Step.parallel(inside, timeout=None, **terms)
