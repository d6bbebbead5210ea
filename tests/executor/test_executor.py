"""ConcurrentExecutor: every module has a result, and none of them raises."""

import asyncio
import sys
import threading
import time

import anyio
import pytest

from anabranch import (
    ConcurrentExecutor,
    ConfigurationError,
    HostLoopError,
    ResourceManager,
    Retry,
    UnknownOptionError,
)
from tests.executor.machine import scripts
from tests.lanes.scripts import Marked

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

KEYS = {"module_id", "exit_code", "success", "error", "duration_s", "kind"}
KEYS |= {"stdout", "stderr", "truncated"}


@pytest.fixture
def script(tmp_path):
    return scripts(tmp_path)


async def test_each_module_has_a_result_in_the_order_of_input(script):
    executor = ConcurrentExecutor()
    modules = [
        ("slowest", script("runs.py"), [str(script("")), "0.3"]),
        ("fine", script("ok.py"), None),
        ("three", script("three.py"), None),
        ("fine", script("ok.py")),
        ("dies", script("dies.py")),
        ("missing", script("nowhere.py")),
        ("late", script("sleeps.py"), None, None, 0.2),
        ("big", script("big.py")),
    ]
    results = await executor.execute_batch(modules)
    assert [each["module_id"] for each in results] == [module[0] for module in modules]
    assert all(set(each) == KEYS for each in results)
    assert all((each["error"] is None) is each["success"] for each in results)
    assert [each["kind"] for each in results] == [
        "exit", "exit", "exit", "exit", "signal", "not_found", "timeout", "exit",
    ]  # fmt: skip
    assert [each["exit_code"] for each in results] == [0, 0, 3, 0, -9, -1, -1, 0]
    _, fine, three, _, dies, missing, late, big = results
    assert fine["stdout"] == "fine\n"
    assert three["error"] == "exit code 3: worse"
    assert dies["error"] == "killed by SIGKILL (signal 9)"
    assert missing["error"] == f"Script file not found: {script('nowhere.py')}"
    assert late["error"] == "Module execution timed out after 0.2s"
    assert big["truncated"]
    assert big["stdout"].endswith("xxx\n")


async def test_no_module_raises_whatever_it_is(script):
    executor = ConcurrentExecutor()
    for path, args in [
        (script(""), None),
        (script("nul\0"), None),
        (None, None),
        (3, None),
        (script("ok.py"), "--verbose"),
        (script("ok.py"), [3]),
        (script("ok.py"), ["a\0b"]),
        (script("ok.py"), ["x" * 200_000]),
        ("-c", None),
    ]:
        result = await executor.execute_module("bad", path, args)
        assert not result["success"]
        assert result["error"]
        assert result["kind"] in ("spawn", "not_found")
    gone = await executor.execute_module("bad", script("ok.py"), None, script("nowhere"))
    assert "cwd=" in gone["error"]


async def test_a_script_whose_name_leads_with_a_dash_is_a_script(script, monkeypatch):
    monkeypatch.chdir(script(""))
    script("-c").write_text("print('a script')")
    result = await ConcurrentExecutor().execute_module("dash", "-c", ["import os"])
    assert result["stdout"] == "a script\n"


async def test_arguments_and_the_folder_reach_the_script(script, tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "here.py").write_text("print('here')")
    executor = ConcurrentExecutor()
    result = await executor.execute_module("args", script("args.py"), ["a b", "$X"], folder)
    assert result["stdout"].strip() == f"['a b', '$X'] {folder}"
    result = await executor.execute_module("here", "here.py", cwd=folder)
    assert result["stdout"] == "here\n"


async def test_the_limit_bounds_all_calls_of_one_executor_together(script, tmp_path):
    executor = ConcurrentExecutor(max_concurrent=2)
    peak = 0

    async def batch(size):
        module = ("m", script("runs.py"), [str(tmp_path), "0.15"])
        assert all(each["success"] for each in await executor.execute_batch([module] * size))

    async with anyio.create_task_group() as group:
        async with anyio.create_task_group() as calls:
            calls.start_soon(batch, 3)
            calls.start_soon(batch, 2)
            for _ in range(2):
                calls.start_soon(batch, 1)
            until = time.monotonic() + 1.2
            while time.monotonic() < until:
                peak = max(peak, len(list(tmp_path.glob("*.running"))))
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert peak == 2


async def test_cleanup_ends_what_runs_and_the_executor_may_be_used_again(tmp_path, script):
    marked = Marked()
    (tmp_path / "deep.py").write_text(f"import os; os.system({marked.sleep()!r})")
    executor = ConcurrentExecutor()
    results = []
    executor.cleanup()
    async with anyio.create_task_group() as group:

        async def runs():
            results.extend(await executor.execute_batch([("a", tmp_path / "deep.py")] * 2))

        group.start_soon(runs)
        await anyio.to_thread.run_sync(marked.begun, 2)
        executor.cleanup()
    assert {each["kind"] for each in results} == {"cancelled"}
    assert {each["error"] for each in results} == {"cancelled: cleanup()"}
    assert not marked.living()
    assert (await executor.execute_module("again", script("ok.py")))["success"]


