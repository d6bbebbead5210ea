"""Measure scripts as child processes against xargs, GNU parallel, and threads of the library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psutil

from anabranch import ConcurrentExecutor, Job, Status, open_scheduler
from anabranch.lanes._subprocess import run_script
from tests.bench._core import Case, CaseFailedError, Tell
from tests.bench._extent import Extent
from tests.bench._measure import Took, run_on, spread
from tests.bench._report import Row
from tests.bench._subjects import LOOPS

AT_ONCE = 4
PIECE = 64 * 1024
XARGS_BAR = 1 / 0.6
XARGS_PYTHON_BAR = 1 / 0.9
PARALLEL_BAR = 1 / 2
POOL_BAR = 1.1
OUTPUT_BAR = 1.3
OUTPUT_BAR_MB = 64.0
MB = 2**20
PRINTS = (
    "import os,sys,threading\n"
    "piece=b'x'*65536\n"
    "def write(to):\n"
    "  for _ in range(int(sys.argv[1])*16): os.write(to,piece)\n"
    "threads=[threading.Thread(target=write,args=(to,)) for to in (1,2)]\n"
    "[t.start() for t in threads];[t.join() for t in threads]\n"
)

Once = Callable[[], float]


def ours(loop: str, argv: Sequence[str], count: int) -> Once:
    """Run a script so often, four at a time, by a scheduler."""

    async def timed() -> Took:
        start = time.perf_counter()
        async with open_scheduler(AT_ONCE) as scheduler:
            scheduler.feed(Job(str(i), run_script, (argv,)) for i in range(count))
            async for outcome in scheduler.outcomes:
                if outcome.status is not Status.SUCCEEDED or not outcome.value.success:
                    raise CaseFailedError(f"{argv[0]} ended so: {outcome!r:.300}")
        return Took(0.0, time.perf_counter() - start)

    return lambda: run_on(loop, timed).wall


def command(argv: Sequence[str], words: str = "") -> Once:
    """Run another program; ``words`` are its input."""

    def timed() -> float:
        start = time.perf_counter()
        subprocess.run(argv, input=words, text=True, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return timed


def xargs(argv: Sequence[str], count: int) -> Once:
    """Run a script so often by xargs, which adds no argument."""
    words = "\n".join(map(str, range(count)))
    return command(["xargs", "-P", str(AT_ONCE), "-I{}", *argv], words)


def in_turns(
    case: str,
    size: int,
    subjects: dict[str, Once],
    against: str,
    bars: dict[str, float],
    rounds: int,
    tell: Tell,
) -> Iterator[Row]:
    """Time subjects in turns; a ratio is to ``against`` of the same round."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds):
        for name in subjects if number % 2 else reversed(subjects):
            tell(f"round {number + 1} of {rounds}, {name}")
            taken[name].append(subjects[name]())
    for name, seconds in taken.items():
        pairs = zip(seconds, taken[against], strict=True)
        yield Row(
            case=case,
            size=size,
            subject=name,
            value=spread(seconds).median,
            unit="s wall",
            against="" if name == against else against,
            ratio=None if name == against else spread([a / b for a, b in pairs]),
            bar=bars.get(name),
        )


def missing(case: str, size: int, program: str) -> Row:
    """Say that something is not there to be compared with."""
    return Row(
        case=case, size=size, subject=f"{program} is missing: not compared", value=0, unit=""
    )


def quick(extent: Extent, tell: Tell) -> Iterator[Row]:
    """2,000 x /bin/true, 4 at a time, against xargs and GNU parallel."""
    program, count = shutil.which("true") or "true", extent.scripts
    subjects = {f"anabranch on {loop}": ours(loop, [program], count) for loop in LOOPS}
    yield from _against_commands(
        "scripts-true", [program], subjects, XARGS_BAR, count, extent, tell
    )


def pythons(extent: Extent, tell: Tell) -> Iterator[Row]:
    """200 x python -c pass, 4 at a time, against xargs."""
    argv, count = [sys.executable, "-c", "pass"], extent.pythons
    subjects = {f"anabranch on {loop}": ours(loop, argv, count) for loop in LOOPS}
    yield from _against_commands(
        "scripts-python", argv, subjects, XARGS_PYTHON_BAR, count, extent, tell
    )


