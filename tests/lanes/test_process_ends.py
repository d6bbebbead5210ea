"""A child process and all that it started end: with its call, with its loop, with its parent."""

import gc
import os
import resource
import selectors
import signal
import subprocess
import sys
import textwrap
import threading
import time

import anyio
import psutil
import pytest

from anabranch import open_scheduler
from anabranch._host import current_host
from anabranch.errors import LaneError
from anabranch.lanes._process import CPU_LANE, Call, Children
from anabranch.lanes._spawn import Child
from tests.branches import read, submit
from tests.lanes import calls

pytestmark = [pytest.mark.real_clock, pytest.mark.slow]


def run(fn, *args):
    return CPU_LANE.run(fn, args, {})


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(there):
    with anyio.fail_after(10):
        while not there():
            await anyio.sleep(0.01)


def wait_until(there, seconds=10.0):
    give_up = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def words(path):
    return path.read_text().split() if path.exists() else []


async def test_a_cancelled_call_leaves_no_grandchild(tmp_path):
    path = tmp_path / "pids"
    async with open_scheduler(1) as scheduler:
        submit(scheduler, "a", calls.starts_a_grandchild, path, lane="cpu")
        await until(lambda: len(words(path)) == 2)
        pids = [int(word) for word in words(path)]
        pids += [child.pid for child in psutil.Process(pids[0]).children(recursive=True)]
        scheduler.cancel("*")
        await read(scheduler)
    await until(lambda: not any(map(lives, pids)))


async def test_a_process_that_dies_takes_what_it_started_with_it_and_the_call_ends_at_once():
    with anyio.fail_after(5):
        with pytest.raises(LaneError, match="SIGKILL"):
            await run(calls.dies_with_a_grandchild)
    left = [each for each in psutil.Process().children(recursive=True) if "sleep" in each.name()]
    assert not left


async def test_a_process_killed_while_idle_costs_no_call():
    pid = await run(calls.pid)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid))
    assert await run(calls.pid) != pid
    assert current_host().part(Children).count == 1


async def test_a_process_that_dies_after_its_answer_costs_no_call():
    pid = await run(calls.answers_and_dies)
    await until(lambda: not lives(pid))
    assert await run(calls.add, 1) == 2


async def test_a_process_killed_while_it_reads_or_answers_fails_its_call_alone():
    pid = await run(calls.pid)
    os.kill(pid, signal.SIGSTOP)  # so it reads nothing of what fills its pipe
    killer = threading.Timer(0.1, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(LaneError, match="SIGKILL"):
        await run(len, b"x" * 10_000_000)
    killer.join()
    assert await run(calls.add, 1) == 2


async def test_a_fork_ends_no_process_of_its_parent(monkeypatch):
    pid = await run(calls.pid)
    children = current_host().part(Children)
    with monkeypatch.context() as fork:
        fork.setattr(os, "getpid", lambda: -1)
        children.close(kill=True)
    assert await run(calls.pid) == pid


async def test_context_variables_are_not_carried():
    calls.VARIABLE.set("the parent's")
    assert await run(calls.variable) == "its own"


PROGRAM = """
    import anyio, sys
    from anabranch import Job, open_scheduler
    from tests.lanes import calls

    async def main(loop):
        async with open_scheduler(2) as scheduler:
            scheduler.submit(Job("a", calls.{call}, ({path!r},), lane="cpu"))

    if __name__ == "__main__":
        anyio.run(main, None, backend={loop!r})
"""


@pytest.fixture(params=["trio", "asyncio"])
def program(request, tmp_path):
    """Start a program whose call runs until somebody ends it; give it and its child's pid."""
    started = []

    def start(call):
        path = tmp_path / "pid"
        script = tmp_path / "program.py"
        text = PROGRAM.format(call=call, path=str(path), loop=request.param)
        script.write_text(textwrap.dedent(text))
        parent = subprocess.Popen(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
        )
        started.append(parent)
        wait_until(lambda: words(path))
        return parent, [int(word) for word in words(path)]

    yield start
    for parent in started:
        parent.kill()
        parent.communicate()


@pytest.mark.parametrize("call", ["prints_and_waits", "starts_a_grandchild"])
def test_a_parent_killed_with_9_leaves_nothing(program, call):
    parent, pids = program(call)
    pids += [each.pid for each in psutil.Process(pids[0]).children(recursive=True)]
    parent.kill()
    wait_until(lambda: not any(map(lives, pids)), 3)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread watches, which needs it")
def test_also_one_that_holds_its_interpreter_ends_with_its_parent(program):
    parent, [pid] = program("holds_the_interpreter")
    parent.kill()
    wait_until(lambda: not lives(pid), 3)


def test_an_interrupt_ends_the_program_and_its_processes_at_once(program):
    parent, [pid] = program("prints_and_waits")
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=5)
    assert parent.returncode == -signal.SIGINT or b"KeyboardInterrupt" in said
    assert b"ResourceWarning" not in said
    wait_until(lambda: not lives(pid), 3)


