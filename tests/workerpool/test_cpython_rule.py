"""What of CPython's tests is left out, and why."""

import pytest

from tests.workerpool.cpython import runner


def reads(self):
    return self.executor._threads


def names():
    return "ThreadPoolExecutor"


def passes(pool):
    pool(initializer=print)


def is_run(self):
    assert self.executor.submit(pow, 2, 8).result() == 256, self.__class__


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (reads, "reads _threads"),
        (names, "names ThreadPoolExecutor"),
        (passes, "passes initializer"),
        (is_run, ""),
    ],
)
def test_a_test_is_left_out_by_the_rule_only(function, reason):
    assert runner.why_not(function) == reason


def test_a_child_process_can_import_the_pool_as_if_it_were_an_executor():
    seen = []
    run = runner.with_prelude(lambda *args, **_: seen.append(args))
    run("-c", "from concurrent.futures import WorkerPool")
    compile(seen[0][1], "<child>", "exec")
    assert seen[0][1].index("concurrent.futures.WorkerPool =") < seen[0][1].index("from conc")