def _against_commands(
    case: str,
    argv: Sequence[str],
    subjects: dict[str, Once],
    bar: float,
    count: int,
    extent: Extent,
    tell: Tell,
) -> Iterator[Row]:
    bars = dict.fromkeys(subjects, bar) if extent.bars else {}
    if shutil.which("xargs") is None:
        yield missing(case, count, "xargs")
        return
    compared = {"xargs -P 4": xargs(argv, count), **subjects}
    yield from in_turns(case, count, compared, "xargs -P 4", bars, extent.script_rounds, tell)
    if case != "scripts-true":
        return
    if shutil.which("parallel") is None:
        yield missing(case, count, "GNU parallel")
        return
    words = "\n".join(map(str, range(count)))
    theirs = command(["parallel", "-N0", "-j", str(AT_ONCE), *argv], words)
    bars = dict.fromkeys(subjects, PARALLEL_BAR) if extent.bars else {}
    compared = {"GNU parallel -j 4": theirs, **subjects}
    yield from in_turns(case, count, compared, "GNU parallel -j 4", bars, 2, tell)


def executor(extent: Extent, tell: Tell) -> Iterator[Row]:
    """200 x python -c pass through ConcurrentExecutor, against ThreadPool + subprocess.run."""
    count = extent.pythons
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.py"
        path.write_text("pass\n")

        def on(loop: str) -> Once:
            async def timed() -> Took:
                start = time.perf_counter()
                runs = ConcurrentExecutor(AT_ONCE)
                results = await runs.execute_batch([(str(i), path) for i in range(count)])
                if not all(result["success"] for result in results):
                    raise CaseFailedError(str(results)[:300])
                return Took(0.0, time.perf_counter() - start)

            return lambda: run_on(loop, timed).wall

        def pool() -> float:
            start = time.perf_counter()
            with ThreadPoolExecutor(AT_ONCE) as threads:
                for _ in range(count):
                    argv = [sys.executable, str(path)]
                    threads.submit(subprocess.run, argv, capture_output=True, check=True)
            return time.perf_counter() - start

        subjects = {f"ConcurrentExecutor on {loop}": on(loop) for loop in LOOPS}
        bars = dict.fromkeys(subjects, POOL_BAR) if extent.bars else {}
        compared = {"ThreadPool + subprocess.run": pool, **subjects}
        yield from in_turns(
            "scripts-executor", count, compared, "ThreadPool + subprocess.run", bars,
            extent.script_rounds, tell,
        )  # fmt: skip


def output(extent: Extent, tell: Tell) -> Iterator[Row]:
    """50 scripts that print 100 MB to each stream, 4 at a time, against threads that discard."""
    count, size = extent.printed
    argv = [sys.executable, "-c", PRINTS, str(size)]
    grown: list[float] = []

    def measured(loop: str) -> Once:
        once = ours(loop, argv, count)

        def timed() -> float:
            with Peak() as peak:
                seconds = once()
            grown.append(peak.grown_mb)
            return seconds

        return timed

    def pairs() -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for each in [threads.submit(discard, argv) for _ in range(count)]:
                each.result()
        return time.perf_counter() - start

    subjects = {f"anabranch on {loop}": measured(loop) for loop in LOOPS}
    bars = dict.fromkeys(subjects, OUTPUT_BAR) if extent.bars else {}
    compared = {"4 pairs of threads that discard": pairs, **subjects}
    rounds = 1 if count >= 50 else extent.script_rounds
    against = "4 pairs of threads that discard"
    yield from in_turns("scripts-output", count, compared, against, bars, rounds, tell)
    yield Row(
        case="scripts-output",
        size=count,
        subject="memory more, at most",
        value=max(grown),
        unit="MB",
        bar=OUTPUT_BAR_MB if extent.bars else None,
    )


def discard(argv: Sequence[str]) -> None:
    """Run a script, and read each of its streams in a thread, in pieces, and keep nothing."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        readers = [threading.Thread(target=_drain, args=(p,)) for p in (child.stdout, child.stderr)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()


def _drain(pipe: object) -> None:
    while os.read(pipe.fileno(), PIECE):  # type: ignore[attr-defined]  # a pipe
        pass


class Peak:
    """Watch how much this process grows while the block runs, a hundred times a second."""

    grown_mb = 0.0

    def __enter__(self) -> Self:
        self._rss = psutil.Process().memory_info
        self._start = self._rss().rss
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.grown_mb = max(self.grown_mb, (self._rss().rss - self._start) / MB)


CASES = (
    Case("scripts-true", "2,000 x /bin/true, 4 at a time, against xargs", quick),
    Case("scripts-python", "200 x python -c pass, 4 at a time, against xargs", pythons),
    Case("scripts-executor", "200 x python -c pass, against a pool of threads", executor),
    Case("scripts-output", "50 scripts that print 100 MB to each stream", output),
)
