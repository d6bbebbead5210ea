"""Leave a file for as long as a call runs: so that it is counted, wherever it runs.

A call in a thread, in a process or of another program is seen by its file, which names its process;
it runs while the file is there and the process lives. Functions here can be pickled.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import ClassVar

import attrs
import psutil

from anabranch import charge


class SpentError(Exception):
    """The budget is spent: nothing more is to be done."""


def nothing(item: object) -> object:
    return item


def hold(folder: str, seconds: float, item: object) -> object:
    """Be there for so long, unless the process is ended."""
    file = _entered(folder, item)
    try:
        time.sleep(seconds)
    finally:
        file.unlink(missing_ok=True)
    return item


def leaf(folder: str, item: object) -> int:
    """Return how many run at once, this one included."""
    file = _entered(folder, item)
    try:
        time.sleep(0.08)
        return running(folder)
    finally:
        file.unlink(missing_ok=True)


@attrs.frozen
class Spent:
    """Be the output of a call that has cost something."""

    cost_usd: float = 1.0


def charging(folder: str, item: int) -> object:
    """Say that it has started, and charge for it."""
    (Path(folder) / f"started-{item}").touch()
    charge(cost_usd=1)
    time.sleep(0.05)
    return item


def returning(folder: str, item: int) -> Spent:
    """Say that it has started, and return what it has cost."""
    (Path(folder) / f"started-{item}").touch()
    return Spent()


def raising(folder: str, item: int) -> object:
    """Say that it has started; the third one raises, as what has no budget must."""
    (Path(folder) / f"started-{item}").touch()
    if item == 2:
        raise SpentError("spent 3 of 2")
    time.sleep(0.05)
    return item


class Service:
    """Be a service that gets slower beyond 8 calls at once; one for each process, to be pickled.

    A call takes 20 ms, in proportion longer where more than 8 are there, and nothing after `end`.
    """

    lock = threading.Lock()
    end = 0.0
    there = 0
    seen: ClassVar[list[int]] = []  # how many were there, at each call of the last second


def call_service(item: object) -> None:
    with Service.lock:
        Service.there += 1
        there = Service.there
    now = time.monotonic()
    if Service.end - 1 < now < Service.end:
        Service.seen.append(there)
    if now < Service.end:
        time.sleep(0.02 * max(1.0, there / 8))
    with Service.lock:
        Service.there -= 1


def started(folder: str) -> int:
    return len(list(Path(folder).glob("started-*")))


def running(folder: str) -> int:
    """Count those whose file is there and whose process lives."""
    names = [name for name in os.listdir(folder) if not name.startswith("started-")]
    pids = [int(name.rpartition(".")[2]) for name in names]
    living = {pid: _lives(pid) for pid in set(pids)}
    return sum(living[pid] for pid in pids)


def wait_for(folder: str, count: int, seconds: float) -> int:
    """Wait until so many run, or fewer if it is 0, for so long at most; return how many do."""
    end = time.monotonic() + seconds
    while (found := running(folder)) != count and (count == 0 or found < count):
        if time.monotonic() > end:
            break
        time.sleep(0.002)
    return found


def _entered(folder: str, item: object) -> Path:
    file = Path(folder) / f"{item}.{os.getpid()}"
    file.touch()
    return file


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
