"""Say how much peers are asked: sizes, rounds, and how long somebody waits for an answer."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class PeersExtent:
    """Say how much is asked; a slow peer's own sizes are divided by what it says of itself."""

    branches: int = 10_000
    calls: int = 200  # of processes, and of programs
    items: int = 100_000
    running: int = 1_000  # coroutines and threads; processes and programs are fewer, below
    processes: int = 2
    programs: int = 100
    rounds: int = 5
    starts: int = 3  # fresh interpreters, or programs, for a first result
    breached: int = 60
    patience: float = 4.0  # seconds until a nested run is said to hang
    followed: float = 8.0  # seconds of calls to what gets slower
    ceiling: int = 64
    lasts: float = 3.0  # seconds of a call that nobody can end
    limit: float = 90.0  # seconds for an answer


WHOLE = PeersExtent()
FAST = PeersExtent(
    branches=2_000,
    calls=40,
    items=20_000,
    running=200,
    programs=20,
    rounds=2,
    breached=40,
    patience=2.0,
    followed=3.0,
    starts=1,
    lasts=2.0,
)
EXTENTS = {"whole": WHOLE, "fast": FAST}
