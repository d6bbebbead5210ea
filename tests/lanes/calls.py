"""Calls for worker processes, which must be importable there."""

import os
import signal
import sys
import threading
import time


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
