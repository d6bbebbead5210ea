"""Faults 11, 12, 13, 15, 16, 17 and 38: scripts that leave orphans, hang, or are misread."""

import os
import signal
import subprocess
import sys
import time

import anyio
import psutil
import pytest

from anabranch import (
    ConfigurationError,
    ExecutionConfig,
    Pipeline,
    ResourceLimits,
    ResourceManager,
    Step,
)
from anabranch.cli._exec_results import folder_for
from anabranch.cli._load import WrongUsageError, load
from anabranch.executor import ConcurrentExecutor
from anabranch.lanes import _tree
from anabranch.lanes._subprocess import run_script
from anabranch.samplers import default_samplers
from tests.lanes.scripts import PYTHON, Marked, python, shell

pytestmark = [
    pytest.mark.real_clock,
    pytest.mark.skipif(sys.platform == "win32", reason="scripts need a POSIX system"),
]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_fault_11_a_shell_in_a_shell_leaves_nobody(how):
    marked = Marked()
    inner = marked.sleep().replace("'", '"')
    # The one in a session of its own holds none of our pipes either, so nothing betrays it there.
    away = f"setsid {marked.sleep()} >/dev/null 2>&1"
    line = f"sh -c '{inner} & wait' & {away} & wait"
    async with anyio.create_task_group() as group:
        timeout = 1 if how == "timeout" else None
        group.start_soon(lambda: run_script(shell(line), timeout=timeout))
        await anyio.to_thread.run_sync(marked.begun, 2)
        if how == "cancel":
            group.cancel_scope.cancel()
    assert not marked.living()


@pytest.mark.slow
async def test_fault_12_a_grandchild_that_keeps_the_pipe_open_delays_nothing():
    marked = Marked()
    with anyio.fail_after(5):
        done = await run_script(shell(f"echo said; setsid {marked.sleep()} & exit 0"))
    assert (done.exit_code, done.stdout, done.truncated) == (0, b"said\n", True)
    assert any("held" in note for note in done.notes), done.notes
    assert marked.gone()


@pytest.mark.slow
async def test_fault_13_who_ignores_sigterm_is_asked_first_and_killed_after_the_grace(tmp_path):
    code = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: open(sys.argv[1], 'w').close())\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)"
    )
    ready, token = anyio.Event(), anyio.lowlevel.current_token()
    async with anyio.create_task_group() as group:
        group.start_soon(
            lambda: run_script(
                python(code, str(tmp_path / "asked")),
                grace=0.5,
                on_line=lambda *_: anyio.from_thread.run_sync(ready.set, token=token),
            )
        )
        await ready.wait()
        began = time.monotonic()
        group.cancel_scope.cancel()
    assert 0.5 <= time.monotonic() - began < 10
    assert (tmp_path / "asked").exists()


@pytest.mark.slow
async def test_fault_15_50_megabytes_on_both_streams_neither_hang_nor_fill_memory():
    code = (
        "import os, threading\n"
        "def write(to):\n"
        "    for _ in range(800): os.write(to, b'x' * 65536)\n"
        "other = threading.Thread(target=write, args=(2,)); other.start()\n"
        "write(1); other.join(); print('end')"
    )
    await run_script(["true"])
    here = psutil.Process()
    sizes = [here.memory_info().rss]

    async def watch():
        while True:
            sizes.append(here.memory_info().rss)
            await anyio.sleep(0.005)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            done = await run_script(python(code))
            group.cancel_scope.cancel()
    assert (done.success, done.stdout[-4:], done.truncated) == (True, b"end\n", True)
    assert max(sizes) - sizes[0] < 20_000_000


ERRORS = [psutil.NoSuchProcess(1), psutil.AccessDenied(1), psutil.ZombieProcess(1)]
CALLS = [
    "children",
    "cpu_times",
    "memory_info",
    "memory_full_info",
    "status",
    "ppid",
    "create_time",
]


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_fault_16_whatever_psutil_raises_costs_knowledge_and_no_run(monkeypatch, error, call):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(psutil.Process, call, fails)
    for sampler in default_samplers():
        for _ in range(2):
            assert all(
                figure is None or figure >= 0
                for name, figure in sampler.sample().items()
                if name != "own_memory"
            )
    ResourceManager().get_system_stats()
    limits = ExecutionConfig(
        resource_limits=ResourceLimits(max_memory_mb=10**6, max_cpu_percent=100)
    )
    assert (await Pipeline([Step.parallel({"a": abs})], execution_config=limits).run(1)).success
    done = await run_script(["sleep", "60"], timeout=0.05)
    assert done.kind == "timeout"


