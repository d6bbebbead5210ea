"""Count what a lane has done, from any thread, and tell it in the words of the facade."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from anabranch._branch import Branch
from anabranch._taxonomy import classify
from anabranch._work import Status

KEPT = 1024  # run times, the latest ones, of which percentiles are told
PERCENTILES = (50, 95, 99)


class Metrics:
    """Count the calls of one lane, of all loops together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.submitted = self.completed = self.failed = self.cancelled = 0
        self.running = self.peak = 0
        self._seconds = 0.0  # of all that completed
        self._ran: deque[float] = deque(maxlen=KEPT)
        self._queued: deque[float] = deque(maxlen=KEPT)
        self._errors: Counter[str] = Counter()

    def submit(self, count: int = 1) -> None:
        """Count calls that were asked for."""
        with self._lock:
            self.submitted += count

    def begin(self) -> None:
        """Count a function as running."""
        with self._lock:
            self.running += 1
            self.peak = max(self.peak, self.running)

    def end(self) -> None:
        """Count it as running no more."""
        with self._lock:
            self.running -= 1

    def ended(self, branch: Branch) -> None:
        """Count how a call ended."""
        with self._lock:
            if branch.status is Status.SUCCEEDED:
                self.completed += 1
                self._seconds += branch.ran_s
                self._ran.append(branch.ran_s)
                self._queued.append(branch.queued_s)
            elif branch.status is Status.FAILED and branch.error is not None:
                self.failed += 1
                self._errors[str(classify(branch.error).category)] += 1
            else:
                self.cancelled += 1

    def stats(self) -> dict[str, Any]:
        """Return everything; averages and percentiles are 0.0 when nothing ran."""
        with self._lock:
            ended = self.completed + self.failed
            ran, queued = sorted(self._ran), sorted(self._queued)
            return {
                "tasks_submitted": self.submitted,
                "tasks_completed": self.completed,
                "tasks_failed": self.failed,
                "tasks_cancelled": self.cancelled,
                "tasks_running": self.running,
                "max_concurrent_tasks": self.peak,
                "success_rate": round(100.0 * self.completed / ended, 1) if ended else 0.0,
                "average_execution_time": self._seconds / self.completed if self.completed else 0.0,
                **{f"execution_time_p{p}": percentile(ran, p) for p in PERCENTILES},
                **{f"queue_time_p{p}": percentile(queued, p) for p in PERCENTILES},
                "errors_by_category": dict(self._errors),
            }


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of sorted values that so many percent of them do not exceed."""
    if not values:
        return 0.0
    return values[max(0, -(-len(values) * int(percent) // 100) - 1)]
