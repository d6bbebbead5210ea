"""Measure what an import costs: processes that import and end, in turns, by their CPU.

What is compiled is kept, as it is where a package is installed; the first run of each compiles.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import attrs

from tests.bench._core import Case, Tell
from tests.bench._extent import Extent
from tests.bench._report import Row
from tests.bench._scripts import in_turns

BAR = 1.3
LOOPS = "import trio, anyio"
PACKAGE = "import anabranch"
SHOWN = (
    "from anabranch import Pipeline, Step",
    "from anabranch import WorkerPool",
    "from anabranch import ConcurrencyManager",
)


def cpu_of(code: str, kept: str) -> float:
    """Run code in a process of its own; return its CPU, in seconds."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": kept}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = os.times()
    return after.children_user + after.children_system - before[2] - before[3]


def importing(extent: Extent, tell: Tell) -> Iterator[Row]:
    """CPU of a process that imports the package, or some of its names, against both loops."""
    bars = {PACKAGE: BAR} if extent.bars else {}
    with tempfile.TemporaryDirectory() as kept:
        subjects: dict[str, Callable[[], float]] = {
            code: partial(cpu_of, code, kept) for code in (LOOPS, PACKAGE, *SHOWN)
        }
        for number, (code, once) in enumerate(subjects.items(), 1):
            tell(f"compiled {number} of {len(subjects)}: {code}")
            once()
        for row in in_turns("import", 1, subjects, LOOPS, bars, extent.rounds, tell):
            yield attrs.evolve(row, unit="s cpu")


CASES = (Case("import", "CPU of a process that imports, against both loops", importing),)