SCRIPTS = {
    "a function of the program itself": (
        """
        def double(n):
            print("doubling")
            return [2 * n, Box(n)]

        class Box:
            def __init__(self, n): self.n = n

        if __name__ == "__main__":
            answer = anyio.run(CPU_LANE.run, double, (21,), {})
            assert isinstance(answer[1], Box)
            print(answer[0])
        """,
        "[double] doubling\n42\n",
    ),
    "a program without a guard": (
        """
        def double(n): return 2 * n
        try:
            print(anyio.run(CPU_LANE.run, double, (21,), {}))
        except LaneError as error:
            if "could not import" in str(error): print("said")
            raise SystemExit(0) if "said" else error
        """,
        "said\n",
    ),
    "a manager that nobody shuts down": (
        """
        import asyncio, math
        from anabranch import get_concurrency_manager

        async def main():
            manager = get_concurrency_manager()
            print(await manager.run_cpu(math.factorial, 5), await manager.run_io(abs, -1))

        if __name__ == "__main__":
            asyncio.run(main())
            asyncio.run(main())
        """,
        "120 1\n120 1\n",
    ),
    "threads that hold locks while a process starts": (
        """
        import threading, logging

        def log():
            logging.getLogger("x").warning("logged")
            return "done"

        if __name__ == "__main__":
            logging.basicConfig(stream=__import__("sys").stdout, format="%(message)s")
            held = logging.root.handlers[0].lock  # a fork would find it taken for ever
            ready, end = threading.Event(), threading.Event()

            def hold():
                with held:
                    ready.set()
                    end.wait(2)

            threading.Thread(target=hold).start()
            ready.wait()
            threading.Timer(0.5, end.set).start()
            print(anyio.run(CPU_LANE.run, log, (), {}))
        """,
        "[log] logged\ndone\n",
    ),
    "a loop that is dropped with work in flight": (
        """
        import asyncio, time

        async def main():
            task = asyncio.create_task(CPU_LANE.run(time.sleep, (30,), {}))
            await asyncio.sleep(0.3)
            print("leaving")

        if __name__ == "__main__":
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # asyncio complains of it
        """,
        "leaving\n",
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_program_that_uses_the_lane(name, tmp_path):
    text, says = SCRIPTS[name]
    head = "import anyio\nfrom anabranch import LaneError\n"
    head += "from anabranch.lanes._process import CPU_LANE\n"
    script = tmp_path / "program.py"
    script.write_text(head + textwrap.dedent(text))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (0, says), done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 10


def test_a_function_that_was_typed_says_that_no_process_can_find_it():
    text = "import anyio\nfrom anabranch.lanes._process import CPU_LANE\ndef typed(): pass\n"
    text += "anyio.run(CPU_LANE.run, typed, (), {})"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert "LaneError: typed was typed at a prompt or with -c" in done.stderr


def test_processes_end_with_their_loop(tmp_path):
    async def main():
        return await run(calls.pid)

    for loop in ("trio", "asyncio"):
        pid = anyio.run(main, backend=loop)
        assert not lives(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("room", range(12))
async def test_without_descriptors_the_call_fails_and_nothing_is_left(room):
    before = len(os.listdir("/proc/self/fd")) - 1
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    for each in taken:
        os.close(each)
    children = Children(current_host().runtime)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + room, limits[1]))
    try:
        child = children._take(Call(calls.pid, (), {}, "a"))
        said = ""
    except LaneError as error:
        said = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    if said:
        assert "no process could be started" in said
    else:
        child.kill()
        child.ended.wait(5)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) - 1 == before


def test_a_stream_that_ended_while_an_answer_was_read_is_not_ended_twice():
    child = Child.__new__(Child)
    ours, theirs = os.pipe()
    os.close(theirs)
    with selectors.DefaultSelector() as child._selector:
        key = child._selector.register(ours, selectors.EVENT_READ, print)
        assert [child._read(key), child._read(key)] == [b"", b""]
    os.close(ours)


async def test_a_process_that_works_while_its_lane_is_closed_ends_after_its_call():
    children = Children(current_host().runtime)
    async with anyio.create_task_group() as group:
        call = Call(time.sleep, (0.5,), {}, "a")
        group.start_soon(children.run, call)
        while not children._busy:
            await anyio.sleep(0.01)
        (child,) = children._busy
        children.close(kill=False, wait=False)
    assert children.count == 0
    assert await anyio.to_thread.run_sync(child.ended.wait, 10)