@pytest.mark.slow
async def test_fault_16_only_the_group_of_a_script_is_signalled(monkeypatch):
    groups, leaders, real = [], [], os.killpg
    monkeypatch.setattr(os, "killpg", lambda group, n: (groups.append(group), real(group, n)))
    done = await run_script(
        shell("echo $$; sleep 60"), timeout=0.2, on_line=lambda _, line: leaders.append(int(line))
    )
    assert done.kind == "timeout"
    assert set(groups) == set(leaders)


def test_fault_16_a_number_that_was_given_to_another_process_is_not_signalled(monkeypatch):
    sent, here = [], os.getpid()
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    began = _tree.began(here)
    _tree.send(signal.SIGTERM, {here: began - 1000.0})
    assert sent == []
    _tree.send(signal.SIGTERM, {here: began})
    assert set(sent) == {here}


FEW = """
import logging, os, resource, sys, anyio
logging.basicConfig(level=logging.WARNING)
from anabranch import ConcurrentExecutor
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
async def main():
    modules = [(str(i), sys.argv[2]) for i in range(60)]
    done = await ConcurrentExecutor(60).execute_batch(modules)
    print(len(done), sum(each["success"] for each in done))
anyio.run(main, backend=sys.argv[1])
print(len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_fault_17_60_scripts_run_with_64_descriptors_and_it_is_said(anyio_backend_name, tmp_path):
    (tmp_path / "script.py").write_text("")
    run = subprocess.run(
        [PYTHON, "-c", FEW, anyio_backend_name, str(tmp_path / "script.py")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ran, succeeded, left = map(int, run.stdout.split())
    assert (ran, succeeded) == (60, 60), run.stderr
    assert left <= 12, "descriptors were leaked"
    assert "fewer scripts at once" in run.stderr
    assert "Too many open files" in run.stderr


ODD = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    "-n",
    "--",
    "",
    "a b",
    "'",
    '"',
    "*",
    "\n",
    "\x1b[2J",
    "é\udcff",
]


async def test_fault_38_arguments_are_no_line_for_a_shell_and_come_intact():
    code = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    done = await run_script(python(code, *ODD))
    assert done.stdout == b"\0".join(map(os.fsencode, ODD))
    with pytest.raises(ConfigurationError, match="list of arguments"):
        await run_script("echo one; echo two")


async def test_fault_38_nul_and_arguments_that_are_too_long_are_refused_with_the_reason():
    done = await run_script(["echo", "a\0b"])
    assert (done.kind, done.success) == ("spawn", False)
    assert "NUL" in done.error
    most = 4096 * 32 - 1  # MAX_ARG_STRLEN of Linux, less the NUL
    for size, kind in ((most, "exit"), (most + 1, "spawn")):
        done = await run_script(["true", "x" * size])
        assert done.kind == kind or sys.platform != "linux", done
        assert bool(done.error) == (kind == "spawn")


async def test_fault_38_a_module_whose_path_leads_with_a_dash_is_a_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-c").write_text("print('the script')")
    done = await ConcurrentExecutor().execute_module("m", "-c", ["import os"])
    assert done["stdout"].strip() == "the script", done


def test_fault_38_a_spec_is_a_file_and_a_name_and_evaluates_nothing(tmp_path):
    flow = tmp_path / "flow.py"
    flow.write_text("ran = []\n")
    for name in ("__import__('os')", "ran.append(1)", "a.b", "../x"):
        with pytest.raises(WrongUsageError):
            load(f"{flow}:{name}")
    with pytest.raises(WrongUsageError):
        load(f"{tmp_path}/../{tmp_path.name}/none.py")


def test_fault_38_a_folder_of_results_leads_nowhere_else(tmp_path):
    root = tmp_path / "results"
    for seq, arg in enumerate(["..", ".", "../../x", "/etc", "a/../../b", "~", "x" * 5000, ""]):
        made = folder_for(str(root), [arg, ".."], seq).path.resolve()
        assert made.is_relative_to(root)
        assert len(made.relative_to(root).parts) == 4
