"""Describe work as steps and pipelines of steps, and run it on the core."""

from anabranch.pipeline._config import (
    BranchFailureStrategy,
    ConcurrencyConfig,
    ExecutionConfig,
    MergeConfig,
    MergeStrategy,
    ResourceLimits,
)
from anabranch.pipeline._live import LiveRun, Snapshot, StepSnapshot
from anabranch.pipeline._map import MapStep
from anabranch.pipeline._parallel import ParallelStep
from anabranch.pipeline._patterns import UnmatchedPatternWarning
from anabranch.pipeline._pipeline import Pipeline
from anabranch.pipeline._result import PipelineResult, StepResult
from anabranch.pipeline._rules import CancelWhen, Halt
from anabranch.pipeline._step import Step
from anabranch.pipeline._terms import UnboundedWarning

__all__ = [
    "BranchFailureStrategy",
    "CancelWhen",
    "ConcurrencyConfig",
    "ExecutionConfig",
    "Halt",
    "LiveRun",
    "MapStep",
    "MergeConfig",
    "MergeStrategy",
    "ParallelStep",
    "Pipeline",
    "PipelineResult",
    "ResourceLimits",
    "Snapshot",
    "Step",
    "StepResult",
    "StepSnapshot",
    "UnboundedWarning",
    "UnmatchedPatternWarning",
]
