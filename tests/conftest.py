"""Run every async test on both loops in virtual time, and let no test leave anything behind.

Marks: `slow` (over 0.25 s), `drawn` (draws programs), `real_clock` (real loops and real time:
threads, processes), `trio_only`, `asyncio_only`, and `leaves(*kinds, reason=...)` for a test that
must leave a `task`, `thread`, `process` or `descriptor`.
Option: `--fast`. Fixtures: `programs`, `all_home`.
"""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from typing import Any, Protocol

import hypothesis
import pytest
import sniffio
import trio
from trio.testing import MockClock

from anabranch import _observers
from anabranch.samplers._cores import cores
from anabranch.testing._clock import VirtualLoop
from tests.leaks import KINDS, Snapshot, leaks, new, snapshot, tasks

GRACE = 5.0  # seconds, for what ends by itself: a busy machine may take one
SLOW = 0.25
MARKS = (
    "slow: takes more than a quarter of a second",
    "drawn: draws programs, and few of them with --fast, where it runs although it is slow",
    "real_clock: uses the real loop and the real time, for threads and processes",
    "trio_only: makes no sense on asyncio",
    "asyncio_only: makes no sense on trio",
    "leaves(*kinds, reason): may leave a task, thread, process or descriptor, for a reason",
)

# The address of an object, or the order of a set.
_UNSTEADY = re.compile(r" at 0x[0-9a-f]{6,}|[-\[]{'[^':]+', ")

BEFORE = pytest.StashKey[Snapshot]()
FAILED = pytest.StashKey[bool]()
TALLY = pytest.StashKey["Tally"]()


class Lender(Protocol):
    """Have tokens out: a limiter of any loop."""

    @property
    def borrowed_tokens(self) -> float: ...


