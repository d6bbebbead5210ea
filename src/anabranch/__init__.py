"""Run branches of work side by side, under limits, so that nothing is left running.

``Step`` and ``Pipeline`` describe work, ``open_scheduler`` is the engine beneath.
Runs natively on trio, and on asyncio in the host's own loop.

A public name is imported when it is first asked for: who only wants pipelines waits for no process
pools, and who only names the package, in an annotation or an extra, waits for nothing.
"""

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from anabranch._log import clean

if TYPE_CHECKING:
    from anabranch._breaker import CircuitBreaker, CircuitChanged, CircuitState
    from anabranch._budget import Budget, UsageLimits
    from anabranch._charge import Reservation, charge
    from anabranch._load import Bounds, Decision, Load
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
        StartRefused,
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
    "StartRefused",
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

# Where public names stand: below comes before above, and what most people need before the rest.
_HOMES = (
    "errors",
    "_load",
    "_work",
    "events",
    "_retry",
    "_budget",
    "_charge",
    "_breaker",
    "_scheduler",
    "_open",
    "pipeline",
    "_taxonomy",
    "lanes._script",
    "lanes._subprocess",
    "lanes._executor",
    "workerpool",
    "executor",
    "manager",
)


if not TYPE_CHECKING:  # it would make a type checker believe in names that do not exist

    def __getattr__(name: str) -> object:
        """Import a public name, and all that stand with it or below."""
        if name in __all__:
            for home in _HOMES:
                _take_from(vars(import_module(f"anabranch.{home}")))
                if name in globals():
                    return globals()[name]
        raise AttributeError(f"module 'anabranch' has no attribute {name!r}", name=name, obj=_SELF)

    def __dir__() -> list[str]:
        """List the public names, those that nobody asked for as well."""
        return sorted({*globals(), *__all__})


_SELF = sys.modules[__name__]


def _take_from(found: dict[str, object]) -> None:
    """Make the public names of a module ours."""
    for name in __all__:
        if name in found and name not in globals():
            value = globals()[name] = found[name]
            # People see where a name is to be imported from, not the file that it was written in.
            if name != "classify":  # a value, whose class says it
                value.__module__ = "anabranch"


logging.getLogger("anabranch").addHandler(logging.NullHandler())
logging.getLogger("anabranch").addFilter(clean)
