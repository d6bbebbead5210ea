"""Time steps in a process of its own, of whichever source tree PYTHONPATH names.

Usage: python -m tests.bench._unused trio|asyncio SIZE; then a line on stdin for each sample.
It uses only what the package has had since its first commit, so that old trees can be timed too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import trio

from anabranch import ConcurrencyConfig, Pipeline, Step

ROOT = Path(__file__).resolve().parent.parent.parent
BEFORE = "6d2ea3a"  # the last commit without rules, budgets, retries and merging
BRANCHES = 20_000  # of which a sample has about so many
LIMIT = 10


async def checkpoint(data: int) -> int:
    """Pass one checkpoint, in the words of the loop itself."""
    if loop_name == "trio":
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)
    return data


loop_name = ""


async def serve(size: int) -> None:
    """Answer each line on stdin with the CPU time of one sample, in us a branch."""
    branches = {str(i): checkpoint for i in range(size)}
    pipeline = Pipeline([Step.parallel(branches, concurrency=ConcurrencyConfig(LIMIT))])
    times = max(1, BRANCHES // size)
    for _ in range(min(times, 20)):
        await pipeline.run(1)
    print("ready", flush=True)
    for _ in sys.stdin:
        gc.collect()
        start = time.process_time()
        for _ in range(times):
            await pipeline.run(1)
        print((time.process_time() - start) / times / size * 1e6, flush=True)


@contextmanager
def timer(source: Path, loop: str, size: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that times the package in ``source``."""
    command = [sys.executable, "-m", "tests.bench._unused", loop, str(size)]
    with subprocess.Popen(
        command,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None, "it was asked for"
            assert process.stdout.readline() == "ready\n", f"the tree in {source} did not run"
            yield process
        finally:
            process.kill()


@contextmanager
def tree_before() -> Iterator[Path]:
    """Check out the source of the commit before these features, for as long as it is timed."""
    with tempfile.TemporaryDirectory() as folder:
        add = ["git", "worktree", "add", "--detach", "--force", folder, BEFORE]
        subprocess.run(add, cwd=ROOT, check=True, capture_output=True)
        try:
            yield Path(folder) / "src"
        finally:
            remove = ["git", "worktree", "remove", "--force", folder]
            subprocess.run(remove, cwd=ROOT, check=False, capture_output=True)


def compare(loop: str, size: int, rounds: int) -> tuple[list[float], list[float]]:
    """Time now and before in turns; return the samples of each, us of CPU a branch."""
    taken: tuple[list[float], list[float]] = ([], [])
    with ExitStack() as stack:
        trees = [ROOT / "src", stack.enter_context(tree_before())]
        timers = [stack.enter_context(timer(tree, loop, size)) for tree in trees]
        for _ in range(rounds):
            for process, samples in zip(timers, taken, strict=True):
                assert process.stdin is not None, "both were asked for"
                assert process.stdout is not None, "both were asked for"
                process.stdin.write("go\n")
                process.stdin.flush()
                samples.append(float(process.stdout.readline()))
    return taken


if __name__ == "__main__":
    loop_name = sys.argv[1]
    anyio.run(serve, int(sys.argv[2]), backend=loop_name)
