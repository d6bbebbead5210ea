"""The pool as an Executor: what its users count on, beside what CPython's own tests check."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from anabranch import ConfigurationError, WorkerPool, WorkerPoolConfig
from tests.workerpool.cpython import __main__ as finder
from tests.workerpool.puppets import Gauge, Puppet, until


def test_it_is_an_executor_and_its_futures_are_futures() -> None:
    with WorkerPool(2) as pool:
        assert isinstance(pool, Executor)
        futures = [pool.submit(int, n) for n in range(20)]
        assert all(isinstance(each, Future) for each in futures)
        assert {each.result() for each in as_completed(futures)} == set(range(20))
        assert wait(futures).done == set(futures)


def test_map_yields_results_in_the_order_of_the_items() -> None:
    with WorkerPool(4) as pool:
        for chunksize in (1, 2, 7, 100):
            assert list(pool.map(pow, range(20), itertools.repeat(2), chunksize=chunksize)) == [
                n**2 for n in range(20)
            ]
        assert list(pool.map(int)) == []
        assert list(pool.map(int, [], chunksize=3)) == []


@pytest.mark.parametrize("chunksize", [1, 2, 5])
def test_map_yields_what_came_before_an_error_then_raises_it(chunksize: int) -> None:
    with WorkerPool(2) as pool:
        results = pool.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=chunksize)
        assert [next(results), next(results)] == [(0, 1), (0, 1)]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_a_chunk_that_is_tried_again_goes_on_where_it_failed() -> None:
    calls: list[int] = []

    def flaky(n: int) -> int:
        calls.append(n)
        if n == 2 and calls.count(2) < 3:
            raise ValueError
        return n

    config = WorkerPoolConfig(max_workers=1, max_retries=2, backoff_base_seconds=0.001)
    with WorkerPool(config) as pool:
        assert list(pool.map(flaky, range(4), chunksize=4)) == [0, 1, 2, 3]
    assert calls == [0, 1, 2, 2, 2, 3]


def test_map_submits_ahead_as_far_as_it_is_told() -> None:
    pulled: list[int] = []

    def items() -> Any:
        for n in itertools.count():
            pulled.append(n)
            yield n

    with WorkerPool(2) as pool:
        results = pool.map(int, items(), buffersize=5)
        assert len(pulled) == 5
        assert [next(results) for _ in range(10)] == list(range(10))
        assert len(pulled) <= 15
        results.close()  # type: ignore[attr-defined]  # it is a generator
        assert list(pool.map(int, range(9), buffersize=2, chunksize=2)) == list(range(9))


def test_map_of_an_async_function_runs_on_the_loop() -> None:
    async def double(n: int) -> int:
        return 2 * n

    with WorkerPool(2) as pool:
        assert list(pool.map(double, range(5), chunksize=3)) == [0, 2, 4, 6, 8]


def test_map_cancels_what_is_left_when_a_result_is_late_or_nobody_reads_on() -> None:
    gauge, first = Gauge(), Puppet()
    with WorkerPool(1) as pool:
        pool.submit(first)
        late = pool.map(gauge, range(5), timeout=0.01)
        with pytest.raises(TimeoutError):
            next(late)
        unread = pool.map(lambda n: gauge(n, 0.005), range(200), timeout=60)
        first.tell("finish")
        next(unread)
        del unread
    assert len(gauge.order) < 200


@pytest.mark.parametrize("options", [{"chunksize": 0}, {"chunksize": True}, {"buffersize": 0}])
def test_map_refuses_what_cannot_be_meant(options: dict[str, Any]) -> None:
    with WorkerPool(1) as pool, pytest.raises(ConfigurationError, match=next(iter(options))):
        pool.map(int, [1], **options)


def test_shutdown_cancels_what_waits_if_asked_to() -> None:
    pool, running = WorkerPool(1), Puppet()
    first, second = pool.submit(running), pool.submit(int)
    running.running.wait(5)
    pool.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    running.tell("finish")
    pool.shutdown()
    assert first.result() == "done"


def test_leaving_the_block_waits_for_tasks_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    gauge, first = Gauge(), Puppet()
    with WorkerPool(5, thread_name_prefix="mine") as pool:
        pool.submit(first)
        for n in range(20):
            pool.submit(gauge, n, 0.001)
        until(first.running.is_set)
        names = {each.name for each in set(threading.enumerate()) - before}
        first.tell("finish")
    assert names
    assert all(name.startswith("mine_") for name in names)
    assert len(gauge.order) == 20
    assert set(threading.enumerate()) <= before


def test_no_more_threads_are_started_than_there_are_workers() -> None:
    before = set(threading.enumerate())  # some of others may yet end
    with WorkerPool(3) as pool:
        puppets = [Puppet() for _ in range(10)]
        for each in puppets:
            pool.submit(each)
        until(lambda: sum(each.calls for each in puppets) == 3)
        assert len(set(threading.enumerate()) - before) == 3
        for each in puppets:
            each.tell("finish")


def test_an_idle_thread_is_used_again() -> None:
    before = set(threading.enumerate())  # some of others may yet end
    with WorkerPool(5) as pool:
        for n in range(20):
            assert pool.submit(int, n).result() == n
            until(lambda: bool(pool._board._idle))
        assert len(set(threading.enumerate()) - before) == 1


# CPython's own tests ---------------------------------------------------------------------------


@pytest.mark.slow
def test_cpythons_own_tests_pass_where_they_are_installed() -> None:
    done = run_finder()
    if done.returncode == finder.SKIPPED:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests of " in done.stdout
    assert " 0 failed" in done.stdout


def test_no_tests_to_run_is_a_skip_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finder.main(["--from", str(tmp_path)]) == finder.SKIPPED != 0
    assert "SKIPPED" in capsys.readouterr().err


def run_finder(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.workerpool.cpython", *args],
        cwd=finder.ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )


def test_a_named_folder_is_looked_at_first_and_alone(tmp_path: Path) -> None:
    assert list(finder.places(tmp_path)) == [tmp_path]
    assert next(iter(finder.places(None))).name.startswith("python3")
    for package in ("test_concurrent_futures", "support"):
        (tmp_path / "test" / package).mkdir(parents=True)
    assert finder.has_tests(tmp_path)
    assert finder.python_of(tmp_path) == Path(sys.executable)
