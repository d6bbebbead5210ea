"""SubprocessWrapper: one script, in the mode that was chosen."""

import subprocess

import anyio
import pytest

from anabranch import ConcurrentExecutor, ConfigurationError, RunMode, SubprocessWrapper
from tests.executor.machine import scripts
from tests.lanes.scripts import PYTHON, Marked, shell

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]


@pytest.mark.parametrize("mode", [None, RunMode.ASYNC, "THREADED", "Async"])
async def test_a_script_runs_and_its_output_is_kept(mode):
    done = await SubprocessWrapper(mode).run(shell("echo out; exit 3"), timeout=5)
    assert (done.exit_code, done.stdout, done.kind) == (3, b"out\n", "exit")


async def test_a_dry_run_prints_the_command_and_succeeds(capsys):
    done = await SubprocessWrapper(RunMode.DRY_RUN).run(["rm", "-rf", "a b"])
    assert done.success
    assert capsys.readouterr().out == "rm -rf 'a b'\n"


async def test_a_local_script_writes_where_this_process_does(capfd):
    done = await SubprocessWrapper("local").run(shell("echo seen"))
    assert done.success
    assert done.stdout == b""
    assert capfd.readouterr().out == "seen\n"


async def test_the_environment_chooses_the_mode(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PRISMQ_RUN_MODE", "DRY-RUN")
    assert SubprocessWrapper().mode is RunMode.DRY_RUN
    assert SubprocessWrapper(RunMode.ASYNC).mode is RunMode.ASYNC
    script = scripts(tmp_path)("fails.py")
    result = await ConcurrentExecutor().execute_module("dry", script)
    assert result["success"]
    assert capsys.readouterr().out == f"{PYTHON} {script}\n"
    monkeypatch.setenv("PRISMQ_RUN_MODE", "sideways")
    with pytest.raises(ConfigurationError, match="PRISMQ_RUN_MODE in the environment"):
        SubprocessWrapper()
    with pytest.raises(ConfigurationError, match="ASYNC, THREADED, LOCAL, DRY_RUN"):
        SubprocessWrapper("sideways")
    with pytest.raises(ConfigurationError, match="mode="):
        SubprocessWrapper(3)


async def test_cleanup_ends_what_runs():
    marked, wrapper, ended = Marked(), SubprocessWrapper(), []

    async def runs():
        ended.append(await wrapper.run(shell(f"{marked.sleep()} & wait")))

    async with anyio.create_task_group() as group:
        group.start_soon(runs)
        await anyio.to_thread.run_sync(marked.begun)
        wrapper.cleanup()
    assert [each.kind for each in ended] == ["cancelled"]
    assert not marked.living()


async def test_a_timeout_and_what_cannot_be_meant():
    wrapper = SubprocessWrapper()
    assert (await wrapper.run(["sleep", "9"], timeout=0.2)).kind == "timeout"
    with pytest.raises(ConfigurationError):
        await wrapper.run("sleep 9")
    with pytest.raises(ConfigurationError, match="timeout"):
        await wrapper.run(["sleep", "9"], timout=3)


def test_a_program_that_ends_with_scripts_running_ends_at_once_and_quietly():
    code = (
        "import anyio, sys\nfrom anabranch import SubprocessWrapper\n"
        "async def main():\n  async with anyio.create_task_group() as g:\n"
        "    g.start_soon(SubprocessWrapper().run, ['sleep', '60'])\n"
        "    await anyio.sleep(0.3)\n    sys.exit(7)\nanyio.run(main)"
    )
    run = subprocess.run([PYTHON, "-c", code], capture_output=True, timeout=10, check=False)
    assert run.returncode != 0
    assert b"Traceback" not in run.stderr or b"SystemExit" in run.stderr
