"""The lanes under test, and how each of them says the same few calls."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker

import attrs

from anabranch import ExecutorLane, ScriptFailedError, SubprocessLane
from tests.conformance import calls
from tests.lanes.scripts import python


@contextmanager
def named(name):
    yield name


@contextmanager
def pool(make):
    with make() as executor:
        yield ExecutorLane(executor)


def processes():
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def told(fn, *args):
    """Say a call of ``calls`` as a script, which prints what it returns."""
    here = calls.__name__
    code = f"import sys; sys.path[:0] = {sys.path!r}; from {here} import *\n"
    return python(f"{code}print({fn.__name__}(*{args!r}))")


@attrs.frozen
class Subject:
    """A lane, and what it can.

    Attributes:
        opens: gives what stands in ``lane=``. says: makes (fn, args) of a call, for this lane.
        value: takes what the call returned out of a branch's value.
        raises: what a call's ValueError comes as.
        stops: a call that runs ends when it is cancelled.
        nests: how a call of it makes another one; empty if it can, else why not.
        pickles: what goes in and out is pickled.
    """

    name: str
    opens: Callable
    says: Callable = lambda fn, *args: (fn, args)
    value: Callable = lambda value: value
    raises: type = ValueError
    stops: bool = True
    nests: str = ""
    pickles: bool = False


SUBJECTS = [
    Subject("inline", lambda: named("inline"), stops=False),
    Subject("thread", lambda: named("io"), stops=False),
    Subject(
        "process",
        lambda: named("cpu"),
        nests="a call in another process has no loop to call back into",
        pickles=True,
    ),
    Subject(
        "subprocess",
        lambda: named(SubprocessLane(grace=0.5)),
        says=lambda fn, *args: (told, (fn, *args)),
        value=lambda done: eval(done.stdout),
        raises=ScriptFailedError,
        nests="a script has no loop to call back into",
    ),
    Subject(
        "executor of threads",
        lambda: pool(lambda: ThreadPoolExecutor(2)),
        stops=False,
        nests="an executor's threads know no loop",
    ),
    Subject(
        "executor of processes",
        lambda: pool(processes),
        stops=False,
        nests="a call in another process has no loop to call back into",
        pickles=True,
    ),
]

resource_tracker.ensure_running()  # it lives as long as this process, whoever starts it
