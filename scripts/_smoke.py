"""Use an installed anabranch as a newcomer would; `scripts/package.py` runs this.

Nothing but the package and what it depends on is there, and no file of the repository.
"""

import asyncio
import subprocess
import sys
import warnings
from importlib.metadata import entry_points, files
from pathlib import Path

import anyio

import anabranch
from anabranch import Budget, ConcurrentExecutor, Step, WorkerPool, charge


async def double(number: int) -> int:
    """Wait a moment, and spend something."""
    await anyio.sleep(0.001)
    charge(tokens=1)
    return 2 * number


def square(number: int) -> int:
    """Run in a thread, or in a process."""
    return number * number


def pipelines() -> None:
    """Run one on both loops, in threads and in a process."""
    steps = Step.map_over("double", double, max_concurrency=2) >> Step("sum", sum)
    pipeline = steps >> Step("square", square) >> Step("again", square, lane="cpu")
    for loop in ("trio", "asyncio"):
        result = pipeline.run_sync(range(4), loop=loop, budget=Budget(tokens=4))
        assert result.unwrap() == 12**4, result
        assert result.usage.tokens == 4


def pools_and_scripts() -> None:
    """Run a task in the pool for plain programs, and a script as a child process."""
    with WorkerPool(max_workers=2) as pool:
        assert list(pool.map(square, range(4))) == [0, 1, 4, 9]
    Path("script.py").write_text("print('hello')\n", encoding="utf-8")
    found = asyncio.run(ConcurrentExecutor().execute_module("hello", "script.py"))
    assert (found["success"], found["stdout"].split()) == (True, ["hello"]), found


def command() -> None:
    """Run a pipeline by the command, and see that the package says that it is typed."""
    Path("flow.py").write_text(
        "from anabranch import Pipeline, Step\npipeline = Pipeline([Step('sum', sum)])\n",
        encoding="utf-8",
    )
    argv = [sys.executable, "-m", "anabranch", "run", "flow.py", "--data", "[1, 2]"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["3"], done.stdout + done.stderr
    assert "anabranch" in entry_points(group="console_scripts").names
    assert "anabranch/py.typed" in {file.as_posix() for file in files("anabranch") or ()}


if __name__ == "__main__":
    warnings.simplefilter("error")
    assert all(hasattr(anabranch, name) for name in anabranch.__all__)
    pipelines()
    pools_and_scripts()
    command()
    print("works")
