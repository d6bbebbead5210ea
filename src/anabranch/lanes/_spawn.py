"""Own one child process: start it, hand it a call, hear its answer, kill it with all it started.

One thread for each process reads whatever it writes, also while no loop runs or the loop is held,
so a process never waits for us; the loop hears of answers alone.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing.spawn
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from anabranch.lanes import _child
from anabranch.lanes._child import ANSWER, CALL, HEAD, LEVELS, RECORD
from anabranch.lanes._echo import Echo, levels_here, log_record

AT_ONCE = 32_768  # bytes that an empty pipe takes without waiting
PIECE = 1 << 20
# Loaded from its file, for to import it would import anabranch.
BOOT = """
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("anabranch_child", sys.argv[1])
module = sys.modules["anabranch_child"] = module_from_spec(spec)
spec.loader.exec_module(module)
module.main(int(sys.argv[2]), int(sys.argv[3]))
"""


class Child:
    """Be one process, from its start to its end.

    Attributes:
        dead: it has ended, and everything it wrote has been read.
        ended: set then. returncode: what it ended with; negative for a signal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settle: Callable[[Any], None] | None = None
        self._levels: dict[str, int] = {}
        self._received = bytearray()
        self._first = _message(b"P", pickle.dumps(_preparation()))
        self._streams = [Echo("stdout"), Echo("stderr")]
        self.ended = threading.Event()
        self.dead = False
        self._doomed = False  # it was killed, and may not have noticed yet
        self.returncode: int | None = None
        with ExitStack() as undo:
            self._start(undo)
            undo.pop_all()

    def _start(self, undo: ExitStack) -> None:
        """Start the process and its thread; ``undo`` takes all of it back if something fails."""
        self._selector = undo.enter_context(selectors.DefaultSelector())
        self._answers, answers_to = _pipe(undo)
        life, self._lifeline = _pipe(undo)
        arguments = [str(Path(_child.__file__)), str(answers_to), str(life)]
        self._process = subprocess.Popen(
            [*multiprocessing.spawn.get_command_line()[:-3], "-c", BOOT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(answers_to, life),
            start_new_session=True,
            bufsize=0,
        )
        process = undo.enter_context(self._process)  # its pipes; and it is waited for
        undo.callback(process.kill)
        assert process.stdin is not None, "it was asked for"
        self._requests = process.stdin
        self._label = f"process {process.pid}"
        name = f"anabranch reads process {process.pid}"
        try:
            threading.Thread(target=self._watch, name=name, daemon=True).start()
        except RuntimeError as error:  # the system has no further thread
            raise OSError(errno.EAGAIN, str(error)) from error
        os.close(answers_to)
        os.close(life)

    @property
    def pid(self) -> int:
        """The process, which leads a session and a group of its own."""
        return self._process.pid

    def alive(self) -> bool:
        """Tell whether it may be given a call, as far as can be known now."""
        return not (self.dead or self._doomed or _has_ended(self._process.pid))

    def request(self, call: bytes, label: str, settle: Callable[[Any], None]) -> bytes:
        """Expect an answer; return what is to be written for it.

        Args:
            label: what it prints and logs is marked with.
            settle: called in the process's thread, with the answer, or with None when it has died.
        """
        data, self._first = self._first, b""
        levels = levels_here()
        if levels != self._levels:
            changed = {**dict.fromkeys(self._levels, logging.NOTSET), **levels}
            data += _message(LEVELS, pickle.dumps(changed))
            self._levels = levels
        with self._lock:
            self._label = label if label.isprintable() else repr(label)[1:-1]
            self._settle = settle
            dead = self.dead
        if dead:
            self._answer(None)
        return data + _message(CALL, call)

    def write(self, data: bytes) -> None:
        """Write a request; waits for as long as the process does not read it."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._requests.write(rest) :]
        except (OSError, ValueError):  # it has died, and its thread says so
            pass

    def kill(self) -> None:
        """Kill it, and what it has started in its group."""
        with self._lock:
            self._doomed = True
            if not self.dead:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ask it to end, by the end of its requests."""
        with suppress(OSError):
            self._requests.close()

    def _watch(self) -> None:
        pipes = [self._process.stdout, self._process.stderr]
        selector, death = self._selector, _pidfd(self._process.pid)
        with selector:
            os.set_blocking(self._answers, False)
            selector.register(self._answers, selectors.EVENT_READ, self._hear)
            for pipe, echo in zip(pipes, self._streams, strict=True):
                assert pipe is not None, "it was asked for"
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe.fileno(), selectors.EVENT_READ, self._echo_of(echo))
            if death is not None:
                selector.register(death, selectors.EVENT_READ)
            while self._step(death):
                pass
            self._drain()
        if death is not None:
            os.close(death)
        self._bury(pipes)

    def _step(self, death: int | None) -> bool:
        """Read what there is; False when the process has ended."""
        for key, _ in self._selector.select():
            if key.fd == death:
                return False
            if self._read(key) == b"" and key.fd == self._answers:
                return False
        return True

    def _read(self, key: selectors.SelectorKey) -> bytes | None:
        """Read one piece; None when there is nothing now, nothing in it at the end of the pipe."""
        try:
            data = os.read(key.fd, PIECE)
        except BlockingIOError:
            return None
        if data:
            key.data(data)
        elif key.fd in self._selector.get_map():  # an answer read just now may have flushed it
            self._selector.unregister(key.fd)
        return data

    def _drain(self, *, but: int = -1) -> None:
        """Read what is there now; streams that others keep open are not waited for."""
        for key in list(self._selector.get_map().values()):
            if key.data is not None and key.fd != but:
                while self._read(key):
                    pass

    def _echo_of(self, echo: Echo) -> Callable[[bytes], None]:
        return lambda data: echo.feed(data, self._label)

    def _hear(self, data: bytes) -> None:
        """Take in a piece of what it answers, and see to what has become whole."""
        received = self._received
        received += data
        while len(received) >= HEAD.size:
            kind, length = HEAD.unpack_from(received)
            if len(received) < HEAD.size + length:
                return
            payload = bytes(received[HEAD.size : HEAD.size + length])
            del received[: HEAD.size + length]
            if kind == RECORD:
                log_record(payload, self._label)
            elif kind == ANSWER:
                self._flush()
                self._answer(payload)

    def _flush(self) -> None:
        """Echo what the call has printed, all of which was written before its answer."""
        self._drain(but=self._answers)
        for echo in self._streams:
            echo.end(self._label)

    def _answer(self, payload: bytes | None) -> None:
        with self._lock:
            settle, self._settle = self._settle, None
        if settle is not None:
            settle(payload)

    def _bury(self, pipes: Sequence[IO[bytes] | None]) -> None:
        """End what is left of its group, wait for it, and say so."""
        with self._lock:
            with suppress(ProcessLookupError, PermissionError):  # before its id is free again
                os.killpg(self._process.pid, signal.SIGKILL)
            self.returncode = self._process.wait()
            self.dead = True
        for echo in self._streams:
            echo.end(self._label)
        with suppress(OSError):
            self._requests.close()
        for pipe in pipes:
            if pipe is not None:
                pipe.close()
        os.close(self._answers)
        os.close(self._lifeline)
        self.ended.set()
        self._answer(None)


def _message(kind: bytes, payload: bytes) -> bytes:
    return HEAD.pack(kind, len(payload)) + payload


def _pipe(undo: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended; its id stays its own until its thread waits for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
    except AttributeError:  # macOS, before 3.13: its thread will say so
        return False


def _pidfd(pid: int) -> int | None:
    """Return what becomes readable when the process ends; None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux: the end of its answers must do
        return None


def _preparation() -> dict[str, Any]:
    """Say how the process is to find what this one has, as multiprocessing's spawn does.

    Not ``multiprocessing.spawn.get_preparation_data``: that settles the start method of the
    whole program on the way.
    """
    found: dict[str, Any] = {
        "sys_path": [path or os.getcwd() for path in sys.path],  # noqa: PTH109  # as strings
        "sys_argv": sys.argv,
    }
    program = sys.modules["__main__"]
    spec = getattr(program, "__spec__", None)
    file = getattr(program, "__file__", None)
    if spec is not None and spec.name:
        found["init_main_from_name"] = spec.name
    elif file is not None:
        found["init_main_from_path"] = os.path.abspath(file)  # noqa: PTH100
    return found
