"""Say how a step or a pipeline is to run: frozen values, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from functools import cache
from typing import Any

import attrs

from anabranch._load import Bounds
from anabranch._options import exact_fields
from anabranch._regulated import Listening
from anabranch._work import check_limit
from anabranch.abc import Controller, Limiter, Sampler
from anabranch.controllers import CEILING, named
from anabranch.controllers._shadow import check_controller
from anabranch.errors import ConfigurationError
from anabranch.lanes._thread import IO_LIMIT
from anabranch.pipeline._adaptive import Adaptive
from anabranch.samplers._checked import check_samplers
from anabranch.samplers._cores import cores

DEFAULT_CEILING = 10


class BranchFailureStrategy(Enum):
    """Say what a failed branch does to its step: fail it, or fail it only with all others."""

    PROPAGATE = "propagate"
    IGNORE = "ignore"


class MergeStrategy(Enum):
    """Say how what branches changed in their contexts comes back.

    A field that one branch changed is taken from it, whatever the strategy. Where several did:
    ``CONTEXT_UPDATE`` takes what they agree on, and fails where they do not;
    ``ERROR_ON_CONFLICT`` fails; ``OVERWRITE`` takes the last one's, ``KEEP_FIRST`` the first one's.
    ``NO_MERGE`` brings nothing back.
    """

    NO_MERGE = "no_merge"
    CONTEXT_UPDATE = "context_update"
    OVERWRITE = "overwrite"
    KEEP_FIRST = "keep_first"
    ERROR_ON_CONFLICT = "error_on_conflict"


def _names(value: object) -> object:
    if isinstance(value, (set, frozenset)) and all(isinstance(name, str) for name in value):
        return tuple(sorted(value))
    return tuple(value) if isinstance(value, (list, tuple)) else value


def _check_names(config: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(
            f"{type(config).__name__}: {attribute.name}={value!r:.80} ({type(value).__name__}) "
            f"is no list of field names; give ['name', ...]"
        )


def _check_ceiling(_: object, __: object, value: Any) -> None:
    if value is not None:
        check_limit("ConcurrencyConfig", "max_concurrent_branches", value)


def _check_flag(config: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(
            f"{type(config).__name__}: {attribute.name}={value!r} ({type(value).__name__}) "
            f"is neither True nor False"
        )


def _check_law(_: object, __: object, law: Any) -> None:
    if isinstance(law, str):
        named(law)
    elif law is not None:
        check_controller("ConcurrencyConfig: controller=", law)


def _as_tuple(samplers: Sampler | Sequence[Sampler] | None) -> Any:
    return tuple(samplers) if isinstance(samplers, list) else samplers


def _check_samplers(config: object, _: object, samplers: Any) -> None:
    if samplers is None:
        return
    found = check_samplers("ConcurrencyConfig: samplers=", samplers)
    if not found:
        raise ConfigurationError(
            "ConcurrencyConfig: samplers=() reads nothing; leave it out, or give "
            "adaptive_limits=False for a limit that stays"
        )
    object.__setattr__(config, "samplers", found)  # one is as good as several


@exact_fields
@attrs.frozen
class ConcurrencyConfig:
    """Bound how many branches of a step run at once.

    Args:
        max_concurrent_branches: a ceiling that is never exceeded; None for the default,
            ``min(10, 2 * cores)``.
        adaptive_limits: False keeps the limit where it begins.
        cpu_based_limits: False leaves the cores out of the default, which is then 10, and what
            the CPU does out of what the limit follows. memory_based_limits: likewise memory.
        controller: the law that moves the limit: an object with ``initial`` and ``next``, or
            ``"weir"`` (the usual one), ``"aimd"``, ``"gradient"``, ``"fixed"``.
        samplers: what the law is told of the machine: an object with ``sample``, or several.

    The limit begins at ``max_concurrent_branches``, or the default, and moves under
    ``max_concurrent_branches``, or 256. docs/explanation/regulator.md tells when.

    Raises:
        ConfigurationError: a limit under 1, or one that is no whole number; no controller, no
            sampler, or one of them together with ``adaptive_limits=False``.
    """

    max_concurrent_branches: int | None = attrs.field(default=None, validator=_check_ceiling)
    adaptive_limits: bool = attrs.field(default=True, validator=_check_flag)
    cpu_based_limits: bool = attrs.field(default=True, validator=_check_flag)
    memory_based_limits: bool = attrs.field(default=True, validator=_check_flag)
    completion_tracking: bool = attrs.field(default=True, validator=_check_flag)
    individual_cancellation: bool = attrs.field(default=True, validator=_check_flag)
    breach_watcher: bool = attrs.field(default=True, validator=_check_flag)
    controller: Controller | str | None = attrs.field(
        default=None, kw_only=True, validator=_check_law
    )
    samplers: Sampler | Sequence[Sampler] | None = attrs.field(
        default=None, kw_only=True, converter=_as_tuple, validator=_check_samplers
    )

    def __attrs_post_init__(self) -> None:
        if self.adaptive_limits:
            return
        for name in ("controller", "samplers"):
            if getattr(self, name) is not None:
                raise ConfigurationError(
                    f"ConcurrencyConfig: {name}= moves the limit, and adaptive_limits=False "
                    f"forbids it; leave one of them out"
                )

    def initial_limit(self) -> int:
        """Return the limit that a step starts with."""
        if self.max_concurrent_branches is not None:
            return self.max_concurrent_branches
        return default_limit() if self.cpu_based_limits else DEFAULT_CEILING

    def adaptive(self) -> Adaptive | None:
        """Return how the limit moves; None if it stays."""
        ceiling = self.max_concurrent_branches or CEILING
        if not self.adaptive_limits or ceiling == 1:
            return None
        law = self.controller
        samplers = self.samplers
        return Adaptive(
            bounds=Bounds(ceiling=ceiling, initial=min(self.initial_limit(), ceiling)),
            controller=named(law) if isinstance(law, str) else law,
            listening=Listening(
                samplers=samplers if isinstance(samplers, tuple) else None,
                cpu=self.cpu_based_limits,
                memory=self.memory_based_limits,
                needs_signal=law is None,
            ),
        )


@exact_fields
@attrs.frozen
class MergeConfig:
    """Say how a field is put together that several branches changed, before the strategy decides.

    Args:
        deep_merge_dicts: merge a dict key by key, as a context is merged field by field.
        deduplicate_lists: join lists: what was there and no branch took out, then what each branch
            put in, every value once.
        accumulate_counters: add what each branch added to a number (or a ``collections.Counter``);
            every number, unless ``counter_fields`` names some.
        counter_fields: the fields that are counters.
        excluded_fields: fields that are never merged.

    Raises:
        ConfigurationError: names that are none, or a field that is to be added and left out.
    """

    deep_merge_dicts: bool = attrs.field(default=False, validator=_check_flag)
    deduplicate_lists: bool = attrs.field(default=False, validator=_check_flag)
    accumulate_counters: bool = attrs.field(default=False, validator=_check_flag)
    counter_fields: tuple[str, ...] = attrs.field(
        default=(), converter=_names, validator=_check_names
    )
    excluded_fields: tuple[str, ...] = attrs.field(
        default=(), converter=_names, validator=_check_names
    )

    def __attrs_post_init__(self) -> None:
        both = set(self.counter_fields) & set(self.excluded_fields)
        if both:
            raise ConfigurationError(
                f"MergeConfig: {min(both)!r} is in counter_fields and in excluded_fields; "
                f"name it in one of them"
            )


def _check_memory(_: object, __: object, limit: Any) -> None:
    if limit is None or (_is_number(limit) and 1 <= limit < math.inf):
        return
    hint = "give megabytes, such as 1024, or None for no limit"
    if isinstance(limit, float) and 0 < limit < 1:
        hint = f"it reads like a share of the memory; {hint}"
    raise ConfigurationError(
        f"ResourceLimits: max_memory_mb={limit!r} ({type(limit).__name__}) cannot be meant; {hint}"
    )


def _check_cpu(_: object, __: object, limit: Any) -> None:
    if limit is None or (_is_number(limit) and 1 <= limit <= 100):
        return
    hint = ""
    if isinstance(limit, float) and 0 < limit < 1:
        hint = f"; {limit!r} reads like a fraction: is {100 * limit:g} meant?"
    elif _is_number(limit) and limit > 100:
        hint = "; 100 is all CPUs that this process may use, however many they are"
    raise ConfigurationError(
        f"ResourceLimits: max_cpu_percent={limit!r} ({type(limit).__name__}) is no percentage; "
        f"give a number from 1 to 100, or None for no limit{hint}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@exact_fields
@attrs.frozen
class ResourceLimits:
    """Bound what a run takes of the machine: this process and its descendants are read.

    Above a limit nothing more is started; one branch may always run.

    Args:
        max_memory_mb: in units of 1,048,576 bytes. Where memory stays above it, the least urgent,
            youngest branch is cancelled, one after another, in steps that allow it
            (``individual_cancellation``).
        max_cpu_percent: 1 to 100, of the CPUs that affinity and cgroup allow.

    Raises:
        ConfigurationError: a limit that cannot be meant.
    """

    max_memory_mb: float | None = attrs.field(default=None, validator=_check_memory)
    max_cpu_percent: float | None = attrs.field(default=None, validator=_check_cpu)

    @property
    def bounded(self) -> bool:
        """Whether there is something to watch."""
        return self.max_memory_mb is not None or self.max_cpu_percent is not None


def _check_max_parallel(_: object, __: object, value: Any) -> None:
    if value is not None:
        check_limit("ExecutionConfig", "max_parallel_steps", value)


def _check_io_limit(_: object, __: object, value: object) -> None:
    check_limit("ExecutionConfig", "io_limit", value)


def _check_resources(_: object, __: object, value: object) -> None:
    if not isinstance(value, ResourceLimits):
        raise ConfigurationError(
            f"ExecutionConfig: resource_limits={value!r} ({type(value).__name__}) "
            f"is no ResourceLimits"
        )


@exact_fields
@attrs.frozen
class ExecutionConfig:
    """Bound a whole pipeline.

    Args:
        max_parallel_steps: how many branches of all its parallel steps together run at once,
            nested ones included; None for no limit of the pipeline's own.
        resource_limits: of memory and CPU, while the pipeline runs.
        io_limit: how many threads the io lane of the loop may have while this pipeline runs;
            of several pipelines on one loop the largest counts.
    """

    max_parallel_steps: int | None = attrs.field(default=None, validator=_check_max_parallel)
    resource_limits: ResourceLimits = attrs.field(
        default=ResourceLimits(), validator=_check_resources
    )
    io_limit: int = attrs.field(default=IO_LIMIT, validator=_check_io_limit)


@cache
def default_limit() -> int:
    """Return ``min(10, 2 * cores)``, at least 1; the machine is read once."""
    return limit_for(cores())


def limit_for(count: float) -> int:
    """Return the limit that a step begins with on so many cores."""
    return max(1, min(DEFAULT_CEILING, int(2 * count)))


def limit_of(
    where: str, concurrency: object, max_concurrency: object, track_completion: object
) -> tuple[int | Limiter | None, bool]:
    """Resolve the two spellings of a step's limit; return it, and whether completion is tracked.

    None stands for the simple path, without a limit of its own.

    Raises:
        ConfigurationError: both spellings at once, or something that is no limit.
    """
    if concurrency is not None:
        short = {"max_concurrency": max_concurrency, "track_completion": track_completion}
        for name, value in short.items():
            if value is not None:
                raise ConfigurationError(
                    f"{where}: concurrency= and {name}={value!r} say the same thing twice; "
                    f"give one of them"
                )
        if not isinstance(concurrency, ConcurrencyConfig):
            raise ConfigurationError(
                f"{where}: concurrency={concurrency!r} ({type(concurrency).__name__}) is no "
                f"ConcurrencyConfig; for a plain number write max_concurrency="
            )
        return concurrency.initial_limit(), concurrency.completion_tracking
    if track_completion is not None and not isinstance(track_completion, bool):
        raise ConfigurationError(
            f"{where}: track_completion={track_completion!r} is neither True nor False"
        )
    tracks = track_completion is not False
    if max_concurrency is None:
        return None, tracks
    if isinstance(max_concurrency, Limiter):
        return max_concurrency, tracks
    check_limit(where, "max_concurrency", max_concurrency)
    assert isinstance(max_concurrency, int)
    return max_concurrency, tracks


def adaptive_of(concurrency: object, max_concurrency: object) -> Adaptive | None:
    """Return how the limit of a step moves; None if it has none of its own, or it stays.

    ``max_concurrency=n`` is short for ``ConcurrencyConfig(n)``, so it moves as well.
    """
    if isinstance(max_concurrency, int):
        concurrency = ConcurrencyConfig(max_concurrency)
    return concurrency.adaptive() if isinstance(concurrency, ConcurrencyConfig) else None
