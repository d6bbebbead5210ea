"""How scripts end that are stopped: by the table of processes, nothing of them is left."""

import errno
import os
import signal
import subprocess
import sys
import time

import anyio
import psutil
import pytest

from anabranch.lanes import _running
from anabranch.lanes._room import ROOM, Room
from anabranch.lanes._subprocess import run_script
from tests.lanes.scripts import PYTHON, Marked, python, shell

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]

GRACE = 0.2  # how exact a grace is

PARENT = """
import sys, anyio
from anabranch.lanes._subprocess import run_script
argv = sys.argv[2:]
async def main():
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(run_script, argv)
try:
    anyio.run(main, backend=sys.argv[1])
except KeyboardInterrupt:
    sys.exit(130)
"""


def deep(marked):
    """Return a shell in a shell in a shell, all with somebody who sleeps."""
    inner = marked.sleep().replace("'", '"')
    return shell(f"sh -c 'sh -c \"$1 & wait\" sh \"$1\" & wait' sh '{inner}' & "
                 f"{marked.sleep()} & setsid {marked.sleep()} & wait")  # fmt: skip


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_a_cancel_and_a_timeout_leave_nobody_of_the_tree(how):
    marked = Marked()
    async with anyio.create_task_group() as group:
        timeout = 1.5 if how == "timeout" else None
        group.start_soon(lambda: run_script(deep(marked), timeout=timeout))
        await anyio.to_thread.run_sync(marked.begun, 3)
        if how == "cancel":
            group.cancel_scope.cancel()
    assert not marked.living()


async def test_two_hundred_scripts_that_are_cancelled_at_once_are_gone_at_once():
    parent = psutil.Process()
    before = len(parent.children())
    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(run_script, ["sleep", "60"])
        with anyio.fail_after(10):
            while len(parent.children()) < before + 200:
                await anyio.sleep(0.05)
        began = time.monotonic()
        group.cancel_scope.cancel()
    assert time.monotonic() - began < 3
    assert len(parent.children()) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_kills_the_parent_no_descendant_is_alive_after_three_seconds(
    anyio_backend_name, number
):
    marked = Marked()
    parent = subprocess.Popen([PYTHON, "-c", PARENT, anyio_backend_name, *deep(marked)])
    try:
        marked.begun(6)
        parent.send_signal(number)
        assert marked.gone(3)
        code = parent.wait(3)
        assert code > 0 if number == signal.SIGINT else code == -number
    finally:
        parent.kill()
        parent.wait()


