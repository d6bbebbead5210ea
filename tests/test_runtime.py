"""The seam: whichever loop runs is found, and no other is imported."""

import asyncio
import subprocess
import sys
import threading

import anyio
import pytest
import trio
import uvloop

from anabranch import _anyio
from anabranch._host import current_host
from anabranch._open import open_scheduler
from anabranch._runtime import current, loop_runs_here
from anabranch.errors import HostLoopError
from tests.branches import read, sleep, statuses, submit

WORDS = (
    "CancelScope",
    "Cancelled",
    "CapacityLimiter",
    "Event",
    "WouldBlock",
    "current_effective_deadline",
    "open_nursery",
    "sleep",
    "sleep_forever",
)
LOW = (
    "RunVar",
    "checkpoint",
    "checkpoint_if_cancelled",
    "current_clock",
    "current_task",
    "current_trio_token",
)


async def work():
    """Run a bit of everything, and tell by which runtime."""
    async with open_scheduler(3) as scheduler:
        for i in range(10):
            submit(scheduler, f"async {i}", sleep, 0.001)
            submit(scheduler, f"plain {i}", threading.get_ident)
            submit(scheduler, f"slow {i}", sleep, 5, timeout=0.01)
        found = await read(scheduler)
    assert statuses(found) == {"succeeded": 20, "timed_out": 10}
    return current()


def on_uvloop():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())


HOSTS = {
    "trio.run": (lambda: trio.run(work), trio),
    "asyncio.run": (lambda: asyncio.run(work()), _anyio),
    "uvloop": (on_uvloop, _anyio),
    "anyio.run on asyncio": (lambda: anyio.run(work, backend="asyncio"), _anyio),
    "anyio.run on uvloop": (
        lambda: anyio.run(work, backend="asyncio", backend_options={"use_uvloop": True}),
        _anyio,
    ),
    "anyio.run on trio": (lambda: anyio.run(work, backend="trio"), trio),
}


@pytest.mark.leaves("descriptor", reason="uvloop keeps a pipe of its own for ever")
@pytest.mark.parametrize("host", HOSTS)
def test_work_is_done_on_whichever_loop_runs(host):
    run, runtime = HOSTS[host]
    assert run() is runtime


def test_two_loops_in_two_threads_do_not_know_each_other():
    results = []

    def run(fn):
        results.append(fn())

    threads = [
        threading.Thread(target=run, args=(fn,))
        for fn in (lambda: trio.run(work), lambda: asyncio.run(work())) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert {id(trio), id(_anyio)} == {id(result) for result in results}


def test_without_a_loop_there_is_no_runtime():
    assert not loop_runs_here()
    with pytest.raises(HostLoopError, match="no loop runs here"):
        current()


async def test_a_loop_is_known_to_run_in_tasks_and_callbacks():
    assert loop_runs_here()
    seen = []
    current_host().runtime.lowlevel.current_trio_token().run_sync_soon(
        lambda: seen.append(loop_runs_here())
    )
    await anyio.sleep(0.01)
    assert seen == [True]
    with pytest.raises(HostLoopError):
        await anyio.to_thread.run_sync(current)


@pytest.mark.parametrize("runtime", [trio, _anyio], ids=["trio", "anyio"])
def test_both_runtimes_have_every_word_of_the_seam(runtime):
    assert [word for word in WORDS if not hasattr(runtime, word)] == []
    assert [word for word in LOW if not hasattr(runtime.lowlevel, word)] == []
    assert hasattr(runtime.to_thread, "run_sync")


async def test_a_host_belongs_to_one_loop():
    assert current_host() is current_host()
    mine = current_host()
    other = await anyio.to_thread.run_sync(lambda: asyncio.run(_host()))
    assert other is not mine


async def _host():
    return current_host()


async def test_the_clock_may_be_read_in_a_thread():
    clock = current_host().clock
    before = clock()
    assert await anyio.to_thread.run_sync(clock) >= before


@pytest.mark.slow
def test_the_seam_needs_no_trio_for_asyncios_users():
    script = (
        "import asyncio, sys\n"
        "from anabranch._open import open_scheduler\n"
        "from anabranch._work import Job\n"
        "async def main():\n"
        "    async with open_scheduler(2) as scheduler:\n"
        "        scheduler.submit(Job('a', asyncio.sleep, (0,)))\n"
        "        print([str(o.status) async for o in scheduler.outcomes])\n"
        "asyncio.run(main())\n"
        "print('trio' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['succeeded']\nFalse\n", done.stderr
