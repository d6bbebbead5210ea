"""Ask programs that run a command for each argument: xargs, GNU parallel, and ours.

Each question is a function of a peer and an extent that returns what was found, by name.
Commands say that they run by a file, as calls in processes do; arguments come from a file too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.bench._measure import spread
from tests.bench._peers_extent import PeersExtent
from tests.bench._peers_known import Peer, beside
from tests.bench._peers_presence import running, started, wait_for
from tests.bench._peers_sync import MICRO, interrupted

Values = dict[str, Any]
AT_ONCE = 4
HOLD = 'touch "$0/$2.$$"; exec sleep $1'
FAIL = 'touch "$0/started-$1"; [ "$1" = 2 ] && exit 255; sleep 0.05'
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
STARTS = {
    "xargs": (["xargs"], ["-n", "1", "-P"]),
    "parallel": (["parallel"], ["-q", "-j"]),
    "ours-exec": ([sys.executable, "-m", "anabranch", "exec"], ["-j"]),
}
HALTS = {"parallel": ["--halt", "now,fail=1"], "ours-exec": ["--halt", "now,fail=1"]}


def argv(peer: Peer, items: str, command: list[str], at_once: int = AT_ONCE, *flags: str) -> list:
    """Return how a command is run for each line of a file."""
    program, limit = STARTS[peer.key]
    return [*program, "-a", items, *flags, *limit, str(at_once), *command]


@contextlib.contextmanager
def folders(count: int) -> Iterator[tuple[str, str]]:
    """Make a folder to be seen in, and a file of so many arguments."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        items = Path(other) / "items"
        items.write_text("".join(f"{number}\n" for number in range(count)))
        yield folder, str(items)


def cost(peer: Peer, extent: PeersExtent) -> Values:
    """Return what one more job of /bin/true costs, and 2 and 20 of them with the start: wall.

    Rounds of the two programs are taken in turns.
    """
    both = list(dict.fromkeys([peer, beside(peer)]))
    sizes = {"two": 2, "twenty": 20, "branch": 2 * extent.calls // peer.slow}
    took: dict[str, list[float]] = {}
    for name, count in sizes.items():
        with folders(count) as (_, items):
            rounds = []
            for number in range(min(3, extent.rounds)):
                order = both if number % 2 else both[::-1]
                timed = {each: _timed(argv(each, items, [shutil.which("true")])) for each in order}
                rounds.append([timed[each] for each in both])
        took[name] = [spread(each).median for each in zip(*rounds, strict=True)]
    more = sizes["branch"] - 2
    took["branch"] = [(a - b) / more for a, b in zip(took["branch"], took["two"], strict=True)]
    if min(took["branch"]) <= 0:  # starts differ by more than so many jobs take
        del took["branch"]
    found: Values = {name: each[0] * MICRO for name, each in took.items()}
    if len(both) > 1:
        found |= {f"{name}_ratio": each[0] / each[1] for name, each in took.items()}
    return found


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **QUIET)
    return time.perf_counter() - start


def memory(peer: Peer, extent: PeersExtent) -> Values:
    """Return how much larger the program is with so many arguments than with a few."""
    grown = []
    for size in (10, extent.items):
        with folders(size) as (folder, items):
            command = ["sh", "-c", HOLD, folder, "30"]
            with _program(argv(peer, items, command)) as child:
                wait_for(folder, AT_ONCE, 10)
                time.sleep(1)
                grown.append(psutil.Process(child.pid).memory_info().rss)
    return {"bytes": max(0, grown[1] - grown[0]) / extent.items, "items": extent.items}


def cancel(peer: Peer, extent: PeersExtent) -> Values:
    """Send SIGTERM to the program alone: what is left a moment later, how long until quiet."""
    size = extent.programs
    with folders(size) as (folder, items):
        command = ["sh", "-c", HOLD, folder, str(extent.lasts + 4)]
        with _program(argv(peer, items, command, size)) as child:
            found = wait_for(folder, size, extent.limit / 2)
            start = time.perf_counter()
            child.terminate()
            left = wait_for(folder, 0, extent.lasts / 3)
            quiet = None if left else time.perf_counter() - start
            return {"quiet_s": quiet, "running": found, "left": left}


def timeout(peer: Peer, extent: PeersExtent) -> Values:
    """Give jobs a timeout, the whole program where they cannot have one: how many still run."""
    with folders(AT_ONCE) as (folder, items):
        command = ["sh", "-c", HOLD, folder, str(extent.lasts)]
        flags = () if peer.key == "xargs" else ("--timeout", "1")
        around = ["timeout", "1"] if peer.key == "xargs" else []
        start = time.perf_counter()
        with _program([*around, *argv(peer, items, command, AT_ONCE, *flags)]) as child:
            child.wait(extent.limit / 2)
            late = time.perf_counter() - start - 1
            return {"left": running(folder), "late_s": round(late, 2), "of": AT_ONCE}


def breach(peer: Peer, extent: PeersExtent) -> Values:
    """Fail in the third job, with what ends a run early: how many have started in the end."""
    with folders(extent.breached) as (folder, items):
        flags = HALTS.get(peer.key, [])
        with _program(argv(peer, items, ["sh", "-c", FAIL, folder], AT_ONCE, *flags)) as child:
            told = f"exit code {child.wait(extent.limit / 2)}"
        return {"started": started(folder), "of": extent.breached, "told": told}


def interrupt(peer: Peer, extent: PeersExtent) -> Values:
    """Press Ctrl-C: how long until the program has ended, and what is left of it."""
    with folders(AT_ONCE) as (folder, items):
        command = ["sh", "-c", HOLD, folder, str(extent.lasts)]
        return interrupted(argv(peer, items, command), folder, AT_ONCE, extent)


def not_asked(peer: Peer, extent: PeersExtent) -> Values:
    return {"words": "not asked"}


@contextlib.contextmanager
def _program(command: list[str]) -> Iterator[subprocess.Popen]:
    """Start a program in a session of its own, and end all of it afterwards."""
    child = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **QUIET)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


QUESTIONS = {
    "cost": cost,
    "memory": memory,
    "cancel": cancel,
    "timeout": timeout,
    "nested": not_asked,
    "breach": breach,
    "outer": interrupt,
    "follow": not_asked,
}