# How much is run -----------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="draw 100 programs instead of 2,000")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as behind a shell's &, or nohup
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests of Ctrl-C are to hear it
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    config.stash[TALLY] = tally = Tally(config)
    config.pluginmanager.register(tally, "anabranch-tally")
    fast = config.getoption("--fast")
    register = partial(
        hypothesis.settings.register_profile,
        deadline=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    register("anabranch", max_examples=25 if fast else 100)
    register("programs", max_examples=_programs(config))
    if not config.getoption("--hypothesis-profile", default=None):
        hypothesis.settings.load_profile("anabranch")


def _programs(config: pytest.Config) -> int:
    return 100 if config.getoption("--fast") else 2000


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Count the cores that this process may use, and not those of the host."""
    return max(1, round(cores()))


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> int:
    """Say how many programs to draw; a `@given` test takes `settings.get_profile("programs")`."""
    return _programs(pytestconfig)


# Both loops ----------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "anyio_backend" not in metafunc.fixturenames:
        return
    only = [n for n in ("asyncio", "trio") if metafunc.definition.get_closest_marker(f"{n}_only")]
    metafunc.parametrize("anyio_backend", only or ["asyncio", "trio"], indirect=True)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Name the loop of this test and how to make it; each test gets a fresh one."""
    real = request.node.get_closest_marker("real_clock") is not None
    if request.param == "trio":
        return "trio", {} if real else {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {} if real else {"loop_factory": VirtualLoop}


@pytest.fixture(autouse=True)
def _inside_the_loop(request: pytest.FixtureRequest) -> None:
    # Not an autouse fixture itself, because pytest refuses async fixtures to sync tests.
    # Requested first and therefore torn down last: other fixtures' leaks are seen too.
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("_no_task_left")


@pytest.fixture
async def _no_task_left(
    anyio_backend: tuple[str, dict[str, Any]], request: pytest.FixtureRequest
) -> AsyncIterator[None]:
    asked, ran = anyio_backend[0], sniffio.current_async_library()
    assert asked == ran, f"asked for {asked}, but {ran} runs"
    request.node.user_properties.append(("loop", ran))
    before = tasks()
    yield
    if request.node.stash.get(FAILED, False):
        return
    give_up = time.monotonic() + GRACE
    while left := _unallowed({"task": new(before, tasks())}, request.node):
        if time.monotonic() > give_up:
            _complain(request.node, left)
        # Threads need real time, tasks need the loop; virtual time must not go on meanwhile.
        time.sleep(0.001)
        if ran == "trio":
            await trio.lowlevel.checkpoint()
        else:
            await asyncio.sleep(0)


# However busy the machine --------------------------------------------------------------------


@pytest.fixture(autouse=True)
def catch_up_s() -> Iterator[float]:
    """Let no event be lost because an observer's thread has not got a core for a while.

    Gives how long a run really waits for it.
    """
    own, _observers.CATCH_UP_S = _observers.CATCH_UP_S, 10.0
    yield own
    _observers.CATCH_UP_S = own


# Nothing is left -----------------------------------------------------------------------------


def _unallowed(found: Snapshot, item: pytest.Item) -> Snapshot:
    mark = item.get_closest_marker("leaves")
    return {kind: left for kind, left in found.items() if left and not (mark and kind in mark.args)}


def _complain(item: pytest.Item, left: Snapshot) -> None:
    lines = [f"{kind}: {text}" for kind, things in left.items() for text in things.values()]
    pytest.fail(f"{item.nodeid} left behind:\n  " + "\n  ".join(lines), pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[BEFORE] = snapshot()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    # What a fixture of a wider scope opens outlives the test that happened to ask first.
    if fixturedef.scope == "function":
        return (yield)
    before = snapshot()
    try:
        return (yield)
    finally:
        baseline = request._pyfuncitem.stash.get(BEFORE, None)
        for kind, opened in leaks(before).items():
            if baseline is not None:
                baseline[kind].update(opened)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    yield
    before = item.stash[BEFORE]
    del item.stash[BEFORE]  # items live till the end of the run, and each look would go through it
    # The traceback of a failed test keeps its things alive, and one failure is enough to read.
    if item.stash.get(FAILED, False):
        return
    give_up = time.monotonic() + GRACE
    while left := _unallowed(leaks(before), item):
        if time.monotonic() > give_up:
            _complain(item, left)
        gc.collect()
        time.sleep(0.01)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "anyio_backend" in getattr(item, "fixturenames", ()) and item.get_closest_marker("trio"):
            # pytest-trio would run it on trio, fixtures on asyncio notwithstanding, and it passes.
            raise pytest.UsageError(f"{item.nodeid}: set trio_mode = false, and mark trio_only")
        if _UNSTEADY.search(item.name):
            # The processes of one run tell each other by its name which test to run.
            raise pytest.UsageError(f"{item.nodeid}: an id must be the same in every process")
        for mark in item.iter_markers("leaves"):
            if not mark.kwargs.get("reason") or not set(mark.args) <= set(KINDS):
                raise pytest.UsageError(f"{item.nodeid}: leaves(one of {KINDS}, reason=...)")


def pytest_collection_finish() -> None:
    # Thousands of tests stay till the end: a look through all of them takes half a second, and
    # those who look for what they left behind themselves would do so again and again.
    gc.collect()
    gc.freeze()


@pytest.fixture
def all_home() -> Iterator[Callable[[Lender], Lender]]:
    """Take limiters, and see at the end that all of their tokens are home."""
    limiters: list[Lender] = []

    def remember(limiter: Lender) -> Lender:
        limiters.append(limiter)
        return limiter

    yield remember
    away = [f"{each!r}: {each.borrowed_tokens}" for each in limiters if each.borrowed_tokens]
    assert not away, f"tokens are not home: {away}"


# What the run says at its end ----------------------------------------------------------------


class Tally:
    """Count the tests of each loop, and name the slow ones that are not marked so."""

    def __init__(self, config: pytest.Config) -> None:
        self.loops: dict[str, Counter[str]] = {}
        self.slow: list[tuple[float, str]] = []
        self.partial = bool(config.getoption("--lf", default=False))
        self.uneven: list[str] = []

    def pytest_deselected(self) -> None:
        self.partial = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.partial |= getattr(node, "workeroutput", {}).get("partial", True)  # or it crashed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        if report.duration > SLOW and "slow" not in report.keywords:
            self.slow.append((report.duration, report.nodeid))
        if not {"trio_only", "asyncio_only"} & set(report.keywords):
            loops = [str(value) for key, value in report.user_properties if key == "loop"]
            self.loops.setdefault(report.nodeid.partition("[")[0], Counter()).update(loops)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        chosen = any("[" in str(arg) for arg in session.config.args)
        if hasattr(session.config, "workeroutput"):  # one of several: only the first sees them all
            session.config.workeroutput["partial"] = self.partial
            return
        if self.partial or chosen or session.shouldstop or session.shouldfail:
            return
        self.uneven = [name for name, n in self.loops.items() if n["asyncio"] != n["trio"]]
        if self.uneven and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        total: Counter[str] = sum(self.loops.values(), Counter())
        if total:
            write(f"on both loops: {total['asyncio']} tests on asyncio, {total['trio']} on trio")
        for name in self.uneven:
            counts = dict(self.loops[name])
            write(f"FAILED: not as often on trio as on asyncio: {name} {counts}", red=True)
        for duration, nodeid in sorted(self.slow, reverse=True):
            write(f"slow, but not marked so: {duration:.2f} s {nodeid}", yellow=True)
