"""Define what a controller is told, and what it answers: the words between load and limit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from anabranch._options import exact_fields
from anabranch.errors import ConfigurationError


def _as_tuple(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@exact_fields
@attrs.frozen(kw_only=True)
class Load:
    """Tell what was seen of a limiter and of the machine since the last sample.

    Shares are 0 to 1, sizes bytes, times seconds. None is unknown, never 0.

    Attributes:
        t: the loop's clock.
        limit: tokens of the limiter. in_use: of them, now. peak: the most at once since then.
        queued: branches that wait for a token.
        started, finished, failed, rejected: branches since the last sample; ``finished`` succeeded;
            ``rejected`` failed as a place that is too full says it, and count in ``failed`` too.
        latencies: run times of branches that succeeded, at most 64, evenly picked.
        ages: how long those that run have been running, likewise.
        cores: what quota, cpuset and affinity allow.
        cpu: share of ``cores`` in use. cpu_pressure: share of the time in which something that
            could run waited for a CPU.
        memory_used, memory_total: of the machine or the container, without the page cache.
        memory_pressure: share of the time in which something waited for memory.
        own_memory: what this process and its children have grown by.
        gpu_memory_used, gpu_memory_total: of the scarcest visible device.
        loop_lag: how late short sleeps on the loop end.
    """

    t: float = 0.0
    limit: float = 1
    in_use: int = 0
    peak: int = 0
    queued: int = 0
    started: int = 0
    finished: int = 0
    failed: int = 0
    rejected: int = 0
    latencies: tuple[float, ...] = attrs.field(default=(), converter=_as_tuple)
    ages: tuple[float, ...] = attrs.field(default=(), converter=_as_tuple)
    cores: float | None = None
    cpu: float | None = None
    cpu_pressure: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    memory_pressure: float | None = None
    own_memory: float | None = None
    gpu_memory_used: float | None = None
    gpu_memory_total: float | None = None
    loop_lag: float | None = None


SIGNALS = (  # what samplers tell; the rest is counted by the scheduler
    "cores",
    "cpu",
    "cpu_pressure",
    "memory_used",
    "memory_total",
    "memory_pressure",
    "own_memory",
    "gpu_memory_used",
    "gpu_memory_total",
    "loop_lag",
)


def _check_bound(bounds: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        hint = ""
        if isinstance(value, float) and (math.isnan(value) or 0 < value < 1):
            hint = "; a limit counts branches, it is no share"
        raise ConfigurationError(
            f"Bounds: {attribute.name}={value!r} ({type(value).__name__}) is no limit; "
            f"give a whole number of at least 1{hint}"
        )


@exact_fields
@attrs.frozen(kw_only=True)
class Bounds:
    """Say between which limits a controller decides, and with which it begins.

    Raises:
        ConfigurationError: a ceiling under the floor, or an initial limit outside of them.
    """

    ceiling: int = attrs.field(validator=_check_bound)
    floor: int = attrs.field(default=1, validator=_check_bound)
    initial: int = attrs.field(
        default=attrs.Factory(lambda self: self.ceiling, takes_self=True), validator=_check_bound
    )

    def __attrs_post_init__(self) -> None:
        if not self.floor <= self.initial <= self.ceiling:
            raise ConfigurationError(
                f"Bounds: floor={self.floor} <= initial={self.initial} <= ceiling={self.ceiling} "
                f"does not hold; give limits in that order"
            )


@attrs.frozen
class Decision:
    """Say which limit is to hold from now on.

    Attributes:
        state: what the controller is given next time; nothing else remembers.
        limit: a whole number from the floor to the ceiling.
        reason: one cause, with its figures; empty exactly when the limit stays.
        again: seconds until it would be asked again; None for the usual period.
    """

    state: Any
    limit: int
    reason: str = ""
    again: float | None = None
