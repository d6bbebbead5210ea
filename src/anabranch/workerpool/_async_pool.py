"""Run tasks in the host's loop, in the words of WorkerPool, with await where it waits.

The scheduler runs them; here they have their names and ids, and here is kept what became of them.
A wait in a task of the pool lends its token, as any block of a scheduler does.
Signatures are WorkerPool's on purpose, written out for people and type checkers to read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ALL_COMPLETED, CancelledError
from contextlib import ExitStack
from contextvars import copy_context
from typing import Any, Self

from anabranch._branch import Branch
from anabranch._host import Host, current_host
from anabranch._options import exact
from anabranch._scheduler import Scheduler
from anabranch._token import holding
from anabranch._work import Job, Status, is_async
from anabranch.errors import BranchTimedOutError, SchedulerClosedError, WaitTimeoutError
from anabranch.lanes._thread import io_lane
from anabranch.workerpool._async_waits import lending, missing_of, wait_in_loop
from anabranch.workerpool._checks import check_task, check_wait, check_word, unknown
from anabranch.workerpool._clock import wall_offset
from anabranch.workerpool._config import WorkerPoolConfig, check_count, config_of
from anabranch.workerpool._counts import Counts
from anabranch.workerpool._task import (
    ABANDONED,
    CANCELLED,
    RETRYING,
    RUNNING,
    TIMED_OUT,
    Task,
    TaskMetrics,
    TaskResult,
    TaskStatus,
    Terms,
)
from anabranch.workerpool._ways import too_late

ENDS = {
    Status.SUCCEEDED: TaskStatus.COMPLETED,
    Status.FAILED: TaskStatus.FAILED,
    Status.TIMED_OUT: TaskStatus.TIMED_OUT,
    Status.CANCELLED: TaskStatus.CANCELLED,
    Status.REJECTED: TaskStatus.CANCELLED,
    Status.ABANDONED: TaskStatus.ABANDONED,
}


class AsyncWorkerPool:
    """Run async functions on the running loop and plain ones in threads, at most so many at once.

    Use it with ``async with``: leaving the block waits for all tasks, an exception in it cancels
    them. An exit or interrupt that a task raises goes on, as it does from any task of the loop.

    Args:
        config: the terms of all tasks; its ``loop`` is not asked for, the running one is used.
        max_workers: how many tasks run at once; in place of a config.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    cancels = True  # single branches, the scheduler is told by this

    @exact("AsyncWorkerPool")
    def __init__(
        self, config: WorkerPoolConfig | int | None = None, *, max_workers: int | None = None
    ) -> None:
        self._config = config_of("AsyncWorkerPool", config, max_workers)
        self._terms = Terms(self._config.retry(), self._config.task_timeout_seconds)
        self._counts = Counts()
        self._tasks: dict[str, Task] = {}
        self._open: set[Task] = set()
        self._kept: deque[str] = deque()
        self._closed = True
        self._scheduler = Scheduler([self._config.max_workers], keeps=False, rules=[self])
        self._host: Host

    async def __aenter__(self) -> Self:
        self._host = current_host()
        self._offset = wall_offset(self._host.clock)
        with ExitStack() as threads:
            threads.enter_context(io_lane(self._host).at_least(self._config.max_workers))
            await self._scheduler.__aenter__()
            # Threads are the loop's, and there may be fewer than the pool has workers.
            self._threads = threads.pop_all()
        self._limiter = self._scheduler.limiter
        self._closed = False
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self._closed = True
        with self._threads:
            return await self._scheduler.__aexit__(kind, error, traceback)

    def submit_task(
        self,
        task_name: str,
        task_fn: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Accept a task, and return its id; never waits. As WorkerPool's, in the loop's thread.

        Raises:
            ConfigurationError: an argument that cannot be meant.
            SchedulerClosedError: the block was not entered, was left, or the pool was shut down.
        """
        check_task("AsyncWorkerPool.submit_task", task_name, task_fn, args, kwargs, priority)
        if self._closed:
            raise SchedulerClosedError(
                "the pool takes no tasks: its block was not entered, was left, or it was shut down"
            )
        task = Task(
            task_name, task_fn, tuple(args), dict(kwargs or {}), copy_context(), self._terms
        )
        number = self._counts.submitted + 1
        task.number, task.id = number, f"{number:06d}-{task_name}"
        retry, timeout = self._terms.retry, self._terms.timeout
        job = Job(task.id, self._timed(task), priority=priority, retry=retry, timeout=timeout)
        self._scheduler.submit(job)
        self._counts.submitted = number
        self._tasks[task.id] = task
        self._open.add(task)
        return task.id

    async def get_task_result(self, task_id: str, timeout: float | None = None) -> TaskResult:
        """Wait for a task, and return how it ended.

        Raises:
            KeyError: the id is unknown, or its result is forgotten (``keep_results=``).
            WaitTimeoutError: the wait is over (a TimeoutError); the task goes on.
            DeadlockError: the task is the one that asks, or waits for it (a RuntimeError).
        """
        check_wait("AsyncWorkerPool.get_task_result", timeout)
        task = self._tasks.get(task_id)
        if task is None:
            raise unknown(task_id)
        if not await self._wait([task], timeout, ALL_COMPLETED, one=True):
            raise WaitTimeoutError(f"task {task.name!r} has not ended in {timeout:g} s; it goes on")
        return self._result(task)

    async def wait_for_all(
        self, timeout: float | None = None, return_when: str = ALL_COMPLETED
    ) -> list[TaskResult]:
        """Wait for all tasks that were submitted till now; return the results of those that ended.

        Raises:
            WaitTimeoutError: the wait is over (a TimeoutError), with ``.results``; the tasks go on.
        """
        check_wait("AsyncWorkerPool.wait_for_all", timeout)
        check_word("AsyncWorkerPool.wait_for_all", return_when)
        tasks = list(self._tasks.values())
        in_time = await self._wait(tasks, timeout, return_when)
        results = [self._result(task) for task in tasks if task not in self._open]
        if not in_time:
            raise WaitTimeoutError(
                f"{len(tasks) - len(results)} of {len(tasks)} tasks have not ended in "
                f"{timeout:g} s; they go on, and .results has the others",
                results,
            )
        return results

    def abort_pending_tasks(self) -> int:
        """Cancel every task that waits, for a worker or for another attempt; return how many."""
        ledger = self._scheduler.ledger
        with ledger.lock:  # against a thread that takes one of them now
            waiting = ledger.waiting()
            for branch in waiting:
                branch.status = Status.CANCELLED
            ledger.queue.prune()
        for branch in waiting:
            reason = "abort_pending_tasks() was called before it ran"
            ledger.end(branch, Status.CANCELLED, reason)
        ledger.unpark()
        return len(waiting)

    def resize(self, max_workers: int) -> None:
        """Set how many tasks run at once; what runs above it goes on to its end."""
        check_count("AsyncWorkerPool.resize", "max_workers", max_workers, 1)
        if max_workers > self._limiter.total_tokens:
            self._threads.enter_context(io_lane(self._host).at_least(max_workers))
        self._limiter.total_tokens = max_workers

    def get_metrics(self) -> dict[str, TaskMetrics]:
        """Return how each task went, or goes, by its id, as far as it is kept."""
        if not self._config.enable_instrumentation:
            return {}
        now = self._host.clock()
        self._look()
        return {key: task.metrics(self._offset, now) for key, task in self._tasks.items()}

    def get_summary_metrics(self) -> dict[str, Any]:
        """Return how many tasks there are of each kind, and what they took; as WorkerPool's."""
        self._look()
        return self._counts.summary()

    async def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Accept nothing more; cancel what waits if asked to, and wait for the rest if asked to."""
        self._closed = True
        if cancel_futures:
            self.abort_pending_tasks()
        if wait:
            await self._wait(list(self._open), None, ALL_COMPLETED)

    def opened(self, scheduler: Any) -> None:
        """Hear that the scheduler has been opened."""

    def filled(self, scheduler: Any) -> None:
        """Hear that a step has its branches: there is no step here."""

    def forbids(self, key: str) -> str:
        """Say why a branch may not begin: nothing here says so."""
        return ""

    def closed(self, scheduler: Any) -> None:
        """Hear that the scheduler has been closed."""

    def ended(self, scheduler: Any, branch: Branch) -> None:
        """Record how a task ended, and tell whoever waits for it."""
        task = self._tasks[branch.key]
        assert branch.status is not None, "it has ended"
        status = ENDS[branch.status]
        refused = "" if branch.tries is None else branch.tries.refused
        if branch.status is Status.FAILED and "(timeout=" in refused:
            status = TIMED_OUT  # another attempt would have begun past it
        task.status, task.value, task.ended_at = status, branch.value, branch.ended_at
        task.error, task.attempts = branch.error, branch.attempts
        if status is CANCELLED:
            task.error = CancelledError(branch.reason)
        elif status in (TIMED_OUT, ABANDONED):
            struck = isinstance(branch.error, BranchTimedOutError)
            task.error = too_late(task, None if struck else branch.error)
        if status is ABANDONED:
            task.ran += branch.ended_at - task.attempt_at
        task.forget_call()
        self._open.discard(task)
        self._counts.end(task)
        waits, task.waits = task.waits or (), None
        for each in waits:
            each.note(task)
        if self._config.keep_results is not None:
            self._kept.append(task.id)
            if len(self._kept) > self._config.keep_results:
                del self._tasks[self._kept.popleft()]

    def _timed(self, task: Task) -> Callable[[], Any]:
        """Make the function that the scheduler calls: it keeps the times of each attempt."""
        clock, fn, args, kwargs = self._host.clock, task.fn, task.args, task.kwargs

        def begin(where: str) -> None:
            task.attempt_at = clock()
            task.thread_name = where
            if task.began_at is None:
                task.began_at = task.attempt_at

        async def call_async() -> Any:
            begin("loop")
            try:
                return await fn(*args, **kwargs)
            finally:
                task.ran += clock() - task.attempt_at

        def call() -> Any:
            begin(threading.current_thread().name)
            try:
                return fn(*args, **kwargs)
            finally:
                task.ran += clock() - task.attempt_at

        return call_async if is_async(fn) else call

    def _look(self) -> None:
        """See which tasks run now: what has begun is counted by the scheduler alone."""
        waiting = {branch.key: branch for branch in self._scheduler.ledger.waiting()}
        for task in self._open:
            branch = waiting.get(task.id)
            if branch is None:
                task.status = RUNNING
                task.attempts = max(1, task.attempts)
            elif branch.begun:
                task.status, task.attempts = RETRYING, branch.attempts
        self._counts.running = len(self._open) - len(waiting)

    async def _wait(
        self, tasks: list[Task], timeout: float | None, word: str, *, one: bool = False
    ) -> bool:
        own, runtime = self._own(), self._host.runtime
        await runtime.lowlevel.checkpoint()
        missing = missing_of(tasks, self._open, own, word, one=one)
        if not missing:
            return True
        async with lending(self._scheduler, self._host):
            return await wait_in_loop(self._host, missing, own, timeout, word)

    def _own(self) -> Task | None:
        """Return the task that the caller is, or is called by; None outside of the pool's."""
        held = holding.get()
        while held is not None:
            for hand in self._scheduler.ledger.hands:
                branch = hand.running() if hand.held is held else None
                if branch is not None:
                    return self._tasks.get(branch.key)
            held = held.parent
        return None

    def _result(self, task: Task) -> TaskResult:
        instrumented = self._config.enable_instrumentation
        return task.result(self._offset, with_metrics=instrumented)
