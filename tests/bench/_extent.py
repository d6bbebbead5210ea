"""Say how much is measured: how many sizes, how often."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Extent:
    """Say how much is measured; without ``bars`` nothing is judged."""

    bars: bool = True
    sizes: tuple[int, ...] = (1, 10, 100, 1_000, 10_000, 100_000)
    contextvar_sizes: tuple[int, ...] = (1_000, 100_000)
    small: tuple[int, ...] = (1, 2, 5, 10)
    growth: tuple[int, ...] = (1_000, 10_000, 100_000)
    rounds: int = 15  # of what is quick; what is not gets fewer
    big_rounds: int = 5  # from 100,000 branches on
    shown_rounds: int = 3  # of what has no bar
    batch: int = 3_000  # small sizes are repeated until a sample has so many branches
    steps: int = 200  # small steps in a sample
    items: int = 1_000_000
    sleeps: int = 5_000
    threads: int = 2_000
    processes: int = 200
    unused: tuple[int, ...] = (2, 100, 10_000)
    unused_rounds: int = 30
    merged: tuple[int, ...] = (1_000, 3_000, 10_000)
    breached: tuple[int, int] = (10_000, 100)  # branches that run, and that are queued
    pairs: int = 5  # of the best fixed limit and the adaptive one
    burn: float = 0.4  # seconds of CPU of a branch
    requests: int = 400
    children: int = 16
    neighbour: float = 20.0  # seconds
    sampled: float = 20.0  # seconds
    scripts: int = 2_000
    pythons: int = 200
    printed: tuple[int, int] = (50, 100)  # scripts, and the MB that each prints to each stream
    script_rounds: int = 5

    lane_rounds: int = 10
    mapped_io: int = 1_000
    mapped_cpu: int = 200
    processed: tuple[tuple[int, float], ...] = ((40, 0.05), (2_000, 0.001))  # calls, seconds

    pool_tasks: int = 10_000
    pool_sleeps: int = 300

    def rounds_for(self, size: int) -> int:
        return self.big_rounds if size >= 100_000 else self.rounds

    def shown_for(self, size: int) -> int:
        """Return the rounds of what has no bar; the slowest of it takes ten seconds a sample."""
        return min(self.shown_rounds, 2) if size >= 100_000 else self.shown_rounds

    def times_for(self, size: int) -> int:
        return max(1, min(self.steps, self.batch // size))


WHOLE = Extent()
FAST = Extent(
    lane_rounds=4,
    sizes=(1, 1_000, 100_000),
    growth=(1_000, 100_000),
    contextvar_sizes=(1_000,),
    rounds=5,
    big_rounds=2,
    shown_rounds=1,
    items=100_000,
    unused=(2, 10_000),
    unused_rounds=8,
    merged=(1_000, 10_000),
    pairs=2,
    burn=0.1,
    children=6,
    neighbour=8.0,
    sampled=6.0,
    scripts=500,
    pythons=60,
    printed=(8, 50),
    script_rounds=3,
)
