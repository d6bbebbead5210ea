"""Run functions in lanes for computing, waiting and chunks: seed 003's words on the engine."""

from anabranch.errors import QueueFull
from anabranch.manager._chunks import (
    ChunkResults,
    ProcessingConfig,
    process_chunks_async,
    process_chunks_sync,
)
from anabranch.manager._config import ConcurrencyManagerConfig
from anabranch.manager._global import get_concurrency_manager, run_cpu_bound, run_io_bound
from anabranch.manager._manager import ConcurrencyManager
from anabranch.manager._progress import ProgressTracker

__all__ = [
    "ChunkResults",
    "ConcurrencyManager",
    "ConcurrencyManagerConfig",
    "ProcessingConfig",
    "ProgressTracker",
    "QueueFull",
    "get_concurrency_manager",
    "process_chunks_async",
    "process_chunks_sync",
    "run_cpu_bound",
    "run_io_bound",
]
