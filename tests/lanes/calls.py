"""Calls for worker processes, which must be importable there."""

import contextvars
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings


class TwoArgumentsError(Exception):
    """Cannot be unpickled: it does not keep its arguments."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Stubborn:
    """Cannot be pickled."""

    def __reduce__(self):
        raise TypeError("stubborn")


class Poisoned:
    """Pickles, and cannot be unpickled."""

    def __reduce__(self):
        return explode, ()


class Leaving:
    """Calls sys.exit when it is unpickled."""

    def __reduce__(self):
        return sys.exit, (3,)


def explode():
    raise RuntimeError("exploded")


def add(one, two=1):
    return one + two


def pid():
    return os.getpid()


def raises(error):
    raise error


def raises_two():
    raise TwoArgumentsError("one", "two")


def raises_lock():
    error = ValueError("holds a lock")
    error.lock = threading.Lock()
    raise error


def returns_lock():
    return threading.Lock()


def returns_poison():
    return Poisoned()


def kills_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def exits(code):
    os._exit(code)


class Untold:
    """Cannot write itself."""

    def __repr__(self):
        raise RuntimeError("no repr")


def leaves(code=None):
    sys.exit(code)


def leaves_untold():
    sys.exit(Untold())


class UntoldError(Exception):
    """Cannot write itself, and cannot be pickled either."""

    __repr__ = __str__ = Untold.__repr__
    __reduce__ = Stubborn.__reduce__


def raises_untold():
    raise UntoldError


def raises_base(kind):
    raise kind("base")


def prints_a_lot():
    print("x" * 1_000_000)
    return "printed"


def sleeps_and_tells(path, seconds):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


def big(size):
    return b"x" * size


def prints_and_waits(path, to="stdout"):
    print("before the end", file=getattr(sys, to))
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def logs(count=1):
    logging.getLogger("lane.calls").debug("debugging")
    for number in range(count):
        logging.getLogger("lane.calls").warning("record %d", number, extra={"lock": _LOCK})
    try:
        explode()
    except RuntimeError:
        logging.getLogger("lane.calls").exception("it went wrong")
    logging.getLogger("lane.calls").warning("no %d arguments", 1, 2)  # noqa: PLE1205  # on purpose
    return "logged"


def logs_from_threads(count):
    threads = [threading.Thread(target=logs, args=(count,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("x" * 200_000)
    return "logged"


def warns():
    warnings.warn("watch out", UserWarning, stacklevel=1)


def prints_without_end():
    print("no end", end="")
    sys.stderr.write("nor here")


def writes_with_a_child():
    subprocess.run(["sh", "-c", "echo from a shell"], check=True)


def starts_a_grandchild(path):
    with subprocess.Popen(["sh", "-c", "sleep 61 & sleep 60"]) as child:
        with open(path, "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        time.sleep(60)


def dies_with_a_grandchild():
    subprocess.Popen(["sleep", "60"])
    os.kill(os.getpid(), signal.SIGKILL)


def answers_and_dies():
    threading.Timer(0.05, os._exit, (5,)).start()
    return os.getpid()


def holds_the_interpreter(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(60)  # PyDLL keeps the GIL


VARIABLE = contextvars.ContextVar("variable", default="its own")


def variable():
    return VARIABLE.get()


def reads_stdin():
    return sys.stdin.read()


_LOCK = threading.Lock()
