"""Be the program of a worker process: read calls, make them, answer; the standard library alone.

It is not imported as a part of anabranch, so that a process starts as fast as Python does.
What it prints goes into pipes that its parent reads at any time, killed or not; log records go
the way of answers. Its lifeline is a pipe whose other end only the parent has: when that closes,
Linux kills the whole process group, also one that sits in a C function; elsewhere a thread does.
"""

from __future__ import annotations

import logging
import multiprocessing.spawn
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]  # it is then asked for what it has not

HEAD = struct.Struct("!cQ")  # what it is, and how many bytes follow
CALL, LEVELS, ANSWER, RECORD = b"C", b"V", b"A", b"L"

# Not empty while the parent's program is being imported, which must not make calls itself.
preparing: list[bool] = []


class Answers:
    """Write answers and log records, each whole, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, kind: bytes, payload: bytes) -> None:
        """Write one message; waits as long as the parent does not read."""
        data = memoryview(HEAD.pack(kind, len(payload)) + payload)
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]


class ToParent(logging.Handler):
    """Hand each record to the parent, as far as it can be pickled."""

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        """Send what the record says; its arguments are written into it here."""
        try:
            message = self.format(record)  # with the traceback, which cannot be pickled
        except Exception:  # arguments that do not fit: logging itself says so on stderr
            self.handleError(record)
            return
        gone = {"args": None, "exc_info": None, "exc_text": None, "stack_info": None}
        said = {**vars(record), "msg": message, "message": message, **gone}
        try:
            payload = pickle.dumps(said)
        except Exception:  # something in extra=
            payload = pickle.dumps({k: v for k, v in said.items() if isinstance(v, (str, int))})
        self._answers.send(RECORD, payload)


def main(answers_to: int, lifeline: int) -> None:
    """Serve calls from stdin until it ends."""
    die_with_parent(lifeline)
    own_stdin = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.set_inheritable(answers_to, False)
    os.set_inheritable(lifeline, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]  # the real ones
    answers = Answers(answers_to)
    logging.getLogger().addHandler(ToParent(answers))
    with os.fdopen(own_stdin, "rb") as requests:
        serve(requests, answers)


def serve(requests: BinaryIO, answers: Answers) -> None:
    """Make calls until there are no more."""
    refusal = prepared(requests)
    while True:
        kind, payload = read(requests)
        if kind == LEVELS:
            set_levels(pickle.loads(payload))
        elif kind == CALL:
            answer = refusal or outcome_of(payload)
            for stream in (sys.stdout, sys.stderr):
                flush(stream)
            answers.send(ANSWER, answer)
            del answer
        else:
            return


def die_with_parent(lifeline: int) -> None:
    """See that nothing of this process group outlives the parent."""
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    except (AttributeError, OSError):
        threading.Thread(target=wait_and_die, args=(lifeline,), daemon=True).start()


def wait_and_die(lifeline: int) -> None:
    """Wait until the parent is gone, and end the group."""
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def prepared(requests: BinaryIO) -> bytes:
    """Import the parent's program as multiprocessing does; return the answer to all calls if not.

    So functions that a script defines are found here, and its ``__main__`` block does not run.
    """
    preparing.append(True)
    try:
        multiprocessing.spawn.prepare(pickle.loads(read(requests)[1]))
    except BaseException as error:  # the script's own, or its sys.exit
        words = "".join(traceback.format_exception(error))
        what = f"its process could not import the program: {tell(error)}"
        return refused(what + "; guard what it runs by: if __name__ == '__main__'", words)
    finally:
        preparing.clear()
    return b""


def read(requests: BinaryIO) -> tuple[bytes, bytes]:
    """Read one message; one of no kind when there are no more."""
    head = requests.read(HEAD.size)
    if len(head) < HEAD.size:
        return b"", b""
    kind, length = HEAD.unpack(head)
    payload = requests.read(length)
    return (kind, payload) if len(payload) == length else (b"", b"")


def set_levels(levels: dict[str, int]) -> None:
    """Let loggers pass what they pass in the parent."""
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def flush(stream: Any) -> None:
    """Write out what is in a stream's buffer; one that the call has closed is let be."""
    try:
        stream.flush()
    except (AttributeError, OSError, ValueError):
        pass


def outcome_of(call: bytes) -> bytes:
    """Make the call; answer in bytes."""
    try:
        fn, args, kwargs = pickle.loads(call)
    except BaseException as error:  # a module that is imported for it may call sys.exit
        what = f"the call cannot be unpickled in its process: {tell(error)}"
        words = "".join(traceback.format_exception(error))
        return refused(what + "; hand plain values to lane='cpu'", words)
    try:
        value = fn(*args, **kwargs)
    except Exception as error:
        return raised(error)
    except BaseException as error:  # it would end this process
        return refused(said_of(name_of(fn), error), traced(error))
    try:
        return pickle.dumps((True, value), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        what = f"the result of {name_of(fn)} ({type(value).__name__}) cannot be pickled: "
        return refused(f"{what}{tell(error)}; return plain values from lane='cpu'", "")


def raised(error: Exception) -> bytes:
    """Answer with an exception, if it survives being pickled, and its traceback in words."""
    words = traced(error)
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # a class that does not take its own args, or holds a lock
        return refused(f"the call raised {tell(error)}, which cannot be pickled", words)
    return pickle.dumps((False, (data, "", words)))


def refused(what: str, words: str) -> bytes:
    """Answer with what the lane could not carry."""
    return pickle.dumps((False, (None, what, words)))


def said_of(name: str, error: BaseException) -> str:
    """Say what a call raised that ends a program, such as SystemExit."""
    if isinstance(error, SystemExit):
        what = f"{name} called sys.exit({tell(error.code)}) in its process"
    else:
        what = f"{name} raised {type(error).__name__} in its process, which ends a program"
    return f"{what}, and that ends its call alone; return a value or raise an Exception"


def traced(error: BaseException) -> str:
    """Write the traceback of the call: the first frame is ours, which tells nobody anything."""
    trace = error.__traceback__
    error.__traceback__ = trace and trace.tb_next
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # its own str
        return ""


def tell(value: object) -> str:
    """Write a value, also one that cannot."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}, whose repr raises>"


def name_of(fn: Any) -> str:
    """Return the name that people know a function by."""
    bare = getattr(fn, "func", fn)
    return str(getattr(bare, "__qualname__", None) or tell(bare))
