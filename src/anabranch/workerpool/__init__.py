"""Run tasks of synchronous programs in threads and on a loop: seed 001's pool, as an Executor."""

from anabranch.workerpool._async_pool import AsyncWorkerPool
from anabranch.workerpool._config import WorkerPoolConfig
from anabranch.workerpool._pool import WorkerPool
from anabranch.workerpool._task import TaskMetrics, TaskResult, TaskStatus
from anabranch.workerpool._waits import BlockedLoopWarning

__all__ = [
    "AsyncWorkerPool",
    "BlockedLoopWarning",
    "TaskMetrics",
    "TaskResult",
    "TaskStatus",
    "WorkerPool",
    "WorkerPoolConfig",
]
