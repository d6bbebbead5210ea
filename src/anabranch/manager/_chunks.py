"""Process the chunks of a whole side by side, the most important first, until there is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import attrs

from anabranch import _runtime
from anabranch._branch import Branch
from anabranch._options import exact_fields
from anabranch._scheduler import Scheduler
from anabranch._work import Status, check_callable, check_limit, name_of
from anabranch.errors import ConfigurationError, HostLoopError
from anabranch.manager._global import get_concurrency_manager
from anabranch.manager._lanes import raise_of
from anabranch.manager._manager import ConcurrencyManager
from anabranch.manager._metrics import percentile


def _check_count(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None or attribute.name != "max_concepts":
        check_limit("ProcessingConfig", attribute.name, value)


def _check_flag(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"ProcessingConfig: {attribute.name}={value!r} ({type(value).__name__}) is neither "
            f"True nor False; give one of them"
        )


@exact_fields
@attrs.frozen
class ProcessingConfig:
    """Say how chunks are processed.

    Args:
        batch_size: chunks that are begun before the results of earlier ones are looked at.
        max_concepts: how many results are enough, ``len(result)`` of each; None for no such number.
        prioritize_chunks: begin with those of the highest score.
        early_exit: cancel the rest when there is enough; False processes all.
        enable_profiling: keep how long each chunk took.

    Raises:
        ConfigurationError: a value that cannot be meant.
    """

    batch_size: int = attrs.field(default=10, validator=_check_count)
    max_concepts: int | None = attrs.field(default=None, validator=_check_count)
    prioritize_chunks: bool = attrs.field(default=False, validator=_check_flag)
    early_exit: bool = attrs.field(default=True, validator=_check_flag)
    enable_profiling: bool = attrs.field(default=False, validator=_check_flag)


@attrs.frozen
class ChunkResults:
    """Tell what came of the chunks.

    Attributes:
        results: what each chunk gave that was processed, in the order in which they were begun.
        indices: which chunks these are, by their place in what was given.
        total: how many chunks there were. concepts: ``len`` of all results together.
        stopped_early: there was enough before all of them were processed.
        duration_s: seconds from the first to the end.
        profile: seconds of each chunk, as ``results``; None without ``enable_profiling``.
    """

    results: list[Any]
    indices: tuple[int, ...]
    total: int
    concepts: int
    stopped_early: bool
    duration_s: float
    profile: tuple[float, ...] | None = None

    def get_stats(self) -> dict[str, Any]:
        """Return the sums as plain values; times in seconds."""
        found: dict[str, Any] = {
            "chunks": self.total,
            "processed": len(self.results),
            "skipped": self.total - len(self.results),
            "concepts": self.concepts,
            "stopped_early": self.stopped_early,
            "duration_s": self.duration_s,
        }
        if self.profile is not None:
            ran = sorted(self.profile)
            found |= {f"chunk_time_p{each}": percentile(ran, each) for each in (50, 95, 99)}
            found["slowest_chunk"] = (
                self.indices[self.profile.index(ran[-1])] if self.profile else None
            )
        return found


async def process_chunks_async(
    chunks: Iterable[Any],
    fn: Callable[[Any], Any],
    *,
    config: ProcessingConfig | None = None,
    score: Callable[[Any], float] | None = None,
    manager: ConcurrencyManager | None = None,
) -> ChunkResults:
    """Call ``fn(chunk)`` for each chunk in the chunk lane; the first error is raised.

    Args:
        score: tells how important a chunk is, larger is more; with ``prioritize_chunks`` alone
            it is the ``score`` or ``priority`` of a chunk, as an item or an attribute.
        manager: whose lane it is; None for ``get_concurrency_manager()``.

    Raises:
        ConfigurationError: what cannot be meant.
    """
    config = _checked(chunks, fn, config, score, manager)
    chunks = list(chunks)
    order = list(range(len(chunks)))
    if config.prioritize_chunks or score is not None:
        scores = [_number(index, (score or score_of)(chunk)) for index, chunk in enumerate(chunks)]
        order.sort(key=lambda index: -scores[index])
    manager = manager or get_concurrency_manager()
    clock = _runtime.current().lowlevel.current_clock().current_time
    began = clock()
    enough = Enough(config.max_concepts if config.early_exit else None)
    done: list[tuple[int, Branch]] = []
    size = config.batch_size if enough.wanted is not None else max(1, len(chunks))
    for start in range(0, len(order), size):
        indices = order[start : start + size]
        batch = [chunks[index] for index in indices]
        branches = await manager.run_each("chunk", fn, batch, (), {}, enough)
        if enough.failed is not None:
            raise_of(enough.failed, f"chunk {indices[branches.index(enough.failed)]}")
        done += zip(indices, branches, strict=True)
        if enough.reached:
            break
    kept = [(index, each) for index, each in done if each.status is Status.SUCCEEDED]
    return ChunkResults(
        results=[each.value for _, each in kept],
        indices=tuple([index for index, _ in kept]),
        total=len(chunks),
        concepts=sum(concepts_in(each.value) for _, each in kept),
        stopped_early=len(kept) < len(chunks),
        duration_s=clock() - began,
        profile=tuple([each.ran_s for _, each in kept]) if config.enable_profiling else None,
    )


def process_chunks_sync(
    chunks: Iterable[Any],
    fn: Callable[[Any], Any],
    *,
    config: ProcessingConfig | None = None,
    score: Callable[[Any], float] | None = None,
    manager: ConcurrencyManager | None = None,
    loop: str = "trio",
) -> ChunkResults:
    """Process as ``process_chunks_async`` does, from a plain program, in a loop of its own.

    Args:
        loop: ``trio`` or ``asyncio``.

    Raises:
        HostLoopError: a loop runs in this thread already.
    """
    config = _checked(chunks, fn, config, score, manager)
    if loop not in ("trio", "asyncio"):
        raise ConfigurationError(
            f"process_chunks_sync: loop={loop!r} is no loop; give 'trio' or 'asyncio'"
        )
    if _runtime.loop_runs_here():
        raise HostLoopError(
            "process_chunks_sync opens a loop of its own, and one runs in this thread already; "
            "inside it write: await process_chunks_async(...)"
        )
    process = partial(process_chunks_async, config=config, score=score, manager=manager)
    return anyio.run(process, chunks, fn, backend=loop)


class Enough:
    """Count the results of chunks, and stop the rest when there is enough or one failed."""

    cancels = False

    def __init__(self, wanted: int | None) -> None:
        self.wanted = wanted
        self.found = 0
        self.reached = False
        self.failed: Branch | None = None

    def opened(self, scheduler: Scheduler) -> None:
        """Hear of nothing that matters here."""

    filled = closed = opened

    def ended(self, scheduler: Scheduler, branch: Branch) -> None:
        """Hear how a chunk ended."""
        if self.reached or self.failed is not None:
            return
        if branch.status is not Status.SUCCEEDED:
            self.failed = branch
            scheduler.stop(f"{branch.key} {branch.status}")
            return
        self.found += concepts_in(branch.value)
        if self.wanted is not None and self.found >= self.wanted:
            self.reached = True
            scheduler.stop(f"enough: {self.found} of {self.wanted} (max_concepts=)")


def concepts_in(result: object) -> int:
    """Return how many results a result is: its length, else one; nothing for None."""
    if result is None:
        return 0
    try:
        return len(result)  # type: ignore[arg-type]  # that is asked
    except TypeError:
        return 1


def score_of(chunk: Any) -> Any:
    """Return what a chunk says of its own importance; 0.0 if it says nothing."""
    for name in ("score", "priority"):
        found = chunk.get(name) if isinstance(chunk, Mapping) else getattr(chunk, name, None)
        if found is not None and not callable(found):
            return found
    return 0.0


def _number(index: int, score: Any) -> float:
    """Return a score as a number, also one of another library.

    Raises:
        ConfigurationError: it is none, so it says nothing of what comes first.
    """
    number = math.nan
    if not isinstance(score, (str, bytes)):
        with suppress(TypeError, ValueError, OverflowError):
            number = float(score)
    if math.isnan(number):
        raise ConfigurationError(
            f"process_chunks: chunk {index} has the score {score!r:.80} ({type(score).__name__}), "
            f"which is no number, so nobody knows when it comes; "
            f"give score=, a function of the chunk, larger comes first"
        )
    return number


def _checked(
    chunks: object, fn: object, config: ProcessingConfig | None, score: object, manager: object
) -> ProcessingConfig:
    where = f"process_chunks {name_of(fn)}"
    check_callable(where, fn)
    if not isinstance(chunks, Iterable):
        raise ConfigurationError(
            f"{where}: {chunks!r:.80} ({type(chunks).__name__}) is not iterable; give chunks"
        )
    if score is not None:
        check_callable(f"{where}: score", score)
    if config is not None and not isinstance(config, ProcessingConfig):
        raise ConfigurationError(
            f"{where}: config={config!r:.80} ({type(config).__name__}) is no ProcessingConfig; "
            f"give one"
        )
    if manager is not None and not isinstance(manager, ConcurrencyManager):
        raise ConfigurationError(
            f"{where}: manager={manager!r:.80} ({type(manager).__name__}) is no "
            f"ConcurrencyManager; give one, or leave it out"
        )
    return config or ProcessingConfig()
