"""Draw loads, sensible and absurd ones, and drive a law with them as a regulator would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

from anabranch import Bounds, Decision, Load
from anabranch.abc import Controller
from anabranch.controllers import AIMD, Fixed, Gradient, Weir

LAWS: tuple[Controller, ...] = (
    Fixed(),
    Fixed(7),
    AIMD(),
    AIMD(increase=3, decrease=0.5, period=0.1),
    Gradient(),
    Weir(),
    Weir(memory=0.5, gpu_memory=1),
)
ADAPTIVE = tuple(law for law in LAWS if not isinstance(law, Fixed))


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    """Draw bounds, among them those that leave no choice and very wide ones."""
    floor = draw(st.integers(1, 5))
    ceiling = draw(st.integers(floor, 300) | st.just(10**9))
    return Bounds(floor=floor, ceiling=ceiling, initial=draw(st.integers(floor, min(ceiling, 400))))


def unknown_or(values: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    """Draw what a sampler tells, which may be nothing."""
    return st.none() | values


SHARES = st.floats(0, 1)
SIZES = st.floats(0, 2.0**40)
COUNTS = st.integers(0, 300)
WEIRD = st.floats(allow_nan=False) | st.sampled_from(
    [0.0, -1.0, math.inf, -math.inf, 1e308, 5e-324]
)

SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "in_use": COUNTS,
    "peak": COUNTS,
    "queued": st.sampled_from([0, 1, 1000]),
    "started": COUNTS,
    "finished": COUNTS,
    "failed": st.sampled_from([0, 0, 0, 1, 50]),
    "rejected": st.sampled_from([0, 0, 0, 1, 40]),
    "latencies": st.lists(st.floats(1e-3, 100), max_size=8).map(tuple),
    "ages": st.lists(st.floats(0, 100), max_size=8).map(tuple),
    "cores": unknown_or(st.sampled_from([0.5, 1.0, 4.0, 64.0])),
    "cpu": unknown_or(SHARES),
    "cpu_pressure": unknown_or(SHARES),
    "memory_used": unknown_or(SIZES),
    "memory_total": unknown_or(SIZES),
    "memory_pressure": unknown_or(SHARES),
    "own_memory": unknown_or(SIZES),
    "gpu_memory_used": unknown_or(SIZES),
    "gpu_memory_total": unknown_or(SIZES),
    "loop_lag": unknown_or(st.floats(0, 10)),
}
ABSURD = SENSIBLE | {
    name: unknown_or(WEIRD) if name not in {"latencies", "ages"} else st.lists(WEIRD, max_size=5)
    for name, strategy in SENSIBLE.items()
    if name not in {"in_use", "peak", "queued", "started", "finished", "failed", "rejected"}
}


@st.composite
def sequences(
    draw: st.DrawFn, fields: dict[str, st.SearchStrategy[Any]] = SENSIBLE, most: int = 12
) -> list[dict[str, Any]]:
    """Draw what changes from sample to sample: most stays as it was, as on a real machine."""
    first = {name: draw(strategy) for name, strategy in fields.items()}
    loads, now, t = [], first, 0.0
    for _ in range(draw(st.integers(1, most))):
        t += draw(st.sampled_from([0.25, 1.0, 1.0, 1.0, 2.0, 30.0]))
        for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=4)):
            now = now | {name: draw(fields[name])}
        times = draw(st.integers(1, 5))
        for _ in range(times):
            loads.append(now | {"t": t})
            t += 1.0
    return loads


def drive(law: Controller, within: Bounds, told: Sequence[dict[str, Any]]) -> list[Decision]:
    """Return the decisions of a law whose limits are set."""
    return drive_from(law, law.initial(within), within.initial, told)


def drive_from(
    law: Controller, state: Any, limit: int, told: Sequence[dict[str, Any]]
) -> list[Decision]:
    """Return the decisions of a law from a state on."""
    decisions = []
    for fields in told:
        decision = law.next(state, Load(**(fields | {"limit": limit})))
        state, limit = decision.state, decision.limit
        decisions.append(decision)
    return decisions


def steady(t: float, limit: int, **fields: Any) -> Load:
    """Return the load of a limit that is used up by branches which wait, with nothing pressing."""
    load = Load(
        t=t,
        limit=limit,
        in_use=limit,
        peak=limit,
        queued=1000,
        started=limit,
        finished=limit,
        latencies=(1.0,) * min(limit, 64),
        ages=(0.5,) * min(limit, 64),
    )
    return attrs.evolve(load, **fields)
