"""Calls for worker processes, which must be importable there."""

import os
import signal
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
