"""Run branches of work side by side, under limits, so that nothing is left running.

``Step`` and ``Pipeline`` describe work, ``open_scheduler`` is the engine beneath.
Runs natively on trio, and on asyncio in the host's own loop.
"""

import logging

from anabranch._breaker import CircuitBreaker, CircuitChanged, CircuitState
from anabranch._budget import Budget, UsageLimits
from anabranch._charge import Reservation, charge
from anabranch._load import Bounds, Decision, Load
from anabranch._log import clean
from anabranch._open import open_scheduler
from anabranch._retry import Retry
from anabranch._scheduler import Scheduler
from anabranch._taxonomy import Category, Classifier, ErrorClass, Recovery, Severity, classify
from anabranch._work import Job, Outcome, Status, Usage
from anabranch.errors import (
    AnabranchError,
    BranchCancelledError,
    BranchTimedOutError,
    CircuitOpenError,
    ConfigurationError,
    DeadlockError,
    DuplicateKeyError,
    HostLoopError,
    JournalError,
    LaneError,
    MergeError,
    NotBuiltYetError,
    OutsideRunError,
    SchedulerClosedError,
    ScriptFailedError,
    StepFailedError,
    TaskExecutionError,
    UnknownOptionError,
    UsageLimitExceededError,
    WaitTimeoutError,
)
from anabranch.events import (
    AttemptFailed,
    BranchFinished,
    BranchQueued,
    BranchStarted,
    BranchStubborn,
    Breached,
    ControllerFailed,
    Event,
    EventsMissed,
    LimitChanged,
    LoadSampled,
    StepFinished,
    StepStarted,
)
from anabranch.executor import ConcurrentExecutor, ResourceManager, RunMode, SubprocessWrapper
from anabranch.lanes._executor import ExecutorLane
from anabranch.lanes._script import Finished, Script
from anabranch.lanes._subprocess import SubprocessLane
from anabranch.manager import (
    ChunkResults,
    ConcurrencyManager,
    ConcurrencyManagerConfig,
    ProcessingConfig,
    ProgressTracker,
    QueueFull,
    get_concurrency_manager,
    process_chunks_async,
    process_chunks_sync,
    run_cpu_bound,
    run_io_bound,
)
from anabranch.pipeline import (
    BranchFailureStrategy,
    CancelWhen,
    ConcurrencyConfig,
    ExecutionConfig,
    Halt,
    LiveRun,
    MergeConfig,
    MergeStrategy,
    Pipeline,
    PipelineResult,
    ResourceLimits,
    Snapshot,
    Step,
    StepResult,
    StepSnapshot,
    UnboundedWarning,
    UnmatchedPatternWarning,
)
from anabranch.workerpool import (
    AsyncWorkerPool,
    BlockedLoopWarning,
    TaskMetrics,
    TaskResult,
    TaskStatus,
    WorkerPool,
    WorkerPoolConfig,
)

__all__ = [
    "AnabranchError",
    "AsyncWorkerPool",
    "AttemptFailed",
    "BlockedLoopWarning",
    "Bounds",
    "BranchCancelledError",
    "BranchFailureStrategy",
    "BranchFinished",
    "BranchQueued",
    "BranchStarted",
    "BranchStubborn",
    "BranchTimedOutError",
    "Breached",
    "Budget",
    "CancelWhen",
    "Category",
    "ChunkResults",
    "CircuitBreaker",
    "CircuitChanged",
    "CircuitOpenError",
    "CircuitState",
    "Classifier",
    "ConcurrencyConfig",
    "ConcurrencyManager",
    "ConcurrencyManagerConfig",
    "ConcurrentExecutor",
    "ConfigurationError",
    "ControllerFailed",
    "DeadlockError",
    "Decision",
    "DuplicateKeyError",
    "ErrorClass",
    "Event",
    "EventsMissed",
    "ExecutionConfig",
    "ExecutorLane",
    "Finished",
    "Halt",
    "HostLoopError",
    "Job",
    "JournalError",
    "LaneError",
    "LimitChanged",
    "LiveRun",
    "Load",
    "LoadSampled",
    "MergeConfig",
    "MergeError",
    "MergeStrategy",
    "NotBuiltYetError",
    "Outcome",
    "OutsideRunError",
    "Pipeline",
    "PipelineResult",
    "ProcessingConfig",
    "ProgressTracker",
    "QueueFull",
    "Recovery",
    "Reservation",
    "ResourceLimits",
    "ResourceManager",
    "Retry",
    "RunMode",
    "Scheduler",
    "SchedulerClosedError",
    "Script",
    "ScriptFailedError",
    "Severity",
    "Snapshot",
    "Status",
    "Step",
    "StepFailedError",
    "StepFinished",
    "StepResult",
    "StepSnapshot",
    "StepStarted",
    "SubprocessLane",
    "SubprocessWrapper",
    "TaskExecutionError",
    "TaskMetrics",
    "TaskResult",
    "TaskStatus",
    "UnboundedWarning",
    "UnknownOptionError",
    "UnmatchedPatternWarning",
    "Usage",
    "UsageLimitExceededError",
    "UsageLimits",
    "WaitTimeoutError",
    "WorkerPool",
    "WorkerPoolConfig",
    "charge",
    "classify",
    "get_concurrency_manager",
    "open_scheduler",
    "process_chunks_async",
    "process_chunks_sync",
    "run_cpu_bound",
    "run_io_bound",
]

# People see where a name is to be imported from, not the file that it was written in.
for _name in __all__:
    if globals()[_name] is not classify:  # a value, whose class says it
        globals()[_name].__module__ = "anabranch"
del _name

logging.getLogger("anabranch").addHandler(logging.NullHandler())
logging.getLogger("anabranch").addFilter(clean)
