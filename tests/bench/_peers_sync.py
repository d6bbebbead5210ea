"""Ask a peer that runs plain functions in threads or processes, from a plain program.

Each question is a function of a peer and an extent that returns what was found, by name.
What cannot be stopped is counted, not waited for: a call lasts a few seconds at most, and a
process that is asked is ended by who asked it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from anabranch import Budget, UsageLimitExceededError
from tests.bench._measure import spread
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import Peer, beside
from tests.bench._peers_presence import (
    Service,
    SpentError,
    call_service,
    charging,
    hold,
    leaf,
    nothing,
    raising,
    returning,
    running,
    started,
    wait_for,
)
from tests.bench._scripts import Peak

Values = dict[str, Any]
LIMITS = {"threads": 10, "processes": 2}
MICRO = 1e6
GIVEN_UP = (TimeoutError, multiprocessing.TimeoutError, ExceptionGroup)
KEPT: list[Any] = []  # pools that are not closed, even when they are forgotten


def cost(peer: Peer, extent: PeersExtent) -> Values:
    """Return what a call costs, and 2 and 20 of them together, beside ours in turns: wall time."""
    size = (extent.branches if peer.kind == "threads" else 5 * extent.calls) // peer.slow
    limit, found = LIMITS[peer.kind], {}
    with contextlib.ExitStack() as stack:
        both = dict.fromkeys([peer, beside(peer)])
        pools = [stack.enter_context(each.opens(limit)) for each in both]
        for pool in pools:
            pool.run(nothing, range(4 * limit))
        for name, count in (("branch", size), ("two", 2), ("twenty", 20)):
            times = 1 if count > 20 else max(3, min(100, int(0.05 / _timed(pools[0], count, 2))))
            rounds = []
            for number in range(extent.rounds):
                order = pools if number % 2 else pools[::-1]
                took = {id(pool): _timed(pool, count, times) for pool in order}
                rounds.append([took[id(pool)] for pool in pools])
            per = size if name == "branch" else 1
            found[name] = spread([each[0] for each in rounds]).median / per * MICRO
            if len(pools) > 1:
                found[f"{name}_ratio"] = spread([mine / ours for mine, ours in rounds]).median
    return found


def _timed(pool: Any, count: int, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        pool.run(nothing, range(count))
    return (time.perf_counter() - start) / times


def memory(peer: Peer, extent: PeersExtent) -> Values:
    """Return how much this process grows while so many items are queued, in bytes for each."""
    size = extent.items // (peer.slow if peer.kind == "threads" else 20)
    limit = LIMITS[peer.kind]
    with peer.opens(limit) as pool:
        pool.run(nothing, range(100))
        with Peak() as peak:
            pool.run(nothing, range(size))
    return {"bytes": peak.grown_mb * 2**20 / size, "items": size}


def cancel(peer: Peer, extent: PeersExtent) -> Values:
    """Stop a run by the peer's own means: what is left a moment later, how long until quiet."""
    size = extent.running if peer.kind == "threads" else extent.processes
    with _asked(peer, size) as (pool, folder):
        if pool.stop is None:
            return {"words": "cannot be stopped from outside", "running": size}
        lasting = partial(hold, folder, extent.limit)  # until this process is ended, if need be
        call = partial(_quietly, pool, lasting, range(size))
        threading.Thread(target=call, daemon=True).start()
        found = wait_for(folder, size, extent.limit / 2)
        start = time.perf_counter()
        pool.stop()
        left = wait_for(folder, 0, extent.lasts / 3)
        quiet = None if left else time.perf_counter() - start
        return {"quiet_s": quiet, "running": found, "left": left}


def _quietly(pool: Any, fn: Any, items: Any) -> None:
    with contextlib.suppress(Exception):  # what it raises when it is stopped is its own affair
        pool.run(fn, items)


