"""The pool, driven by rules against a model of itself: totals add up, each task ends once.

Tasks are puppets: each waits in its thread until a rule tells it what to do, so that every step
of a program is over before the next one begins, and the model knows what must be true.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anabranch import TaskStatus, WorkerPool, WorkerPoolConfig
from tests.workerpool.puppets import Puppet, until

pytestmark = pytest.mark.slow

RETRIES = 2
ENDED = {"completed", "failed", "cancelled", "timed_out", "abandoned"}


class PoolMachine(RuleBasedStateMachine):
    """Know what every task of one pool must be doing."""

    def __init__(self) -> None:
        super().__init__()
        self.before = set(threading.enumerate())
        self.limit = 2
        self.pool = WorkerPool(
            WorkerPoolConfig(
                max_workers=2, max_retries=RETRIES, backoff_base_seconds=60, backoff_max_seconds=60
            )
        )
        self.puppets: dict[str, Puppet] = {}  # by task id, in the order of submission
        self.model: dict[str, str] = {}
        self.priority: dict[str, int] = {}
        self.futures: dict[str, Future[Any]] = {}
        self.ends: Counter[str] = Counter()
        self.numbers = count()
        self.closed = False

    # What the model expects ----------------------------------------------------------------

    def start_what_may(self) -> None:
        while sum(status == "running" for status in self.model.values()) < self.limit:
            waiting = [key for key, status in self.model.items() if status == "pending"]
            if not waiting:
                return
            self.model[max(waiting, key=lambda key: self.priority[key])] = "running"

    def named(self, *statuses: str) -> list[str]:
        return [key for key, status in self.model.items() if status in statuses]

    def expected(self) -> dict[str, int]:
        kinds = Counter(self.model.values())
        kinds["pending"] += kinds.pop("retrying", 0)
        return {kind: kinds[kind] for kind in [*ENDED, "pending", "running"]}

    def come_to_rest(self) -> None:
        """Wait until the threads have done what the model has done already."""

        def rests() -> bool:
            summary = self.pool.get_summary_metrics()
            begun = all(self.puppets[key].running.is_set() for key in self.named("running"))
            return begun and all(summary[kind] == n for kind, n in self.expected().items())

        until(rests, lambda: f"{self.model}, {self.pool.get_summary_metrics()}")

    # What may happen -----------------------------------------------------------------------

    @precondition(lambda self: not self.closed)
    @rule(priority=st.integers(-1, 1), as_future=st.booleans())
    def submit(self, priority: int, as_future: bool) -> None:
        puppet = Puppet()
        if as_future:
            key = f"future {next(self.numbers)}"
            future = self.pool.submit(puppet)
            future.add_done_callback(lambda _: self.ends.update([key]))
            self.futures[key] = future
            priority = 0
        else:
            key = self.pool.submit_task("puppet", puppet, priority=priority)
        assert key not in self.puppets
        self.puppets[key], self.priority[key], self.model[key] = puppet, priority, "pending"
        self.start_what_may()

    @precondition(lambda self: self.closed)
    @rule()
    def submit_after_shutdown(self) -> None:
        with pytest.raises(RuntimeError, match="after shutdown"):
            self.pool.submit(print)
        with pytest.raises(RuntimeError, match="after shutdown"):
            self.pool.submit_task("late", print)

    @precondition(lambda self: self.named("running"))
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "exit"]))
    def end_a_call(self, data: st.DataObject, how: str) -> None:
        key = data.draw(st.sampled_from(self.named("running")))
        puppet = self.puppets[key]
        puppet.tell(how)
        again = how == "fail" and puppet.calls <= RETRIES
        self.model[key] = "retrying" if again else "completed" if how == "finish" else "failed"
        self.start_what_may()

    @rule()
    def abort(self) -> None:
        waiting = self.named("pending", "retrying")
        assert self.pool.abort_pending_tasks() == len(waiting)
        for key in waiting:
            self.model[key] = "cancelled"

    @precondition(lambda self: self.futures)
    @rule(data=st.data())
    def cancel_a_future(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(list(self.futures)))
        status = self.model[key]
        assert self.futures[key].cancel() is (
            status == "pending" or (status == "cancelled" and self.puppets[key].calls == 0)
        )
        if status == "pending":
            self.model[key] = "cancelled"

    @rule(limit=st.integers(1, 4))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.pool.resize(limit)
        self.start_what_may()

    @rule()
    def time_passes_over_the_running(self) -> None:
        board = self.pool._board
        with board.lock:  # their deadline comes: nothing waits for it here
            for hand in board.hands:
                if hand.task is not None:
                    hand.task.deadline = 0.0
            board.engine.ring_by(0.0)
        board.launch()
        for key in self.named("running"):
            self.model[key] = "abandoned"
        abandoned = self.named("abandoned")
        until(lambda: self.pool.get_summary_metrics()["abandoned"] == len(abandoned))
        for key in abandoned:  # until its thread ends it holds its worker, and nothing else starts
            self.puppets[key].tell("finish")
        self.start_what_may()

    @rule()
    def shut_down(self) -> None:
        self.pool.shutdown(wait=False)
        self.closed = True

    # What is always true -------------------------------------------------------------------

    @invariant()
    def totals_add_up(self) -> None:
        self.come_to_rest()
        assert self.pool.get_summary_metrics()["submitted"] == sum(self.expected().values())

    @invariant()
    def each_task_is_where_the_model_says(self) -> None:
        self.come_to_rest()
        listed = {key: TaskStatus(status) for key, status in self.model.items()}
        listed = {key: status for key, status in listed.items() if key not in self.futures}
        assert {key: each.status for key, each in self.pool.get_metrics().items()} == listed
        assert list(listed) == list(self.pool.get_metrics())

    @invariant()
    def each_task_has_ended_at_most_once(self) -> None:
        self.come_to_rest()
        ended = {key for key in self.futures if self.model[key] in ENDED}
        until(lambda: set(self.ends) == ended, lambda: f"{self.ends} {ended}")
        assert all(times == 1 for times in self.ends.values())

    def teardown(self) -> None:
        self.pool.abort_pending_tasks()
        for puppet in self.puppets.values():
            puppet.tell("finish")
        self.pool.shutdown()
        # That of an abandoned call is not waited for, and may be about to end.
        until(lambda: set(threading.enumerate()) <= self.before)
        summary = self.pool.get_summary_metrics()
        assert summary["submitted"] == sum(summary[kind] for kind in ENDED)


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
