"""Play a machine so small that what a law ought to do with it is known.

Each sample covers one second; branches are always waiting; nothing is drawn by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anabranch import Bounds, Decision, Load
from anabranch.abc import Controller

Play = Callable[[int, int], dict[str, Any]]  # second and limit to the fields of a load


def play(law: Controller, bounds: Bounds, machine: Play, seconds: int) -> list[Decision]:
    """Return one decision for each second."""
    state, limit, decisions = law.initial(bounds), bounds.initial, []
    for second in range(1, seconds + 1):
        fields = machine(second, limit)
        load = Load(t=float(second), limit=limit, in_use=limit, peak=limit, queued=1000, **fields)
        decision = law.next(state, load)
        state, limit = decision.state, decision.limit
        decisions.append(decision)
    return decisions


def limits(decisions: list[Decision]) -> list[int]:
    """Return the limits; the first one is of second 1."""
    return [each.limit for each in decisions]


def cores(
    count: float, busy: Callable[[int], float] = lambda _: 0.0, run_time: float = 0.5
) -> Play:
    """Return branches of pure CPU work beside ``busy(second)`` threads of a neighbour."""

    def fields(second: int, limit: int) -> dict[str, Any]:
        threads = limit + busy(second)
        crowd = max(1.0, threads / count)
        return served(limit, run_time * crowd) | {
            "cores": count,
            "cpu": min(1.0, threads / count),
            "cpu_pressure": 1.0 if threads > count else 0.1,
        }

    return fields


def waiting(run_time: float = 0.5, **known: Any) -> Play:
    """Return branches that wait for something without an end."""
    return lambda _, limit: served(limit, run_time) | known


def downstream(knee: int, run_time: float = 0.5, loss: float = 0.3) -> Play:
    """Return calls to something that serves ``knee`` at once, and gets worse above."""

    def fields(_: int, limit: int) -> dict[str, Any]:
        crowd = limit / knee
        slower = crowd * (1 + loss * (crowd - 1)) if crowd > 1 else 1.0
        return served(limit, run_time * slower)

    return fields


def served(limit: int, run_time: float) -> dict[str, Any]:
    """Return what is counted of branches that each take ``run_time``."""
    done = max(1, round(limit / run_time))
    return {
        "started": done,
        "finished": done,
        "latencies": (run_time,) * min(done, 64),
        "ages": tuple(run_time * (i + 0.5) / limit for i in range(min(limit, 64))),
    }
