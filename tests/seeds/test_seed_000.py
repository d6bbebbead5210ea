"""Seed 000: many scripts at once, block by block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anabranch import ConcurrentExecutor, ResourceManager
from tests.seeds.harness import Names, execute
from tests.seeds.stand_ins_000 import imports, known, modules, write

SEED = "000"
Block = Callable[[int], str]
pytestmark = [pytest.mark.real_clock, pytest.mark.slow]


@pytest.fixture(autouse=True)
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    imports(monkeypatch)
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def without_a_loop(block: str, names: dict[str, Any]) -> Names:
    """Execute a block that opens its own loop."""
    running = execute(block, names)
    try:
        running.send(None)
    except StopIteration as stop:
        done: Names = stop.value
        return done
    raise AssertionError("the block awaits something at its top level")


class Busy:
    """Be a machine of which everybody else takes 95 %."""

    def sample(self) -> dict[str, float]:
        return {"cpu": 0.95, "cores": 4, "memory_total": 2**36, "memory_used": 2**33}


# 1, 2, 13: the quick start ------------------------------------------------------------------


async def test_seed_quick_start(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    names = await execute(block(1), known())
    assert names["result"]["success"]
    await execute(block(2), known(executor=names["executor"]))
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Module my_module completed successfully",
        "✓ module1",
        "✓ module2",
        "✓ module3",
    ]
    missing = (await execute(block(13), known(executor=names["executor"])))["result"]
    assert not missing["success"]
    assert missing["error"] == "Script file not found: nonexistent.py"


async def test_a_batch_has_a_result_for_each_module_and_a_missing_script_is_named() -> None:
    executor = ConcurrentExecutor()
    results = await executor.execute_batch([*modules(), ("missing", Path("nonexistent.py"))])
    assert [each["success"] for each in results] == [True, True, True, False]
    assert "not found" in results[3]["error"]
    executor.cleanup()


# 4 to 7: whole programs ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_seed_programs(block: Block, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    free = ResourceManager(100, 0)  # the block's own would ask the machine of the test
    manager = {"ResourceManager": lambda **_: free} if number == 5 else {}
    code = block(number).replace("from src.core.resource_manager import ResourceManager\n", "")
    names = without_a_loop(code if number == 5 else block(number), known(**manager))
    said = capsys.readouterr().out
    if number == 4:
        assert said.count("Success: True") == 3
    if number == 5:
        assert said == "Completed: 20 succeeded, 0 failed\n"
    if number == 6:
        assert "✗ module_b failed: exit code 1: broken" in said
        assert said.endswith("Proceeding with 2 successful results\n")
    if number == 7:
        assert [each["module_id"] for each in names["results"]] == [
            f"module_{i}" for i in range(50)
        ]
        assert sum(each["success"] for each in names["results"]) == 50


async def test_a_module_that_fails_costs_no_other() -> None:
    given = [(name, Path(f"scripts/module_{name}.py"), None) for name in "abc"]
    results = await ConcurrentExecutor(5).execute_batch(given)
    assert [each["error"] for each in results] == [None, "exit code 1: broken", None]


# 8 to 10, 18, 19, 24, 26: what can be set ---------------------------------------------------


@pytest.mark.parametrize("number", [9, 10, 18, 19, 24, 26])
async def test_seed_settings(block: Block, number: int) -> None:
    more = {"workload_is_cpu_intensive": False, "workload_is_io_intensive": True}
    names = await execute(block(number), known(**more))
    if number == 26:
        executor = ConcurrentExecutor(resource_manager=names["resource_manager"])
        assert names["resource_manager"].cpu_threshold_percent == 70
    else:
        executor = names["executor"]
    if number == 9:
        assert [each.max_concurrent for each in names.values_of["executor"]] == [8, 20, 5]
    executor.resource_manager = None  # the machine of the test may be busy
    assert (await executor.execute_module("m", Path("scripts/module1.py")))["success"]


def test_the_settings_have_the_defaults_of_the_origin() -> None:
    executor = ConcurrentExecutor()
    assert (executor.max_concurrent, executor.resource_manager) == (10, None)
    manager = ResourceManager()
    assert (manager.cpu_threshold_percent, manager.memory_required_gb) == (80, 4)


# 11, 14: resources --------------------------------------------------------------------------


async def test_seed_monitoring(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    names = await execute(block(11), known(modules=modules()))
    await names["run_with_monitoring"]()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("CPU: ")
    assert said[1].startswith("Memory Available: ")
    assert said[1].endswith(" GB")


async def test_a_script_that_there_is_no_room_for_says_so_in_the_words_of_the_origin() -> None:
    executor = ConcurrentExecutor(resource_manager=ResourceManager(sampler=Busy()))
    (result,) = await executor.execute_batch(modules(1))
    assert not result["success"]
    assert result["kind"] == "resources"
    words = "Insufficient system resources: CPU usage too high: 95.0% (threshold: 80.0%)"
    assert result["error"] == words


# 12, 15: the result -------------------------------------------------------------------------


async def test_a_result_has_the_fields_of_the_origin() -> None:
    Path("three.py").write_text("import sys; sys.exit(3)")
    good, bad = await ConcurrentExecutor().execute_batch(
        [("good", Path("scripts/module1.py")), ("bad", Path("three.py"))]
    )
    fields = ("module_id", "exit_code", "success", "error")
    assert [good[field] for field in fields] == ["good", 0, True, None]
    assert [bad[field] for field in fields] == ["bad", 3, False, "exit code 3"]


# 16, 17, 20 to 23, 25, 27: what users build on it -------------------------------------------

FUNCTIONS = {
    16: ("robust_batch_execution", (modules(),)),
    20: ("execute_with_logging", (modules(),)),
    21: ("process_with_fallback", (modules(),)),
    22: ("benchmark_concurrency", ()),
    23: ("memory_conscious_execution", (modules(7),)),
    25: ("batch_process", (modules(12),)),
    27: ("batch_with_delays", (modules(12),)),
}


@pytest.mark.parametrize("number", FUNCTIONS)
async def test_seed_functions(block: Block, number: int) -> None:
    name, args = FUNCTIONS[number]
    seen: list[Any] = []
    names = await execute(block(number), known(process_results=seen.extend))
    result = await names[name](*args)
    if number == 16:
        assert [len(each) for each in result] == [3, 0, 0]
    if number in (20, 21):
        assert [each["module_id"] for each in result] == ["m0", "m1", "m2"]
    if number == 23:
        assert ([each for each in seen if not each["success"]], len(seen)) == ([], 7)


async def test_seed_always_cleanup(block: Block) -> None:
    names = await execute(block(17), known(modules=modules()))
    assert all(each["success"] for each in names["results"])


async def test_batches_one_after_another_are_all_run_by_one_executor() -> None:
    async with ConcurrentExecutor(max_concurrent=5) as executor:
        for _ in range(2):
            results = await executor.execute_batch(modules(4))
            assert all(each["success"] for each in results)


# 28: a script that hangs --------------------------------------------------------------------


@pytest.mark.asyncio_only
async def test_seed_timeout(block: Block, origin: Path) -> None:
    (origin / "hangs.py").write_text("import time; time.sleep(60)")
    names = await execute(block(28), known())
    within = names["execute_with_timeout"]
    executor = ConcurrentExecutor()
    late = await within(executor, "late", Path("hangs.py"), timeout=0.3)
    assert late["error"] == "Module execution timed out after 0.3s"
    assert (await within(executor, "good", Path("scripts/module1.py")))["success"]


async def test_a_timeout_is_told_in_the_words_of_the_origin(origin: Path) -> None:
    (origin / "hangs.py").write_text("import time; time.sleep(60)")
    late = await ConcurrentExecutor().execute_module("late", Path("hangs.py"), timeout=0.3)
    expected = SimpleNamespace(exit_code=-1, error="Module execution timed out after 0.3s")
    assert (late["exit_code"], late["error"]) == (expected.exit_code, expected.error)
