"""Count the tasks of a pool by what became of them, so that the counts always add up."""

from __future__ import annotations

from collections import Counter
from typing import Any

from anabranch.workerpool._task import (
    ABANDONED,
    CANCELLED,
    COMPLETED,
    FAILED,
    TIMED_OUT,
    Task,
    TaskStatus,
)


class Counts:
    """Sum up what tasks were accepted, run now, and have ended."""

    def __init__(self) -> None:
        self.submitted = 0
        self.running = 0
        self._completed = 0
        self._ended: Counter[TaskStatus] = Counter()  # otherwise: an enum is dear to count by
        self._retries = 0
        self._ran = 0.0  # seconds, of those that ended and had been called
        self._called = 0

    def end(self, task: Task) -> None:
        """Count a task that has ended."""
        if task.status is COMPLETED:
            self._completed += 1
        else:
            self._ended[task.status] += 1
        if task.attempts:
            self._called += 1
            self._retries += task.attempts - 1
            self._ran += task.ran

    def summary(self) -> dict[str, Any]:
        """Return all of them.

        ``submitted`` is the sum of pending, running, completed, failed, cancelled, timed_out and
        abandoned; a task that waits for its next attempt is pending.
        """
        ended = self._ended
        return {
            "submitted": self.submitted,
            "pending": self.submitted - self.running - self._completed - ended.total(),
            "running": self.running,
            "completed": self._completed,
            "failed": ended[FAILED],
            "cancelled": ended[CANCELLED],
            "timed_out": ended[TIMED_OUT],
            "abandoned": ended[ABANDONED],
            "avg_execution_time_ms": 1000 * self._ran / self._called if self._called else 0.0,
            "total_retries": self._retries,
        }