def timeout(peer: Peer, extent: PeersExtent) -> Values:
    """Run calls that last longer than the timeout: how many still run when it has struck."""
    limit = 4 if peer.kind == "threads" else 2
    with _asked(peer, limit) as (pool, folder):
        pool.run(nothing, range(4))
        start, told = time.perf_counter(), "no error"
        try:
            pool.run(partial(hold, folder, extent.lasts), range(limit), timeout=1.0)
        except GIVEN_UP as error:
            told = type(error).__name__
        late = time.perf_counter() - start - 1.0
        return {"left": running(folder), "late_s": round(late, 2), "told": told, "of": limit}


def nested(peer: Peer, extent: PeersExtent) -> Values:
    """Nest calls in calls under a limit of 1, then 2: do they end, how many leaves at once."""
    found = []
    for limit in (1, 2):
        with _asked(peer, limit) as (pool, folder):
            thread = threading.Thread(
                target=lambda pool=pool, folder=folder: found.append(
                    max(map(max, pool.nested(partial(leaf, folder), range(2), range(2))))
                ),
                daemon=True,
            )
            thread.start()
            thread.join(extent.patience * (5 if peer.kind == "processes" else 1))
            if len(found) < limit:
                return {"ends": not thread.is_alive() and "error", "peak": 0, "limit": 2}
    return {"ends": True, "peak": found[1], "limit": 2}


def breach(peer: Peer, extent: PeersExtent) -> Values:
    """Spend too much in the third call of many: how many have started in the end."""
    size, told = extent.breached, "no error"
    limit = 4 if peer.kind == "threads" else 2
    budget = {"budget": Budget(cost_usd=2)} if peer.spends else {}
    spend = raising
    if peer.spends:
        spend = charging if peer.kind == "threads" else returning
    with tempfile.TemporaryDirectory() as folder:
        with peer.opens(limit, **budget) as pool:
            try:
                pool.run(partial(spend, folder), range(size))
            except (SpentError, UsageLimitExceededError, ExceptionGroup) as error:
                told = type(error).__name__
        time.sleep(0.2)
        return {"started": started(folder), "of": size, "told": told}


def interrupt(peer: Peer, extent: PeersExtent) -> Values:
    """Press Ctrl-C: how long until the program has ended, and what is left of it."""
    limit = 4 if peer.kind == "threads" else 2
    argv = [sys.executable, "-m", "tests.bench._peers_child", peer.key, "held"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = [*argv, f'{{"folder":"{folder}","limit":{limit},"lasts":{extent.lasts}}}']
        return interrupted(program, folder, limit, extent)


def interrupted(
    argv: list[str], folder: str, count: int, extent: PeersExtent, what: int = signal.SIGINT
) -> Values:
    """Signal a program and all that it has started, as a terminal does; then look."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(argv, start_new_session=True, stdin=subprocess.DEVNULL, **quiet)
    try:
        found = wait_for(folder, count, extent.limit / 2)
        start = time.perf_counter()
        os.killpg(child.pid, what)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2 * extent.lasts)
        took = time.perf_counter() - start
        ended = child.poll() is not None
        left = wait_for(folder, 0, 0.3)
        return {"ended": ended, "end_s": took, "left": left, "running": found}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def held(peer: Peer, folder: str, limit: int, lasts: float) -> None:
    """Run what is interrupted."""
    with peer.opens(limit) as pool:
        pool.run(partial(hold, folder, lasts), range(limit))


def follow(peer: Peer, extent: PeersExtent) -> Values:
    """Call what gets slower beyond 8 calls at once: how many call at once in the end."""
    if peer.kind != "threads":
        return {"words": "not asked"}
    with peer.opens(extent.ceiling) as pool:
        Service.end = time.monotonic() + extent.followed
        pool.run(call_service, range(int(extent.followed * 450)))
    return {"limit": extent.ceiling, "last": round(spread(Service.seen).median)}


@contextlib.contextmanager
def _asked(peer: Peer, limit: int) -> Iterator[tuple[Any, str]]:
    """Open a pool, which is never closed, for what hangs would hang there; and a folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        opened = peer.opens(limit)
        KEPT.append(opened)
        yield opened.__enter__(), folder


QUESTIONS = {
    "cost": cost,
    "memory": memory,
    "cancel": cancel,
    "timeout": timeout,
    "nested": nested,
    "breach": breach,
    "outer": interrupt,
    "follow": follow,
}
