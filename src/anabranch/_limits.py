"""Turn what a scheduler is given as limits into limiters, and tell which of them are lent."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anabranch._host import Host
from anabranch._runtime import Runtime, check_home
from anabranch.abc import Limiter
from anabranch.lanes._thread import io_lane


def limiters_of(
    limits: Sequence[float | Limiter], runtime: Runtime, *, infinite: bool
) -> tuple[list[Limiter], list[Limiter]]:
    """Return the limiters, each once, and which of them are made here and nobody else's.

    One without a limit is made only if ``infinite``, where somebody may want to set it.
    """
    limiters: list[Limiter] = []
    private: list[Limiter] = []
    for limit in limits:
        if isinstance(limit, (int, float)):
            if infinite or limit != math.inf:
                private.append(runtime.CapacityLimiter(limit))
                limiters.append(private[-1])
        elif not any(limit is other for other in limiters):
            check_home(limit)
            limiters.append(limit)
    return limiters, private


def lendable(limiters: Sequence[Limiter], host: Host) -> list[Limiter]:
    """Return what a branch lends that opens a scheduler: a thread that waits needs no place."""
    return [*limiters, io_lane(host).limiter]
