"""Programs that end with a pool in some state: their exit code, their time, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.slow

BEFORE = """
import asyncio, atexit, os, sys, threading, time
from anabranch import WorkerPool, WorkerPoolConfig
"""


def run(program: str) -> tuple[int, str, str, float]:
    """Run a program; return its exit code, what it wrote, and the seconds since its last line."""
    code = BEFORE + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    ended = time.time()
    last = done.stdout.split()[-1] if done.stdout.split() else "0"
    return done.returncode, done.stdout, done.stderr, ended - float(last)


def soon(seconds: float) -> bool:
    """Tell a second or less, or as much more as the machine makes a program without a pool wait."""
    return seconds < 1 or seconds < 1 + 5 * run("print(time.time())")[3]


FORGETFUL = {
    "plain": "WorkerPool(2).submit(task)",
    "many behind few": "pool = WorkerPool(2)\nfor _ in range(9): pool.submit_task('t', task)",
    "async": "pool = WorkerPool(2)\npool.submit_task('t', on_loop)",
    "async on trio": "pool = WorkerPool(WorkerPoolConfig(loop='trio'))\npool.submit(on_trio)",
    "retrying": "pool = WorkerPool(WorkerPoolConfig(backoff_base_seconds=0.05))\n"
    "pool.submit_task('t', fails)",
    "idle": "pool = WorkerPool(2)\npool.submit(task).result()",
    "no task": "pool = WorkerPool(2)\ntask()",
    "shut down without waiting": "pool = WorkerPool(2)\npool.submit(task)\n"
    "pool.shutdown(wait=False)",
    "in a thread": "threading.Thread(target=lambda: WorkerPool(2).submit(task)).start()",
    "abandoned": "pool = WorkerPool(WorkerPoolConfig(task_timeout_seconds=0.1))\n"
    "pool.submit_task('stuck', time.sleep, (60,))\npool.wait_for_all()\ntask()",
    "a pool made in atexit": "atexit.register(lambda: WorkerPool(2).submit(task).result())",
    "submitted in atexit": "atexit.register(lambda: WorkerPool(2).submit(task))",
}
TASKS = r"""
def task():
    time.sleep(0.05)
    os.write(1, f"{time.time()}\n".encode())
async def on_loop():
    await asyncio.sleep(0.05)
    os.write(1, f"{time.time()}\n".encode())
async def on_trio():
    import trio
    await trio.sleep(0.05)
    os.write(1, f"{time.time()}\n".encode())
def fails(tries=[]):
    tries.append(1)
    if len(tries) < 3:
        raise ValueError
    task()
"""


@pytest.mark.parametrize("forgets", FORGETFUL.values(), ids=FORGETFUL)
def test_a_program_that_forgets_shutdown_ends_within_a_second_of_its_last_task(
    forgets: str,
) -> None:
    code, out, err, seconds = run(TASKS + forgets)
    assert (code, err) == (0, "")
    assert len(out.split()) == (9 if "range(9)" in forgets else 1)
    assert soon(seconds)


@pytest.mark.parametrize(
    ("ends", "code"), [("sys.exit(3)", 3), ("raise SystemExit", 0), ("1 / 0", 1)]
)
def test_a_program_keeps_its_exit_code_and_its_tasks_end(ends: str, code: int) -> None:
    found, out, err, seconds = run(TASKS + f"WorkerPool(2).submit(task)\n{ends}")
    assert found == code
    assert len(out.split()) == 1
    assert ("ZeroDivisionError" in err) == (code == 1)
    assert soon(seconds)


def test_a_task_that_exits_or_is_interrupted_ends_nothing_but_itself() -> None:
    code, out, err, _ = run("""
        def out(kind): raise kind
        async def out_of_loop(kind): raise kind
        class Strange(BaseException): pass
        with WorkerPool(WorkerPoolConfig(max_workers=2)) as pool:
            for fn in (out, out_of_loop):
                for kind in (SystemExit, KeyboardInterrupt, Strange, GeneratorExit):
                    error = pool.submit(fn, kind).exception()
                    result = pool.get_task_result(pool.submit_task("t", fn, (kind,)))
                    assert type(error) is kind and type(result.error.__cause__) is kind, error
                    assert result.metrics.retries_used == 0
            print(pool.get_summary_metrics()["failed"])
    """)
    assert (code, out.strip(), err) == (0, "16", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_the_pool_of_a_forked_process_refuses_and_the_parents_goes_on() -> None:
    code, out, err, _ = run("""
        import warnings
        warnings.simplefilter("ignore")  # of forking beside threads: it is what is tested
        pool = WorkerPool(2)
        pool.submit(int).result()
        running = pool.submit(time.sleep, 0.2)
        task = pool.submit_task("t", time.sleep, (0.2,))
        child = os.fork()
        if not child:
            refused = 0
            for call in (
                lambda: pool.submit(int), lambda: pool.submit_task("t", int), running.result,
                running.cancel, lambda: pool.get_task_result(task), pool.wait_for_all,
                pool.abort_pending_tasks, pool.get_summary_metrics, pool.get_metrics,
                lambda: pool.resize(3), running.exception,
            ):
                try:
                    call()
                except RuntimeError as error:
                    refused += "make a new WorkerPool in process" in str(error)
            pool.shutdown()
            with WorkerPool(1) as other:
                refused += other.submit(int, 100).result()
            sys.exit(refused)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        running.result()
        print(code, pool.submit(int, 5).result())
    """)
    assert (code, out.strip(), err) == (0, "111 5", "")


def test_ctrl_c_at_the_end_cancels_what_waits_and_ends_without_a_traceback() -> None:
    code, out, err, _ = run("""
        import signal
        pool = WorkerPool(1)
        pool.submit(time.sleep, 60)
        behind = pool.submit(print, "ran")
        behind.add_done_callback(lambda each: print(int(each.cancelled()), flush=True))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    """)
    assert out.split() == ["1"]
    assert "Traceback" not in err
    assert code == 0


def test_a_pool_that_nobody_has_any_more_ends_with_its_tasks() -> None:
    code, out, err, _ = run("""
        import gc
        pool = WorkerPool(2)
        ring = [pool]; ring.append(ring)
        future = pool.submit(time.sleep, 0.05)
        pool.submit_task("t", time.sleep, (0.05,))
        del pool, ring
        gc.collect()
        future.result()
        for _ in range(200):
            if threading.active_count() == 1:
                break
            time.sleep(0.01)
        print(threading.active_count())
    """)
    assert (code, out.strip(), err) == (0, "1", "")
