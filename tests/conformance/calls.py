"""Calls that every lane can make, importable in any process."""

import os
import threading
import time


def add(one, two=1):
    return one + two


def raises(words):
    raise ValueError(words)


def where():
    return os.getpid(), threading.get_ident()


def sleeps(seconds, path=None):
    if path is not None:
        with open(path, "w") as file:
            file.write(str(os.getpid()))
    time.sleep(seconds)
    return seconds


def lock():
    return threading.Lock()
