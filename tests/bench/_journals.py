"""Measure what a journal costs: the same scripts with one and without, in turns."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from anabranch import Job, Status, open_scheduler
from anabranch.lanes._subprocess import run_script
from anabranch.observe import Journal
from tests.bench._core import Case, CaseFailedError, Tell
from tests.bench._extent import Extent
from tests.bench._measure import Took, run_on
from tests.bench._report import Row
from tests.bench._scripts import AT_ONCE, in_turns, ours
from tests.bench._subjects import LOOPS

BAR = 1.05
ROUNDS = 3  # times as many: one round in four is off by more than the bar on a shared machine


def recorded(loop: str, program: str, count: int) -> Callable[[], float]:
    """Run a script so often, four at a time, each recorded before it is heard of."""

    async def timed() -> Took:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            with Journal(Path(folder) / "journal") as journal:
                async with open_scheduler(AT_ONCE, recorder=journal) as scheduler:
                    scheduler.feed(Job(str(i), run_script, ([program],)) for i in range(count))
                    async for outcome in scheduler.outcomes:
                        if outcome.status is not Status.SUCCEEDED:
                            raise CaseFailedError(f"{program} ended so: {outcome!r:.300}")
                took = time.perf_counter() - start
                if sum(1 for _ in journal.entries()) != count:
                    raise CaseFailedError(f"not all of {count} are in the journal")
        return Took(0.0, took)

    return lambda: run_on(loop, timed).wall


def journal(extent: Extent, tell: Tell) -> Iterator[Row]:
    """2,000 x /bin/true, 4 at a time, with a journal against without."""
    program, count = shutil.which("true") or "true", extent.scripts
    for loop in LOOPS:
        without, name = f"without a journal on {loop}", f"with one on {loop}"
        subjects = {without: ours(loop, [program], count), name: recorded(loop, program, count)}
        bars = {name: BAR} if extent.bars else {}
        rounds = ROUNDS * extent.script_rounds
        yield from in_turns("scripts-journal", count, subjects, without, bars, rounds, tell)


CASES = (Case("scripts-journal", "2,000 x /bin/true, 4 at a time, with a journal", journal),)
