"""Carry one task from its submission to its end, and build what users see of it.

A task is one plain object that is changed in place, under the lock of its pool's board;
``TaskResult`` and ``TaskMetrics`` are built from it when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from enum import StrEnum
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR, CO_ITERABLE_COROUTINE
from types import FunctionType
from typing import Any

import attrs

from anabranch._retry import Retry
from anabranch._work import is_async
from anabranch.errors import TaskExecutionError


class TaskStatus(StrEnum):
    """Say where a task is; a status is a string and compares as one."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"


PENDING, RUNNING, RETRYING = TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.RETRYING
COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED
CANCELLED, TIMED_OUT, ABANDONED = TaskStatus.CANCELLED, TaskStatus.TIMED_OUT, TaskStatus.ABANDONED

SUSPENDS = CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR | CO_ITERABLE_COROUTINE

ENDS = (COMPLETED, FAILED, CANCELLED, TIMED_OUT, ABANDONED)


@attrs.frozen
class TaskMetrics:
    """Tell how one task went, or goes.

    Attributes:
        start_time: seconds since 1970 when it was first called; 0.0 if it never was.
        end_time: likewise when it ended; None while it has not.
        execution_time_ms: of all its attempts; the waits between them are not counted.
        retries_used: how often it was called again.
        worker_id: the thread that called it last; None if it never was.
        error_message: why it did not succeed; None if it did, or has not ended.
    """

    task_id: str
    task_name: str
    status: TaskStatus
    start_time: float
    end_time: float | None
    execution_time_ms: float
    retries_used: int
    worker_id: str | None
    error_message: str | None


@attrs.frozen
class TaskResult:
    """Tell how one task ended.

    Attributes:
        result: what the function returned; None unless it succeeded.
        error: a TaskExecutionError, whose ``__cause__`` is what the function raised, or what
            stopped it; None if it succeeded.
        metrics: None where the pool's config says ``enable_instrumentation=False``.
    """

    task_id: str
    task_name: str
    success: bool
    result: Any = None
    error: TaskExecutionError | None = None
    metrics: TaskMetrics | None = None


@attrs.frozen
class Terms:
    """Say when a task is called again, and how long it may take."""

    retry: Retry | None
    timeout: float | None


def is_plain(fn: object) -> bool:
    """Tell at a glance of most functions that they are neither async nor generators."""
    return type(fn) is FunctionType and not fn.__code__.co_flags & SUSPENDS


class Task:
    """Be called, perhaps several times, and end once."""

    # What most tasks never set is found in the class: a task is made in every submission.
    number = 0
    id = ""
    status: TaskStatus = PENDING
    future: Any = None
    attempts = 0
    began_at: float | None = None
    attempt_at = 0.0
    ended_at = 0.0
    ran = 0.0
    deadline: float | None = None
    value: Any = None
    error: BaseException | None = None
    told: TaskExecutionError | None = None  # what people see of the error; always the same
    coroutine: Any = None
    thread_name: str | None = None
    waits: list[Any] | None = None  # whoever waits for its end
    waits_for: frozenset[Task] | None = None  # what it waits for itself
    waits_for_any = False  # one of them is enough
    lends = False  # of an async function: its token is out, and it is not to be given back
    listed = True  # it can be asked for by its id

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: Context,
        terms: Terms,
        priority: int = 0,
    ) -> None:
        self.name = name
        self.fn: Any = fn
        self.args: Any = args
        self.kwargs: Any = kwargs
        self.context: Any = context
        self.terms = terms
        self.priority = priority
        self.on_loop = not is_plain(fn) and is_async(fn)

    def forget_call(self) -> None:
        """Let go of everything that was only there to be called."""
        self.fn = self.args = self.kwargs = self.context = self.coroutine = None

    def metrics(self, offset: float, now: float) -> TaskMetrics:
        """Build what users see; ``offset`` turns the board's clock into wall time."""
        ended, ran = self.status in ENDS, self.ran
        if self.status is RUNNING:
            ran += now - self.attempt_at
        return TaskMetrics(
            task_id=self.id,
            task_name=self.name,
            status=self.status,
            start_time=0.0 if self.began_at is None else self.began_at + offset,
            end_time=self.ended_at + offset if ended else None,
            execution_time_ms=1000 * ran,
            retries_used=max(0, self.attempts - 1),
            worker_id=self.thread_name,
            error_message=self._message() if ended and self.status is not COMPLETED else None,
        )

    def result(self, offset: float, *, with_metrics: bool) -> TaskResult:
        """Build what users see, once it has ended."""
        success = self.status is COMPLETED
        error = None
        if not success:
            error = self.told = self.told or TaskExecutionError(self._message())
            error.__cause__ = self.error
        return TaskResult(
            task_id=self.id,
            task_name=self.name,
            success=success,
            result=self.value,
            error=error,
            metrics=self.metrics(offset, self.ended_at) if with_metrics else None,
        )

    def _message(self) -> str:
        """Say why it did not succeed; an error that cannot write itself costs no result."""
        error = self.error
        try:
            said = str(error)
        except Exception as raised:
            said = f"(its __str__ raised {type(raised).__name__})"
        if self.status is FAILED:
            tries = f"{self.attempts} attempt{'s' * (self.attempts != 1)}"
            return f"task {self.name!r} failed after {tries}: {type(error).__name__}: {said}"
        if self.status is CANCELLED:
            return f"task {self.name!r} was cancelled: {said}"
        return said
