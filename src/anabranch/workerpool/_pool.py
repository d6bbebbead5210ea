"""Run tasks of a synchronous program, from any thread, and tell what became of each."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, Executor
from contextvars import copy_context
from itertools import count
from typing import Any, ParamSpec, TypeVar, overload
from weakref import finalize

from sniffio import current_async_library_cvar

from anabranch._options import exact
from anabranch._token import holding
from anabranch._work import check_callable, is_async, name_of
from anabranch.errors import ConfigurationError, WaitTimeoutError
from anabranch.workerpool._board import Board
from anabranch.workerpool._checks import check_task, check_wait, check_word, unknown
from anabranch.workerpool._clock import monotonic
from anabranch.workerpool._config import WorkerPoolConfig, check_count, config_of
from anabranch.workerpool._exit import end, end_at_exit
from anabranch.workerpool._future import TaskFuture
from anabranch.workerpool._mapping import map_over
from anabranch.workerpool._task import Task, TaskMetrics, TaskResult, Terms, is_plain
from anabranch.workerpool._waits import wait
from anabranch.workerpool._ways import abort

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("anabranch")

_numbers = count()
ONCE = Terms(None, None)


class WorkerPool(Executor):
    """Run plain functions in threads and async ones on a loop, at most so many at once.

    Everything may be called from any thread. A pool is a ``concurrent.futures.Executor``, too.

    Args:
        config: the terms of all tasks. Without one, ``submit_task`` works on those of
            ``WorkerPoolConfig()``; ``submit`` and ``map`` call once and know no timeout,
            as those of ThreadPoolExecutor do.
        max_workers: how many tasks run at once; in place of a config. A number in the config's
            place is the same.
        thread_name_prefix: begins the names of the pool's threads.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    @exact("WorkerPool")
    def __init__(
        self,
        config: WorkerPoolConfig | int | None = None,
        *,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
    ) -> None:
        if not isinstance(thread_name_prefix, str):
            raise ConfigurationError(
                f"WorkerPool: thread_name_prefix={thread_name_prefix!r} "
                f"({type(thread_name_prefix).__name__}) is no string"
            )
        self._config = config_of("WorkerPool", config, max_workers)
        timeout = self._config.task_timeout_seconds
        self._terms = Terms(self._config.retry(), timeout)
        self._future_terms = self._terms if isinstance(config, WorkerPoolConfig) else ONCE
        self._board = Board(
            self._config.max_workers,
            keep=self._config.keep_results,
            loop=self._config.loop,
            name=thread_name_prefix or f"WorkerPool-{next(_numbers)}",
        )
        end_at_exit(self._board)
        # A pool that nobody has any more ends with its tasks, as if it were shut down.
        self._finalizer = finalize(self, _forgotten, self._board)
        self._finalizer.atexit = False

    def submit_task(
        self,
        task_name: str,
        task_fn: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Accept a task, and return its id; never waits.

        Args:
            task_name: for people; several tasks may have the same.
            task_fn: a function or async function; called as ``task_fn(*args, **kwargs)``.
            priority: larger is more urgent; first submitted first among equals.

        Raises:
            ConfigurationError: an argument that cannot be meant.
            RuntimeError: the pool was shut down.
        """
        check_task("WorkerPool.submit_task", task_name, task_fn, args, kwargs, priority)
        task = self._task(task_name, task_fn, tuple(args), dict(kwargs or {}), self._terms)
        task.priority = priority
        self._board.add(task)
        return task.id

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> TaskFuture[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture[Any]:
        """Accept a call as a task, and return its future; never waits.

        The future may be awaited, too, in any loop.

        Raises:
            ConfigurationError: ``fn`` cannot be called.
            RuntimeError: the pool was shut down.
        """
        if not is_plain(fn):
            check_callable("WorkerPool.submit", fn)
        task = self._task(name_of(fn), fn, args, kwargs, self._future_terms)
        task.listed = False  # its future is what people ask
        future: TaskFuture[Any] = TaskFuture(self._board, task)
        task.future = future
        self._board.add(task)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Call ``fn`` with items of each iterable; iterate over the results, in their order.

        Args:
            timeout: seconds from now within which each result must be there.
            chunksize: how many calls a task makes, one after another; an async function's make one.
            buffersize: how many tasks are submitted ahead of the one whose result is asked for;
                None for all of them, at once.

        Raises:
            ConfigurationError: an argument that cannot be meant.
            TimeoutError: by the iterator, a result is not there in time.
        """
        check_callable("WorkerPool.map", fn)
        check_count("WorkerPool.map", "chunksize", chunksize, 1)
        if buffersize is not None:
            check_count("WorkerPool.map", "buffersize", buffersize, 1)
        size = 1 if is_async(fn) else chunksize
        return map_over(self.submit, fn, iterables, timeout=timeout, size=size, ahead=buffersize)

    def get_task_result(self, task_id: str, timeout: float | None = None) -> TaskResult:
        """Wait for a task, and return how it ended.

        Raises:
            KeyError: the id is unknown, or its result is forgotten (``keep_results=``).
            WaitTimeoutError: the wait is over (a TimeoutError); the task goes on.
            DeadlockError: the task is the one that asks, or waits for it (a RuntimeError).
            HostLoopError: called on the pool's own loop, which runs the task (a RuntimeError).
        """
        self._board.check_process()
        check_wait("WorkerPool.get_task_result", timeout)
        task = self._board.tasks.get(task_id)
        if task is None:
            raise unknown(task_id)
        if not wait(self._board, [task], timeout, one=True):
            raise WaitTimeoutError(f"task {task.name!r} has not ended in {timeout:g} s; it goes on")
        return self._result(task)

    def wait_for_all(
        self, timeout: float | None = None, return_when: str = ALL_COMPLETED
    ) -> list[TaskResult]:
        """Wait for all tasks that were submitted till now, those of futures too.

        Args:
            timeout: seconds; None for ever.
            return_when: ``ALL_COMPLETED``, ``FIRST_COMPLETED`` or ``FIRST_EXCEPTION``.

        Returns:
            Of each task of ``submit_task`` that has ended, and was kept when the wait began, in the
            order of submission.

        Raises:
            WaitTimeoutError: the wait is over (a TimeoutError), with ``.results``; the tasks go on.
            HostLoopError: called on the pool's own loop, which runs the tasks (a RuntimeError).
        """
        board = self._board
        board.check_process()
        check_wait("WorkerPool.wait_for_all", timeout)
        check_word("WorkerPool.wait_for_all", return_when)
        with board.lock:
            listed = list(board.tasks.values())
            tasks = [*listed, *[task for task in board.open if not task.listed]]
        in_time = wait(board, tasks, timeout, return_when)
        with board.lock:
            ended = [task for task in listed if task not in board.open]
        results = [self._result(task) for task in ended]
        if not in_time:
            raise WaitTimeoutError(
                f"{len(tasks) - len(ended)} of {len(tasks)} tasks have not ended in {timeout:g} s; "
                f"they go on, and .results has the others",
                results,
            )
        return results

    def abort_pending_tasks(self) -> int:
        """Cancel every task that waits, for a worker or for another attempt; return how many.

        What runs goes on to its end; what is submitted after runs as usual.
        """
        self._board.check_process()
        return abort(self._board, "abort_pending_tasks() was called before it ran")

    def resize(self, max_workers: int) -> None:
        """Set how many tasks run at once; what runs above it goes on to its end.

        Raises:
            ConfigurationError: it is no whole number of at least 1.
        """
        check_count("WorkerPool.resize", "max_workers", max_workers, 1)
        self._board.check_process()
        self._board.resize(max_workers)

    @property
    def max_workers(self) -> int:
        """How many tasks may run at once, now."""
        return self._board.limit

    def get_metrics(self) -> dict[str, TaskMetrics]:
        """Return how each task of ``submit_task`` went, or goes, by its id, as far as it is kept.

        Empty where the config says ``enable_instrumentation=False``.
        """
        board = self._board
        board.check_process()
        if not self._config.enable_instrumentation:
            return {}
        with board.lock:
            now = monotonic()
            return {key: task.metrics(board.offset, now) for key, task in board.tasks.items()}

    def get_summary_metrics(self) -> dict[str, Any]:
        """Return how many tasks there are of each kind, and what they took.

        ``submitted`` is the sum of ``pending`` (those between two attempts too), ``running``,
        ``completed``, ``failed``, ``cancelled``, ``timed_out`` and ``abandoned``.
        ``avg_execution_time_ms`` is of the tasks that were called and have ended, 0.0 for none;
        ``total_retries`` likewise.
        """
        self._board.check_process()
        with self._board.lock:
            return self._board.counts.summary()

    def shutdown(self, wait: bool = True, cancel_futures: bool = False) -> None:
        """Accept nothing more; wait for all tasks, and for the threads. May be called again.

        A thread whose task was abandoned is not waited for. In a task of the pool itself this
        waits for the others.

        Args:
            wait: False returns at once; the tasks go on.
            cancel_futures: cancel what waits for a worker, or for another attempt.
        """
        board = self._board
        if board.pid != os.getpid():
            return  # nothing of it is in this process
        board.close()
        self._finalizer.detach()  # it keeps the board, whose errors may keep this pool for ever
        if cancel_futures:
            abort(board, "the pool was shut down before it ran")
        if wait:
            end(board)

    def _task(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        terms: Terms,
    ) -> Task:
        context = copy_context()
        # What the caller's thread is to its loop, the task's thread is not.
        if holding.get() is not None:
            context.run(holding.set, None)
        if current_async_library_cvar.get() is not None:
            context.run(current_async_library_cvar.set, None)
        return Task(name, fn, args, kwargs, context, terms)

    def _result(self, task: Task) -> TaskResult:
        instrumented = self._config.enable_instrumentation
        return task.result(self._board.offset, with_metrics=instrumented)


def _forgotten(board: Board) -> None:
    """Close a pool that nobody has any more; a collector may call this anywhere, so elsewhere."""
    if not board.closed and (board.hands or board.engine.thread is not None):
        try:
            threading.Thread(target=board.close, daemon=True).start()
        except RuntimeError:  # the interpreter ends
            pass