@pytest.mark.parametrize("moment", [i / 100 for i in range(0, 30, 3)])
def test_a_parent_that_is_killed_while_scripts_start_leaves_none(moment):
    marked = Marked()
    code = PARENT.replace("range(2)", "range(12)")
    parent = subprocess.Popen(
        [PYTHON, "-c", code.replace("try:", "sys.stdout.write('.'); sys.stdout.flush()\ntry:"),
         "trio", *shell(marked.sleep(20))],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    parent.stdout.read(1)
    time.sleep(moment)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    time.sleep(0.3)  # one that was starting is there by now
    assert marked.gone(3)


@pytest.mark.parametrize("grace", [0.0, 0.5, 1.0])
async def test_the_grace_of_a_script_that_ignores_sigterm_is_exact(grace):
    ignore = "import signal, time; signal.signal(15, signal.SIG_IGN)"
    code = f"{ignore}; print(1, flush=True); time.sleep(60)"
    begun = anyio.Event()
    token = anyio.lowlevel.current_token()
    ended = []

    async def runs():
        try:
            await run_script(
                python(code),
                grace=grace,
                on_line=lambda *_: anyio.from_thread.run_sync(begun.set, token=token),
            )
        finally:
            ended.append(time.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(runs)
        await begun.wait()
        before = time.monotonic()
        group.cancel_scope.cancel()
    assert grace <= ended[0] - before <= grace + GRACE


async def test_a_script_may_end_in_order_when_it_is_told_to():
    code = (
        "import signal, sys, time\n"
        "def end(*_): time.sleep(0.7); print('in order', flush=True); sys.exit(5)\n"
        "signal.signal(15, end); time.sleep(60)"
    )
    # The shell ends at once, and its child has the whole grace all the same.
    done = await run_script([*shell('"$@" & wait', *python(code))], timeout=0.5)
    assert done.kind == "timeout"
    assert done.stdout == b"in order\n"


async def test_a_timeout_is_told_with_what_was_written_so_far():
    done = await run_script(shell("echo so far; echo why >&2; sleep 60"), timeout=0.3)
    assert (done.kind, done.error) == ("timeout", "timed out after 0.3 s")
    assert (done.stdout, done.stderr) == (b"so far\n", b"why\n")


async def test_a_script_that_stopped_itself_is_ended_like_any_other():
    before = time.monotonic()
    done = await run_script(shell("kill -STOP $$; sleep 60"), timeout=0.3)
    assert done.kind == "timeout"
    assert time.monotonic() - before < 1


async def test_a_script_that_stopped_itself_and_would_never_go_on_fails(monkeypatch):
    monkeypatch.setattr("anabranch.lanes._pump.LOOK_S", 0.05)
    monkeypatch.setattr("anabranch.lanes._pump.STOPPED_S", 0.2)
    with anyio.fail_after(3):
        done = await run_script(shell("echo so far; kill -STOP $$; echo never"))
    assert (done.kind, done.exit_code, done.stdout) == ("signal", -9, b"so far\n")
    assert done.error == "stopped by SIGSTOP (signal 19), and nobody let it go on: ended"


async def test_a_script_that_is_stopped_for_a_moment_goes_on(monkeypatch):
    monkeypatch.setattr("anabranch.lanes._pump.LOOK_S", 0.05)
    line = "for i in 1 2 3; do (sleep 0.1; kill -CONT $$) & kill -STOP $$; done; echo end"
    assert (await run_script(shell(line))).stdout == b"end\n"


async def test_a_reader_that_blocks_keeps_no_script_alive():
    def stuck(_, __):
        time.sleep(1.5)

    marked = Marked()
    with anyio.move_on_after(0.5):
        await run_script(shell(f"echo line; {marked.sleep()}"), on_line=stuck)
    assert not marked.living()


@pytest.mark.asyncio_only
async def test_a_native_cancel_leaves_nobody_even_when_it_comes_twice():
    import asyncio

    marked = Marked()
    line = f"trap '' TERM; {marked.sleep()} & wait; {marked.sleep()}"
    running = asyncio.create_task(run_script(shell(line), grace=0.5))
    await anyio.to_thread.run_sync(marked.begun)
    running.cancel()
    await anyio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not marked.living()


async def test_a_group_that_is_not_ours_is_never_signalled(monkeypatch):
    sent = []
    real = os.killpg
    monkeypatch.setattr(
        os, "killpg", lambda group, number: (sent.append(group), real(group, number))
    )
    running = _running.Running(_running.Script(["true"]), lambda: None)
    await anyio.to_thread.run_sync(running.work)
    leader = sent[0]
    assert leader != os.getpgrp()
    assert set(sent) == {leader}
    sent.clear()
    running.send(signal.SIGKILL)  # it has been waited for: its number may be another's
    assert sent == []


FEW = """
import resource, sys, anyio, logging
logging.basicConfig(level=logging.WARNING)
from anabranch.lanes._subprocess import run_script
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
done = []
async def one():
    done.append(await run_script(["sleep", "0.05"]))
async def main():
    async with anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(one)
anyio.run(main, backend=sys.argv[1])
import os
print(len(done), sum(each.success for each in done), len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_60_scripts_run_with_64_descriptors_fewer_at_once_and_it_is_said(anyio_backend_name):
    run = subprocess.run(
        [PYTHON, "-c", FEW, anyio_backend_name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ran, succeeded, left = map(int, run.stdout.split())
    assert (ran, succeeded) == (60, 60)
    assert left <= 10
    assert run.stderr.count("fewer scripts at once for now") >= 1
    assert "Too many open files" in run.stderr


def test_what_was_refused_is_the_limit_until_no_more_is_refused(monkeypatch):
    room, now = Room(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    error = OSError(errno.EMFILE, "Too many open files")
    assert all(room.enter() for _ in range(5))
    assert room.refused(error) == 4
    assert room.limit == 4
    assert not room.enter()
    now[0] = 2.0
    assert room.enter()
    assert room.limit == 5
    for _ in range(5):
        room.leave()
    assert room.limit is None


async def test_a_script_that_the_system_refuses_for_ever_fails_in_the_end(monkeypatch):
    def refuses(_):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(_running, "start", refuses)
    monkeypatch.setattr("anabranch.lanes._subprocess.PATIENCE_S", 0.1)
    done = await run_script(["true"])
    assert done.kind == "spawn"
    assert "Resource temporarily unavailable" in done.error
    assert ROOM.running == 0
