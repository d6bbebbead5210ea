"""Loads of a real machine for the adaptive cases: cores, a server, memory, a neighbour."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio

from anabranch import ExecutionConfig, Pipeline, ResourceLimits, Step

PYTHON = sys.executable
GROW = """
import sys, time
blocks, seconds = [], float(sys.argv[2])
for _ in range(int(sys.argv[1]) // 10):
    blocks.append(bytearray(b"x" * 10_000_000))
    time.sleep(seconds / (int(sys.argv[1]) // 10))
time.sleep(seconds / 2)
"""
BURN = """
import time, sys
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(1000))
"""


class BusyError(Exception):
    """Be what a client raises when the server is full."""

    status_code = 503


def burn(seconds: float) -> int:
    """Take CPU; in a process of the cpu lane."""
    begun, total = time.process_time(), 0
    while time.process_time() - begun < seconds:
        total += sum(range(1000))
    return total


def cpu_pipeline(config: Any, branches: int, seconds: float) -> Pipeline[Any, Any]:
    step = Step("burn", partial(_burn, seconds), lane="cpu")
    parallel = Step.parallel(
        dict.fromkeys(map(str, range(branches)), step), concurrency=config, timeout=None
    )
    return Pipeline([parallel])


def _burn(seconds: float, _: object) -> int:
    return burn(seconds)


def server_pipeline(config: Any, requests: int, port: int) -> Pipeline[Any, Any]:
    async def ask(number: Any) -> None:
        latency = 0.05 + 0.15 * (number * 37 % 100) / 99
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(f"{latency}\n".encode())
            if await stream.receive() != b"ok\n":
                raise BusyError

    step = Step.map_over(
        "ask", Step("ask", ask), items=range(requests), concurrency=config, timeout=None
    )
    return Pipeline([step])


def memory_pipeline(config: Any, children: int, mb: int, seconds: float, limit: int) -> Any:
    async def grow(_: Any) -> None:
        await anyio.run_process([PYTHON, "-c", GROW, str(mb), str(seconds)])

    step = Step.parallel(
        dict.fromkeys(map(str, range(children)), grow), concurrency=config, timeout=None
    )
    limits = ExecutionConfig(resource_limits=ResourceLimits(max_memory_mb=limit))
    return Pipeline([step], execution_config=limits)


@contextmanager
def server() -> Iterator[int]:
    """Run the slow server; its port."""
    with subprocess.Popen(
        [PYTHON, "-m", "tests.bench._slow_server"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def neighbours(count: int, seconds: float) -> Iterator[None]:
    """Take the CPU for a while, by processes that are not ours."""
    others = [subprocess.Popen([PYTHON, "-c", BURN, str(seconds)]) for _ in range(count)]
    try:
        yield
    finally:
        for each in others:
            each.kill()
            each.wait()
