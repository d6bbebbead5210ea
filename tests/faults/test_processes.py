"""Faults 8, 9, 10 and 26: processes that are killed, cannot be told, forked, or not heard."""

import asyncio
import logging
import os
import re
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import anyio
import psutil
import pytest

import anabranch
from anabranch import Job, LaneError, Retry, open_scheduler
from anabranch._host import current_host
from anabranch.lanes import _echo
from anabranch.lanes._process import CPU_LANE, Children
from tests.branches import read, statuses, submit
from tests.lanes import calls

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]


def run(fn, *args):
    return CPU_LANE.run(fn, args, {})


async def until_busy(pid):
    with anyio.fail_after(10):
        while not any(child.pid == pid for child in current_host().part(Children)._busy):
            await anyio.sleep(0.001)


async def until_gone(pid):
    with anyio.fail_after(10):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            await anyio.sleep(0.01)


async def test_fault_08_a_process_killed_while_idle_costs_no_call():
    pid = await run(calls.pid)
    os.kill(pid, signal.SIGKILL)
    await until_gone(pid)
    assert await run(calls.pid) != pid


@pytest.mark.parametrize("what", ["reads", "runs", "answers"])
async def test_fault_08_a_process_that_is_killed_fails_its_call_alone(what):
    fn, args = {
        "reads": (len, (b"x" * 10_000_000,)),
        "runs": (calls.kills_itself, ()),
        "answers": (calls.big, (200_000_000,)),
    }[what]
    async with open_scheduler(2) as scheduler:
        submit(scheduler, "warm", calls.pid, lane="cpu")
        pid = (await read(scheduler))["warm"].value
        if what == "reads":
            os.kill(pid, signal.SIGSTOP)  # so it reads nothing of what fills its pipe
        submit(scheduler, "killed", fn, *args, lane="cpu")
        if what != "runs":
            await until_busy(pid)
            await anyio.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
        for i in range(3):
            submit(scheduler, str(i), calls.add, i, lane="cpu")
        found = await read(scheduler)
    assert statuses(found) == {"failed": 1, "succeeded": 3}, "the lane has filled itself again"
    assert isinstance(found["killed"].error, LaneError)
    assert "SIGKILL" in str(found["killed"].error)


@pytest.mark.parametrize("retry", [None, Retry(2, wait=0, jitter=0, on=LaneError)])
async def test_fault_08_a_killed_call_is_tried_again_only_if_that_was_asked_for(retry):
    async with open_scheduler(1) as scheduler:
        scheduler.submit(Job("a", calls.kills_itself, lane="cpu", retry=retry))
        found = await read(scheduler)
    assert found["a"].attempts == (1 if retry is None else 2)


NOT_CARRIED = {
    "function": (lambda: 1, (), "the function"),
    "argument": (calls.add, (1, calls.Stubborn()), "argument 1"),
    "argument, at its arrival": (calls.add, (calls.Poisoned(),), "exploded"),
    "result": (calls.returns_lock, (), "result of returns_lock"),
    "result, at its arrival": (calls.returns_poison, (), "returns_poison"),
    "exception": (calls.raises_lock, (), "holds a lock"),
    "exception of two arguments": (calls.raises_two, (), "TwoArgumentsError"),
    "exception that cannot write itself": (calls.raises_untold, (), "UntoldError"),
    "exit": (calls.leaves, (3,), "sys.exit(3)"),
    "cancellation": (calls.raises_base, (asyncio.CancelledError,), "CancelledError"),
}


async def test_fault_09_what_cannot_be_carried_is_named_and_the_lane_works_afterwards():
    for what, (fn, args, says) in NOT_CARRIED.items():
        with pytest.raises(LaneError, match=re.escape(says)):
            await run(fn, *args)
        assert await run(calls.add, 20, 22) == 42, what


def hold_a_lock(held, ready, end):
    with held:
        ready.set()
        end.wait(10)


async def test_fault_10_a_lock_that_a_thread_holds_is_free_in_a_new_process():
    """A forked process would have the lock, held, and nobody to release it."""
    ready, end = threading.Event(), threading.Event()
    held = threading.Thread(target=hold_a_lock, args=(calls._LOCK, ready, end))
    held.start()
    ready.wait()
    try:
        with anyio.fail_after(10):
            assert await run(takes_the_lock) == "taken"
    finally:
        end.set()
        held.join()


def takes_the_lock():
    with calls._LOCK:
        return "taken"


def test_fault_10_nothing_forks_but_the_reaper_which_is_a_program_without_threads():
    forks = re.compile(r"os\.fork\(|forkpty|get_context\(|start_method|\"fork|'fork")
    files = Path(anabranch.__file__).parent.rglob("*.py")
    assert [file.name for file in files if forks.search(file.read_text())] == ["_reaper.py"]


async def test_fault_26_prints_logs_and_warnings_of_a_process_arrive_with_its_name(
    monkeypatch, caplog
):
    lines = []
    stream = SimpleNamespace(
        encoding="utf-8", write=lambda text: lines.extend(text.splitlines()), flush=lambda: None
    )
    # Not in sys itself: there pytest puts its own between the fixtures and the test.
    monkeypatch.setattr(_echo, "sys", SimpleNamespace(stdout=stream, stderr=stream))
    with caplog.at_level(logging.DEBUG), anyio.fail_after(20):
        async with open_scheduler(1) as scheduler:
            for fn in (calls.prints_without_end, calls.writes_with_a_child, calls.warns):
                submit(scheduler, fn.__name__, fn, lane="cpu")
            submit(scheduler, "many", calls.logs_from_threads, 500, lane="cpu")
            found = await read(scheduler)
    assert statuses(found) == {"succeeded": 4}
    assert {"[prints_without_end] no end", "[writes_with_a_child] from a shell"} <= set(lines)
    assert any(line.startswith("[warns] ") and "watch out" in line for line in lines)
    records = [record for record in caplog.records if "record" in record.getMessage()]
    assert len(records) == 2000
    assert {record.branch for record in records} == {"many"}
