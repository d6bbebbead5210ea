"""Be one script in a thread of its own: start it, take in what it writes, wait for its end.

A thread, because reading as fast as a script can write would hold the loop, and a line may be
handed to something that blocks. The loop keeps the deadline, and ends the script by signals;
the thread hears of nothing but the pipes and the end of the process.

The process is waited for last: until then its number is nobody else's, and its group can be
signalled.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import attrs

from anabranch.lanes import _tree
from anabranch.lanes._lifeline import LIFELINE
from anabranch.lanes._pump import Pump
from anabranch.lanes._script import Finished, Script
from anabranch.lanes._start import Process, start
from anabranch.lanes._stream import Stream

HOLD_S = 0.4  # how long what was left behind may hold a script's output open
LEFT_S = 0.2  # and how long it has to end when it is told to
LOOK_S = 0.01
STREAMS = ("stdout", "stderr")
HELD = "something that it left behind held its output open, and was ended"
TAKEN = "its exit code is unknown: something else in this process has waited for it"


class Running:
    """Hold a script that runs; ``work`` is for its thread, the rest for others.

    Attributes:
        result: how it ended, or why it could not be started; None before.
        failed: what ``on_line`` raised, or we.
        kill_at: real time until which its processes may go on after it was told to end.
        ended: set when all is over.
    """

    def __init__(self, script: Script, news: Callable[[], object]) -> None:
        self.script = script
        self.result: Finished | Exception | None = None
        self.failed: BaseException | None = None
        self.kill_at = 0.0
        self.ended = threading.Event()
        self._news = news
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._reaped = False
        self._wish: signal.Signals | None = None
        self._notes: list[str] = []
        self._why = ""  # it was ended by us, if it was not asked for

    @property
    def leader(self) -> int | None:
        """The number of the process, as long as it is its own."""
        with self._lock:
            return self._process.pid if self._process is not None and not self._reaped else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process group; one that has not started yet gets it then."""
        with self._lock:
            self._wish = number
            if self._process is not None and not self._reaped:
                _send(self._process.pid, number)

    def work(self) -> None:
        """Start it, take in what it writes, wait for it; ``result`` says how that went."""
        try:
            self.result = self._work()
        except BaseException as error:  # for whoever waits; a thread has nobody to raise it to
            self.failed = error
        finally:
            LIFELINE.settle()  # also of a script that never began
            self.ended.set()

    def _work(self) -> Finished | Exception:
        script, streams = self.script, list[Stream]()
        try:
            for name, to in zip(STREAMS, (script.stdout_to, script.stderr_to), strict=True):
                on_line = None if script.on_line is None else partial(self._call, name)
                streams.append(Stream(script.tail, to, on_line))
            since = time.monotonic()
            process = start(script)
        except (OSError, ValueError, RuntimeError) as error:
            for stream in streams:
                stream.close()
            return error
        try:
            return self._run(process, streams, since)
        finally:
            for stream in streams:
                stream.close()

    def _run(self, process: Process, streams: list[Stream], since: float) -> Finished:
        with self._lock:
            self._process = process
            if self._wish is not None:
                _send(process.pid, self._wish)
        feed = self.script.stdin if isinstance(self.script.stdin, bytes) else None
        pump = Pump(process, streams, feed)
        try:
            pump.until_exit(self._end_who_stopped)
            took = time.monotonic() - since
            pump.drain(max(time.monotonic() + HOLD_S, self.kill_at))
            if pump.streams:
                self._end_who_holds(pump)
        except BaseException:  # ours: nothing may be waited for that nobody reads
            self.send(signal.SIGKILL)
            raise
        finally:
            code = self._reap(process, pump)
            self._end_who_is_left(process.pid)
            LIFELINE.leave(process.slot)
            pump.close()
        for stream in streams:
            stream.end()
        finished = _finished(code, took, streams, self._notes)
        return attrs.evolve(finished, error=self._why) if self._why else finished

    def _end_who_stopped(self, number: int) -> None:
        """End a script that would never go on."""
        self._why = f"stopped by {_name_of(number)}, and nobody let it go on: ended"
        self.send(signal.SIGKILL)

    def _end_who_holds(self, pump: Pump) -> None:
        """End what the process left behind with its output open; its number is still its own."""
        self._notes.append(HELD)
        pid, inodes = pump.process.pid, pump.inodes()
        since = _tree.began(pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            others = {**_tree.outside(pid, {}), **_tree.holding(inodes, since)}
            self.send(number)
            _tree.send(number, others)
            pump.drain(time.monotonic() + LEFT_S)
            if not pump.streams:
                return

    def _reap(self, process: Process, pump: Pump) -> int | None:
        """Wait for the process and return its code; tell who is left of its group to end."""
        with self._lock:
            self._reaped = True
            _send(process.pid, signal.SIGTERM)
            try:
                status = pump.status
                if status is None:
                    _, status = os.waitpid(process.pid, 0)
                code = os.waitstatus_to_exitcode(status)
            except ChildProcessError:
                self._notes.append(TAKEN)
                code = None
            process.popen.returncode = -1 if code is None else code
            return code

    def _end_who_is_left(self, pid: int) -> None:
        """See to it that nobody is left of the group: as long as one is, its number is taken."""
        until = max(time.monotonic() + LEFT_S, self.kill_at)
        while _is_group(pid) and _tree.group(pid):  # the first is quick, and counts the dead too
            if time.monotonic() >= until:
                _send(pid, signal.SIGKILL)
                return
            time.sleep(LOOK_S)

    def _call(self, name: str, line: bytes) -> None:
        if self.failed is None and self.script.on_line is not None:
            try:
                self.script.on_line(name, line)
            except BaseException as error:
                self.failed = error
                self._news()


def _send(group: int, number: signal.Signals) -> None:
    """Send a signal to a group; who was stopped is woken for it."""
    try:
        os.killpg(group, number)
        if number != signal.SIGKILL:
            os.killpg(group, signal.SIGCONT)
    except OSError:  # nobody is there any more
        pass


def _is_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except OSError:  # macOS says so of one that has just ended
        return False
    return True


def _finished(code: int | None, took: float, streams: list[Stream], notes: list[str]) -> Finished:
    out, err = streams
    broken = out.broken or err.broken
    stdout, stderr = out.kept(), err.kept()
    number = -code if code is not None and code < 0 else None
    kind, error = "exit", None
    if number is not None:
        kind, error = "signal", f"killed by {_name_of(number)}{_last_line(stderr)}"
    elif code is None:
        error = TAKEN
    elif code:
        error = f"exit code {code}{_last_line(stderr)}"
    elif broken is not None:
        kind = "output"
        error = f"its output could not be written to {broken.filename!r}: {broken.strerror}"
    return Finished(
        exit_code=-1 if code is None else code,
        signal=number,
        stdout=stdout,
        stderr=stderr,
        truncated=HELD in notes or out.cut or err.cut,
        duration_s=took,
        kind=kind,
        error=error,
        notes=tuple(notes),
    )


def _name_of(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {last:.300}" if last else ""