async def test_cleanup_works_from_another_thread(script):
    executor = ConcurrentExecutor()
    threading.Timer(0.3, executor.cleanup).start()
    with anyio.fail_after(5):
        result = await executor.execute_module("sleeps", script("sleeps.py"))
    assert result["kind"] == "cancelled"


@pytest.mark.asyncio_only
async def test_cleanup_may_be_a_callback_of_the_loop(script):
    executor = ConcurrentExecutor()
    asyncio.get_running_loop().call_later(0.3, executor.cleanup)
    with anyio.fail_after(5):
        result = await executor.execute_module("sleeps", script("sleeps.py"))
    assert result["kind"] == "cancelled"


async def test_leaving_the_block_ends_what_runs(script):
    results = []
    async with anyio.create_task_group() as group:
        async with ConcurrentExecutor() as executor:

            async def runs():
                results.append(await executor.execute_module("sleeps", script("sleeps.py")))

            group.start_soon(runs)
            await anyio.sleep(0.3)
        assert [each["kind"] for each in results] == ["cancelled"]


async def test_a_cancellation_goes_on_its_way_and_leaves_nobody(tmp_path):
    marked = Marked()
    (tmp_path / "deep.py").write_text(f"import os; os.system({marked.sleep()!r})")
    async with anyio.create_task_group() as group:
        group.start_soon(ConcurrentExecutor().execute_batch, [("a", tmp_path / "deep.py")] * 2)
        await anyio.to_thread.run_sync(marked.begun, 2)
        group.cancel_scope.cancel()
    assert not marked.living()


def test_an_executor_goes_from_a_loop_that_has_ended_to_the_next(script):
    executor = ConcurrentExecutor()

    async def once():
        return (await executor.execute_module("ok", script("ok.py")))["success"]

    assert asyncio.run(once())
    assert anyio.run(once, backend="trio")
    assert asyncio.run(once())
    executor.cleanup()


async def test_an_executor_is_refused_on_two_loops_at_once(script):
    executor = ConcurrentExecutor()
    await executor.execute_module("ok", script("ok.py"))

    def elsewhere():
        async def call():
            await executor.execute_module("ok", script("ok.py"))

        with pytest.raises(HostLoopError, match="another loop"):
            asyncio.run(call())

    await anyio.to_thread.run_sync(elsewhere)


async def test_a_failed_script_runs_again_when_asked(tmp_path):
    (tmp_path / "second.py").write_text(
        "import sys\nfrom pathlib import Path\npath = Path(sys.argv[1])\n"
        "path.exists() or (path.touch(), sys.exit(1))"
    )
    executor = ConcurrentExecutor(retry=Retry(attempts=2, wait=0, jitter=0))
    modules = [(str(i), tmp_path / "second.py", [str(tmp_path / str(i))]) for i in range(3)]
    results = await executor.execute_batch(modules)
    assert all(each["success"] for each in results)


async def test_each_outcome_is_recorded_before_it_is_returned(script):
    class Notes:
        def __init__(self):
            self.keys = []

        async def record(self, outcome):
            await anyio.sleep(0)
            self.keys.append((outcome.key, str(outcome.status)))

    notes = Notes()
    executor = ConcurrentExecutor(journal=notes)
    modules = [("a", script("ok.py")), ("a", script("three.py")), ("a#2", script("ok.py"))]
    await executor.execute_batch(modules)
    assert sorted(notes.keys) == [("a", "succeeded"), ("a#2", "failed"), ("a#2#2", "succeeded")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_concurrent": 0}, "lets nothing run"),
        ({"max_concurrent": 2.5}, "no limit"),
        ({"on_pressure": "drop"}, "'reject' nor 'wait'"),
        ({"resource_manager": 3}, "no ResourceManager"),
        ({"timeout": -1}, "timeout"),
        ({"retry": 3}, "no Retry"),
        ({"journal": "file.db"}, "record"),
        ({"max_concurent": 3}, "max_concurrent"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, says):
    with pytest.raises((ConfigurationError, UnknownOptionError), match=says):
        ConcurrentExecutor(**options)


@pytest.mark.parametrize("modules", ["ab", 3, [3], ["ab"], [("only",)], [("a", "b", 1, 2, 3, 4)]])
async def test_a_batch_that_is_none_is_refused_before_anything_starts(modules):
    with pytest.raises(ConfigurationError, match="execute_batch"):
        await ConcurrentExecutor().execute_batch(modules)
    assert await ConcurrentExecutor().execute_batch([]) == []


async def test_the_interpreter_is_this_one(tmp_path):
    (tmp_path / "which.py").write_text("import sys; print(sys.executable)")
    result = await ConcurrentExecutor(resource_manager=ResourceManager(100, 0)).execute_module(
        "which", tmp_path / "which.py"
    )
    assert result["stdout"].strip() == sys.executable
