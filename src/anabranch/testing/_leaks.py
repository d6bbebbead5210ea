"""See what a test may leave behind: tasks, threads, child processes and descriptors.

Threads that trio keeps idle, and what anyio's plugin runs tests in, do not count.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import trio

from anabranch.testing._clock import where

KINDS = ("task", "thread", "process", "descriptor")

Found = dict[Any, str]
Snapshot = dict[str, Found]

# anyio drives fixtures and tests from a short task of its own, and its process pool has one that
# lives as long as the loop.
_OWN_TASKS = ("_call_in_runner_task", "_shutdown_process_pool", "process pool shutdown")
_DESCRIPTORS = "/proc/self/fd/"


def is_alone() -> bool:
    """Tell whether no other thread of this process is busy."""
    return threading.active_count() == 1 or len(_busy_threads()) == 1


def tasks() -> Found:
    """Find the tasks of the running loop, each with the line where it waits."""
    found: dict[Any, tuple[str, object]]
    if trio.lowlevel.in_trio_task():
        found = {task: (task.name, task.coro) for task in trio_tasks()}
    else:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        found = {task: (f"{task.get_name()} {_name(task)}", task.get_coro()) for task in others}
    return {
        task: f"{name}: {where(coro)}"
        for task, (name, coro) in found.items()
        if not any(own in name for own in _OWN_TASKS)
    }


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "")


def trio_tasks() -> list[trio.lowlevel.Task]:
    """List the tasks of the running loop of trio, parents first."""
    root = trio.lowlevel.current_root_task()
    seen = [root] if root else []
    for task in seen:
        seen += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return seen


def snapshot() -> Snapshot:
    """Find the threads, child processes and descriptors of this process."""
    return {"thread": _busy_threads(), "process": _children(), "descriptor": _descriptors()}


def leaks(before: Snapshot) -> Snapshot:
    """Find what is there now and was not before."""
    now = snapshot()
    return {kind: left for kind in now if (left := new(before[kind], now[kind]))}


def new(before: Found, now: Found) -> Found:
    """Keep what was not there before."""
    return {thing: text for thing, text in now.items() if thing not in before}


def _busy_threads() -> Found:
    frames = sys._current_frames()
    busy: Found = {}
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None:
            busy[thread] = f"{thread.name}, starting or ending"
            continue
        code = frame.f_code
        # trio caches idle threads for ten seconds; such a one waits in this very function.
        if code.co_name == "_work" and code.co_filename.endswith("_thread_cache.py"):
            continue
        busy[thread] = f"{thread.name}: {code.co_filename}:{frame.f_lineno} in {code.co_name}"
    return busy


def _children() -> Found:
    lists = list(Path("/proc/self/task").glob("*/children"))
    if lists:  # a hundred times faster than psutil, which reads every process there is
        pids = [int(pid) for each in lists for pid in _text(each).split()]
    else:
        pids = [child.pid for child in psutil.Process().children()]
    return {pid: f"pid {pid} ({_command(pid)})" for pid in pids}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # a thread that ended meanwhile
        return ""


def _command(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return "ended, but nobody waited for it"
        return " ".join(process.cmdline())
    except psutil.Error:
        return "gone"


def _descriptors() -> Found:
    # With strings: every test looks twice, and paths would take most of the time of a small one.
    found: Found = {}
    if not os.path.isdir(_DESCRIPTORS):  # noqa: PTH112
        return found
    for number in os.listdir(_DESCRIPTORS):  # noqa: PTH208
        try:
            target = os.readlink(_DESCRIPTORS + number)  # noqa: PTH115
        except OSError:  # the descriptor by which we list
            continue
        if "anabranch_lifeline" in target:  # one for the life of a process that runs scripts
            continue
        found[number, target] = f"{number} -> {target}"
    return found
