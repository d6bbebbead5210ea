"""Seed 002: the pattern that seed 000 came from."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import anyio
import pytest

from anabranch import ConcurrentExecutor, ResourceManager
from tests.executor.machine import Machine, scripts

SEED = "002"


def test_an_executor_is_made_of_a_limit_and_a_resource_manager() -> None:
    parameters = list(inspect.signature(ConcurrentExecutor).parameters.values())
    assert [(each.name, each.default) for each in parameters[:2]] == [
        ("max_concurrent", 10),
        ("resource_manager", None),
    ]
    assert list(inspect.signature(ConcurrentExecutor().execute_module).parameters)[:3] == [
        "module_id",
        "script_path",
        "args",
    ]


@pytest.mark.real_clock
@pytest.mark.slow
async def test_each_module_is_checked_and_an_error_of_one_is_its_result(tmp_path: Path) -> None:
    script = scripts(tmp_path)
    manager = ResourceManager(sampler=Machine(tmp_path, cpu=0.1, cores=64))
    assert await manager.check_resources()
    modules = [(str(i), script("fails.py" if i % 2 else "ok.py"), None) for i in range(4)]
    results = await ConcurrentExecutor(2, manager).execute_batch(modules)
    assert [each["error"] for each in results] == [None, "exit code 1: the reason"] * 2


@pytest.mark.real_clock
@pytest.mark.slow
async def test_fifty_modules_at_once_never_pass_the_limit(tmp_path: Path) -> None:
    script, peak = scripts(tmp_path), 0
    modules = [(str(i), script("runs.py"), [str(tmp_path), "0.05"]) for i in range(50)]
    executor = ConcurrentExecutor(max_concurrent=7)
    over = anyio.Event()

    async def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, len(list(tmp_path.glob("*.running"))))
            await anyio.sleep(0.003)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        began = time.monotonic()
        results = await executor.execute_batch(modules)
        assert time.monotonic() - began > 0.35
        over.set()
    assert all(each["success"] for each in results)
    assert 2 <= peak <= 7
