"""A pool goes when nobody has it any more, whatever its tasks have left behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from anabranch import WorkerPool, WorkerPoolConfig
from tests.workerpool.puppets import until


class Job:
    """Have a pool, as a program's own classes do, and raise from a frame that refers to it."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def fail(self) -> None:
        pool = self.pool
        raise ValueError(f"{pool!r:.10}")


@pytest.mark.slow  # it collects all garbage
@pytest.mark.parametrize("wait", [True, False])
def test_a_pool_that_was_shut_down_is_collected_although_an_error_of_its_tasks_refers_to_it(wait):
    pool = WorkerPool(WorkerPoolConfig(max_workers=2, max_retries=0))
    pool.submit_task("fails", Job(pool).fail)
    assert not pool.wait_for_all()[0].success
    pool.shutdown(wait=wait)
    gone = weakref.ref(pool)
    del pool

    def collected() -> bool:
        gc.collect()
        return gone() is None

    until(collected)
