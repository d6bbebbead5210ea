"""Measure how long a program waits for its first result: a fresh interpreter each time, in turns.

A program imports the peer, runs one call as its documents show it, and prints what it returned; the
time is that from its start to its first line. Nothing of ours is loaded by another's program.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench._measure import spread
from tests.bench._peers_env import ROOT, Environment
from tests.bench._peers_known import Peer

ASYNC = "async def f(x): return x\n"
PLAIN = "def f(x): return x\n"
MAIN = "if __name__ == '__main__': main()\n"
CODE = {
    "ours-asyncio": (
        "from anabranch import Pipeline, Step\n" + ASYNC + "p = Pipeline([Step.map_over('s', f, "
        "max_concurrency=4)])\nprint(p.run_sync([1], loop='asyncio').output)\n"
    ),
    "ours-trio": (
        "from anabranch import Pipeline, Step\n" + ASYNC + "p = Pipeline([Step.map_over('s', f, "
        "max_concurrency=4)])\nprint(p.run_sync([1]).output)\n"
    ),
    "gather": (
        "import asyncio\n" + ASYNC + "async def main():\n  s = asyncio.Semaphore(4)\n  async def g("
        "x):\n    async with s: return await f(x)\n  print(await asyncio.gather(g(1)))\n"
        "asyncio.run(main())\n"
    ),
    "group": (
        "import asyncio\n" + ASYNC + "async def main():\n  s = asyncio.Semaphore(4)\n  async def g("
        "x):\n    async with s: print(await f(x))\n  async with asyncio.TaskGroup() as t: "
        "t.create_task(g(1))\nasyncio.run(main())\n"
    ),
    "anyio": (
        "import anyio\n" + ASYNC + "async def main():\n  s = anyio.CapacityLimiter(4)\n  async def "
        "g(x):\n    async with s: print(await f(x))\n  async with anyio.create_task_group() as t: "
        "t.start_soon(g, 1)\nanyio.run(main)\n"
    ),
    "trio": (
        "import trio\n" + ASYNC + "async def main():\n  s = trio.CapacityLimiter(4)\n  async def "
        "g(x):\n    async with s: print(await f(x))\n  async with trio.open_nursery() as t: "
        "t.start_soon(g, 1)\ntrio.run(main)\n"
    ),
    "aiometer": (
        "import aiometer, asyncio\n" + ASYNC + "async def main(): print(await aiometer.run_on_each("
        "f, [1], max_at_once=4) or 1)\nasyncio.run(main())\n"
    ),
    "aiostream": (
        "import asyncio\nfrom aiostream import stream\n" + ASYNC + "async def main(): print(await "
        "stream.list(stream.map(stream.iterate([1]), f, task_limit=4)))\nasyncio.run(main())\n"
    ),
    "langgraph": (
        "import asyncio\nfrom typing import TypedDict\nfrom langgraph.graph import END, START, "
        "StateGraph\nclass S(TypedDict):\n  x: int\nasync def f(s): return {'x': s['x']}\n"
        "b = StateGraph(S)\nb.add_node('f', f)\nb.add_edge(START, 'f')\nb.add_edge('f', END)\n"
        "print(asyncio.run(b.compile().ainvoke({'x': 1})))\n"
    ),
    "ours-pool": (
        "from anabranch import WorkerPool\n" + PLAIN + "with WorkerPool(4) as p: "
        "print(list(p.map(f, [1])), flush=True)\n"
    ),
    "ours-threads": (
        "from anabranch import Pipeline, Step\n" + PLAIN + "p = Pipeline([Step.map_over('s', f, "
        "max_concurrency=4)])\nprint(p.run_sync([1]).output)\n"
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n" + PLAIN + "with ThreadPoolExecutor(4)"
        " as p: print(list(p.map(f, [1])), flush=True)\n"
    ),
    "joblib-threads": (
        "from joblib import Parallel, delayed\n" + PLAIN + "print(Parallel(4, backend='threading')("
        "[delayed(f)(1)]))\n"
    ),
    "dask-threads": (
        "from distributed import Client\n" + PLAIN + "with Client(processes=False, n_workers=1, "
        "threads_per_worker=4, dashboard_address=None) as c: print(c.submit(f, 1).result(), "
        "flush=True)\n"
    ),
    "ours-processes": (
        "from anabranch import Pipeline, Step\n" + PLAIN + "def main():\n  p = Pipeline([Step.map_"
        "over('m', Step('s', f, lane='cpu'), max_concurrency=2)])\n  print(p.run_sync([1]).output, "
        "flush=True)\n" + MAIN
    ),
    "processes": (
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\n"
        + PLAIN
        + "def main():\n  c = multiprocessing.get_context('spawn')\n  with ProcessPoolExecutor(2, "
        "mp_context=c) as p: print(list(p.map(f, [1])), flush=True)\n" + MAIN
    ),
    "joblib": (
        "from joblib import Parallel, delayed\n" + PLAIN + "def main(): print(Parallel(2)([delayed("
        "f)(1), delayed(f)(2)]), flush=True)\n" + MAIN
    ),
    "dask": (
        "from distributed import Client\n" + PLAIN + "def main():\n  with Client(n_workers=1, "
        "threads_per_worker=1, dashboard_address=None) as c: print(c.submit(f, 1).result(), "
        "flush=True)\n" + MAIN
    ),
}
SHELL = {
    "xargs": "echo 1 | xargs -P 4 -n 1 echo",
    "parallel": "echo 1 | parallel -j 4 echo",
    "ours-exec": "echo 1 | python -m anabranch exec -j 4 echo",
}


def firsts(
    where: Environment,
    peers: Sequence[Peer],
    rounds: int,
    tell: Callable[[str], None],
    until: float,
) -> dict[str, list[float]]:
    """Return each peer's seconds to its first line; of one that fails, an empty list.

    After ``until``, by the monotonic clock, no program is started any more.
    The first round is not counted: it compiles what is imported, and reads it from the disk.
    """
    taken: dict[str, list[float]] = {peer.key: [] for peer in peers}
    failed: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for peer in peers if number % 2 else reversed(peers):
                if peer.key in failed or time.monotonic() > until:
                    continue
                tell(f"first result, round {number} of {rounds}: {peer.name}")
                seconds = _first(_argv(where, peer, folder), where.env)
                if seconds is None:
                    failed.add(peer.key)
                    taken[peer.key].clear()
                elif number:
                    taken[peer.key].append(seconds)
    return taken


def median(seconds: Sequence[float]) -> float | None:
    return spread(seconds).median if seconds else None


def _argv(where: Environment, peer: Peer, folder: str) -> list[str]:
    if peer.key in SHELL:
        return ["sh", "-c", SHELL[peer.key]]
    file = Path(folder) / f"first_{peer.key}.py"
    file.write_text(CODE[peer.key])
    return [where.python, str(file)]


def _first(argv: Sequence[str], env: dict[str, str]) -> float | None:
    """Return the seconds until a program's first line, or None if it ends without one."""
    start = time.perf_counter()
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        seconds = time.perf_counter() - start
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return seconds if line else None
