"""Several threads do at random what they may with one pool, while its tasks wait for tasks.

What is checked is what must be true whatever happens: it ends, totals add up, tokens are home,
never more run than may, and no thread is left.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import CancelledError, as_completed
from typing import Any

import anyio
import pytest

from anabranch import WorkerPool, WorkerPoolConfig
from tests.workerpool.puppets import PATIENCE, until

pytestmark = pytest.mark.slow

ENDS = ("completed", "failed", "cancelled", "timed_out", "abandoned")
SECONDS = 0.5


class Chaos:
    """Have a pool, tasks that do anything, and people who do anything with it."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.limit = draw.choice([1, 2, 5])
        self.pool = WorkerPool(
            WorkerPoolConfig(
                max_workers=self.limit,
                max_retries=draw.choice([0, 2]),
                backoff_base_seconds=draw.choice([0, 0.001, 0.01]),
                task_timeout_seconds=draw.choice([None, 0.02, 1]),
                keep_results=draw.choice([None, 3, 0]),
                loop=draw.choice(["asyncio", "trio"]),
            )
        )
        self.errors: list[BaseException] = []
        self.now = self.peak = 0
        self._lock = threading.Lock()

    def work(self, draw: random.Random, seconds: float) -> None:
        """Use the processor, or sleep, counted."""
        with self._lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        time.sleep(seconds)
        with self._lock:
            self.now -= 1
        if draw.random() < 0.2:
            raise ValueError

    def plain(self, seed: float, left: int) -> Any:
        """Work, then wait for others in one way or another."""
        draw, pool = random.Random(seed), self.pool
        self.work(draw, draw.choice([0, 0, 0.001, 0.03]))
        again = (draw.random(), left - 1)
        match draw.choice("frampi") if left else "":
            case "f":
                return pool.submit(draw.choice([self.plain, self.on_loop]), *again).result(PATIENCE)
            case "r":
                task = pool.submit_task("inner", self.plain, again)
                return pool.get_task_result(task, PATIENCE)
            case "a":
                return len(pool.wait_for_all(PATIENCE))
            case "m":
                return list(pool.map(self.plain, *([each] for each in again)))
            case "p":
                return list(as_completed([pool.submit(self.on_loop, *again)], PATIENCE))
        return None

    async def on_loop(self, seed: float, left: int) -> Any:
        """Likewise, in the loop."""
        draw = random.Random(seed)
        await anyio.sleep(draw.choice([0, 0, 0.001, 0.03]))
        if left and draw.random() < 0.5:
            fn = draw.choice([self.plain, self.on_loop])
            return await self.pool.submit(fn, draw.random(), left - 1)
        return None

    def use(self, seed: float) -> None:
        """Do anything with the pool, for a while."""
        draw, end = random.Random(seed), time.monotonic() + SECONDS
        try:
            while time.monotonic() < end:
                self.act(draw)
        except BaseException as error:
            self.errors.append(error)

    def act(self, draw: random.Random) -> None:
        """Do one thing."""
        pool, call = self.pool, (draw.choice([self.plain, self.on_loop]), draw.random(), 2)
        match draw.choices("tfcegawsz", [30, 15, 5, 5, 2, 2, 4, 4, 20])[0]:
            case "t":
                pool.submit_task("task", call[0], call[1:], priority=draw.randint(-1, 1))
            case "f":
                pool.submit(*call)
            case "c":
                pool.submit(*call).cancel()
            case "e":
                try:
                    pool.submit(*call).exception(PATIENCE)
                except CancelledError:
                    pass
            case "g":
                pool.get_metrics()
            case "a":
                pool.abort_pending_tasks()
            case "w":
                try:
                    pool.wait_for_all(timeout=0.002)
                except TimeoutError:
                    pass
            case "s":
                self.check()
            case "z":
                time.sleep(0.001)

    def check(self) -> dict[str, Any]:
        """See that the totals add up."""
        summary = self.pool.get_summary_metrics()
        assert summary["submitted"] == sum(summary[x] for x in (*ENDS, "pending", "running"))
        assert min(summary.values()) >= 0
        return summary


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_with_a_pool_it_ends_and_its_totals_add_up(seed: int) -> None:
    before = set(threading.enumerate())
    chaos = Chaos(seed)
    people = [threading.Thread(target=chaos.use, args=(seed + n / 10,)) for n in range(4)]
    for each in people:
        each.start()
    for each in people:
        each.join(2 * PATIENCE)
    chaos.pool.shutdown(cancel_futures=True)
    assert not chaos.errors
    summary = chaos.check()
    assert (summary["pending"], summary["running"]) == (0, 0)
    until(lambda: not chaos.pool._board.in_use)
    until(lambda: set(threading.enumerate()) <= before)
    assert chaos.peak <= chaos.limit
