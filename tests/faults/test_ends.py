"""Faults 14, 18, 19 and 27: programs that are killed, interrupted, told to end, or just end."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from anabranch.observe import Journal
from tests.cli.shell import PROGRAM, environment, until_heard
from tests.lanes.scripts import PYTHON, Marked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_clock,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals"),
]
both_loops = pytest.mark.parametrize("loop", ["trio", "asyncio"])

PARENT = """
    import sys, threading, anyio
    from anabranch.lanes._process import CPU_LANE
    from anabranch.lanes._subprocess import run_script
    from tests.lanes import calls
    loop, path, line = sys.argv[1:]
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(run_script, ["sh", "-c", line])
            group.start_soon(CPU_LANE.run, calls.sleeps_and_tells, (path, 3600), {})
    if __name__ == "__main__":
        anyio.run(main, backend=loop)
"""


def wait_for(there, seconds=20):
    give_up = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < give_up, "it never came"
        time.sleep(0.01)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@both_loops
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_fault_14_no_descendant_outlives_a_parent_that_was_killed(tmp_path, number, loop):
    marked, path = Marked(), tmp_path / "pid"
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PARENT))
    line = f"exec >/dev/null 2>&1; trap '' TERM; {marked.sleep()} & setsid {marked.sleep()} & wait"
    parent = subprocess.Popen([PYTHON, program, loop, path, line], env=environment())
    try:
        marked.begun(2)
        wait_for(lambda: path.exists() and path.read_text())
        parent.send_signal(number)
        parent.wait()
        assert marked.gone(3)
        wait_for(lambda: not is_alive(int(path.read_text())), 3)
    finally:
        parent.kill()
        parent.wait()


@both_loops
@pytest.mark.skipif(sys.platform != "linux", reason="the danger is Linux's own")
def test_fault_14_children_do_not_end_with_the_thread_that_started_them(tmp_path, loop):
    """PR_SET_PDEATHSIG is per thread, and threads of a cache end when they are idle."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import sys, threading, anyio
        from anabranch.lanes._subprocess import run_script
        from anabranch.lanes._process import CPU_LANE
        def in_a_thread(): return anyio.run(run_script, ["sh", "-c", "sleep 0.3; echo end"])
        async def main():
            pid = await CPU_LANE.run(__import__("os").getpid, (), {})
            found = await anyio.to_thread.run_sync(in_a_thread)
            assert await CPU_LANE.run(__import__("os").getpid, (), {}) == pid
            print(found.stdout.decode().strip())
        if __name__ == "__main__":
            anyio.run(main, backend=sys.argv[1])
        """)
    )
    done = subprocess.run(
        [PYTHON, program, loop], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def start(folder, *args):
    """Start `anabranch exec` with a group of its own, as a terminal gives it."""
    return subprocess.Popen(
        [*PROGRAM, "exec", *args],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended_by(folder, number, loop, marked):
    """Strike a run of three jobs, of which one has ended; return code, words, and seconds."""
    line = f'test "$1" = 1 && exit; sleep 0.3; touch here; {marked.sleep(3600)}'
    args = ["--journal", "journal", "--loop", loop, "-j2", "sh", "-c", line, "sh", ":::", "1", "2"]
    with start(folder, *args, "3") as run:
        wait_for((folder / "here").exists)
        began = time.monotonic()
        os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
        out, said = run.communicate(timeout=30)
    return run.returncode, out + said, time.monotonic() - began


@both_loops
def test_fault_18_ctrl_c_exits_130_in_time_with_one_line_and_a_whole_journal(tmp_path, loop):
    marked = Marked()
    code, said, took = ended_by(tmp_path, signal.SIGINT, loop, marked)
    assert (code, said) == (130, "anabranch: interrupted by Ctrl-C\n")
    assert took < 4, "the grace of a job is 3 s, and a second"
    assert not marked.living()
    with Journal(tmp_path / "journal") as journal:
        assert [entry.key for entry in journal.entries() if entry.done] == ["1"]


@both_loops
def test_fault_18_a_second_ctrl_c_means_at_once(tmp_path, loop):
    line = "trap '' TERM; touch here; while :; do sleep 0.1; done"
    with start(tmp_path, "--loop", loop, "sh", "-c", line, "sh", ":::", "1") as run:
        wait_for((tmp_path / "here").exists)
        run.send_signal(signal.SIGINT)
        until_heard(run.pid, signal.SIGINT)
        began = time.monotonic()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert said.count("\n") == 1
    assert time.monotonic() - began < 3, "a first one would wait for the job so long"


@both_loops
def test_fault_19_sigterm_ends_it_in_order_and_exits_143(tmp_path, loop):
    marked = Marked()
    code, said, took = ended_by(tmp_path, signal.SIGTERM, loop, marked)
    assert (code, said) == (143, "anabranch: ended by SIGTERM\n")
    assert took < 4
    assert not marked.living()


PROGRAMS = {
    "a thread that never ends": """
        import time
        def stuck(_): time.sleep(3600)
        step = Step.parallel({"a": stuck, "b": abs}, timeout=0.2)
        print(Pipeline([step]).run_sync(1, loop=LOOP).success)
    """,
    "a process at work": """
        import time
        step = Step.parallel({"a": Step("a", time.sleep, lane="cpu")}, timeout=0.5)
        print(Pipeline([step]).run_sync(3600, loop=LOOP).success)
    """,
    "a pool that nobody shut down": """
        import time
        pool = WorkerPool(2)
        pool.submit_task("a", time.sleep, (0.1,))
        print(False)
    """,
    "a script at work, in a daemon thread": """
        import threading, time
        def run():
            anyio.run(SubprocessWrapper().run, ["sleep", "3600"], backend=LOOP)
        threading.Thread(target=run, daemon=True).start()
        time.sleep(0.5)
        print(False)
    """,
}


@both_loops
@pytest.mark.parametrize("name", PROGRAMS)
def test_fault_27_a_program_ends_with_work_in_flight_in_time_and_without_a_traceback(
    tmp_path, name, loop
):
    program = tmp_path / "program.py"
    head = f"import anyio\nfrom anabranch import *\nLOOP = {loop!r}\n"
    body = textwrap.indent(textwrap.dedent(PROGRAMS[name]), "    ")
    program.write_text(f'{head}if __name__ == "__main__":\n{body}')
    began = time.monotonic()
    done = subprocess.run(
        [PYTHON, program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    assert time.monotonic() - began < 50, "what it waits for takes an hour"


@both_loops
def test_fault_27_an_exit_code_survives_work_in_flight(tmp_path, loop):
    text = """
        import sys, time
        from anabranch import Pipeline, Step
        def stuck(_): time.sleep(3600)
        Pipeline([Step.parallel({"a": stuck}, timeout=0.2)]).run_sync(1, loop=sys.argv[1])
        sys.exit(7)
    """
    done = subprocess.run(
        [PYTHON, "-c", textwrap.dedent(text), loop],
        env=environment(),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, b"")
