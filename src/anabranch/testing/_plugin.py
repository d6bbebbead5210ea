"""Be a plugin of pytest: async tests on both loops, in virtual time, that leave nothing behind.

It touches only tests that are marked `anabranch` and those that ask for its fixtures. Marked
async tests are run by anyio's plugin, with a loop that is made for each of them; so async fixtures
for anyio serve them too. A setting that would run such a test on one loop only is refused.
"""

from __future__ import annotations

import gc
import inspect
import time
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterator
from functools import partial
from typing import Any

import anyio
import attrs
import pytest
import sniffio

from anabranch.errors import AnabranchError, unknown_option
from anabranch.testing._leaks import KINDS, Snapshot, leaks, new, snapshot, tasks
from anabranch.testing._schedule import LOOPS
from anabranch.testing._standing import Standing
from anabranch.testing._virtual import run_virtual, virtual_options

MARK = (
    'anabranch(loops=("trio", "asyncio"), clock="virtual", leaves=()): run an async test on both '
    'loops in virtual time, or clock="real"; it may leave nothing behind, but the kinds in leaves='
)
GRACE_S = 1.0  # of real time, in which what is left may end

_PARAMETER = ("parametrize", "anyio_backend")

_STANDING = pytest.StashKey[Standing]()
_BEFORE = pytest.StashKey[Snapshot]()
_FAILED = pytest.StashKey[bool]()


@attrs.frozen(kw_only=True)
class _Terms:
    """Say what a mark asks for."""

    loops: tuple[str, ...] = LOOPS
    clock: str = "virtual"
    leaves: tuple[str, ...] = ()


# What a mark means -------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Tell of the mark."""
    config.addinivalue_line("markers", MARK)


def _terms(where: str, marks: Collection[pytest.Mark]) -> _Terms:
    """Return what the marks of a test say, the closest first.

    Raises:
        UsageError: something that cannot be meant.
    """
    options: dict[str, Any] = {}
    for mark in marks:
        if mark.args:
            raise _refusal(where, f"takes no {mark.args[0]!r} in its place; give it by its name")
        options = {**mark.kwargs, **options}
    known = attrs.fields_dict(_Terms)
    for name in options:
        if name not in known:
            error: AnabranchError = unknown_option("the mark anabranch", name, known)
            raise pytest.UsageError(f"{where}: {error}")
    for name, all_of in (("loops", LOOPS), ("leaves", KINDS)):
        if name in options:
            options[name] = _some_of(where, name, options[name], all_of)
    if options.get("clock", "virtual") not in ("virtual", "real"):
        raise _refusal(where, f"has clock={options['clock']!r}; give 'virtual' or 'real'")
    return _Terms(**options)


def _some_of(where: str, name: str, given: Any, all_of: Collection[str]) -> tuple[str, ...]:
    some = (given,) if isinstance(given, str) else tuple(given)
    if not set(some) <= set(all_of) or (name == "loops" and not some):
        raise _refusal(where, f"has {name}={given!r}; give some of {', '.join(all_of)}")
    return some


def _refusal(where: str, words: str) -> pytest.UsageError:
    return pytest.UsageError(f"{where}: the mark anabranch {words}")


def _marks(item: pytest.Item) -> list[pytest.Mark]:
    return list(item.iter_markers("anabranch"))


def _is_async(fn: object) -> bool:
    hypothesis = getattr(fn, "hypothesis", None)
    return inspect.iscoroutinefunction(getattr(hypothesis, "inner_test", fn))


# Both loops --------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: Any) -> None:
    """Let anyio's plugin run the async tests that are marked, once on each loop."""
    if not collector.istestfunction(obj, name) or not _is_async(obj):
        return
    own: list[pytest.Mark] = list(getattr(obj, "pytestmark", ()))
    marks = [each for each in reversed(own) if each.name == "anabranch"]
    marks += collector.iter_markers("anabranch")
    if not marks or any((each.name, *each.args[:1]) == _PARAMETER for each in own):
        return  # not ours; or a method that was seen in another class before
    loops = _terms(f"{collector.nodeid}::{name}", marks).loops
    pytest.mark.usefixtures("anyio_backend", "_anabranch_inside")(obj)
    # Directly: a fixture of that name, of whomever, could name one loop for both.
    both: list[tuple[str, dict[str, Any]]] = [(loop, {}) for loop in loops]
    pytest.mark.parametrize("anyio_backend", both, ids=loops)(obj)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a plain test that asks for a loop twice."""
    loops = metafunc.fixturenames
    if "anabranch_loop" in loops and "anyio_backend" not in loops:
        metafunc.parametrize("anabranch_loop", LOOPS, indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse what would run a marked test on one loop twice.

    Raises:
        UsageError: another plugin would take it, or anyio's is not there.
    """
    for item in items:
        marks = _marks(item)
        if not marks:
            continue
        _terms(item.nodeid, marks)
        if not isinstance(item, pytest.Function) or not _is_async(item.obj):
            continue
        if not config.pluginmanager.has_plugin("anyio"):
            raise _refusal(item.nodeid, "needs anyio's plugin of pytest; leave out -p no:anyio")
        if item.get_closest_marker("trio"):
            raise _refusal(
                item.nodeid,
                "runs it on both loops, and pytest-trio would run it on trio twice; "
                "set trio_mode = false, and mark a test for trio alone with trio only",
            )
        if item.get_closest_marker("asyncio"):
            raise _refusal(
                item.nodeid,
                "runs it on both loops, and pytest-asyncio would run it on asyncio twice; "
                "set asyncio_mode = strict, and mark a test for asyncio alone with asyncio only",
            )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Make the loop of one test, whose time begins at 0; and look what is there before it."""
    marks = _marks(item)
    if marks:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "anyio_backend" in params and _terms(item.nodeid, marks).clock == "virtual":
            loop = params["anyio_backend"][0]
            item.stash[_STANDING] = standing = Standing()
            params["anyio_backend"] = (loop, virtual_options(loop, standing))
        item.stash[_BEFORE] = snapshot()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let a test in virtual time end where everything waits for ever."""
    standing, test = pyfuncitem.stash.get(_STANDING, None), pyfuncitem.obj
    if standing is None or not inspect.iscoroutinefunction(test):
        return (yield)
    pyfuncitem.obj = standing.around(test)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


@pytest.fixture
async def _anabranch_inside(
    anyio_backend: tuple[str, dict[str, Any]], request: pytest.FixtureRequest
) -> AsyncIterator[None]:
    # Asked for first and therefore torn down last: what other fixtures leave is seen too.
    asked, ran = anyio_backend[0], sniffio.current_async_library()
    if asked != ran:
        pytest.fail(f"asked for {asked}, but {ran} runs: another plugin has taken this test")
    before = tasks()
    yield
    item = request.node
    if _STANDING in item.stash:
        item.stash[_STANDING].tell()  # here, for a warning that is an error must not end the loop
    if item.stash.get(_FAILED, False):
        return
    give_up = time.monotonic() + GRACE_S
    while left := _unallowed(item, {"task": new(before, tasks())}):
        if time.monotonic() > give_up:
            _complain(item, left)
        # Threads need real time, tasks need the loop; virtual time must not go on meanwhile.
        time.sleep(0.001)  # noqa: ASYNC251  # a moment, and only where something is left
        await anyio.lowlevel.checkpoint()


# Nothing is left ---------------------------------------------------------------------------------


def _unallowed(item: pytest.Item, found: Snapshot) -> Snapshot:
    allowed = _terms(item.nodeid, _marks(item)).leaves
    return {kind: left for kind, left in found.items() if left and kind not in allowed}


def _complain(item: pytest.Item, left: Snapshot) -> None:
    lines = [f"{kind}: {text}" for kind, things in left.items() for text in things.values()]
    pytest.fail(f"{item.nodeid} left behind:\n  " + "\n  ".join(lines), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember who failed: the traceback keeps its things alive, and one failure is enough."""
    report = yield
    item.stash[_FAILED] = report.failed or (call.when != "setup" and item.stash.get(_FAILED, False))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """See that threads, child processes and descriptors of a marked test are gone."""
    yield
    before = item.stash.get(_BEFORE, None)
    if before is None or item.stash.get(_FAILED, False):
        return
    _see_nothing_left(item, before)


def _see_nothing_left(item: pytest.Item, before: Snapshot) -> None:
    give_up = time.monotonic() + GRACE_S
    while left := _unallowed(item, leaks(before)):
        if time.monotonic() > give_up:
            _complain(item, left)
        gc.collect()
        time.sleep(0.01)


@pytest.fixture
def anabranch_no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """See that a test, marked or not, leaves no thread, child process or descriptor behind."""
    before = snapshot()
    yield
    if not request.node.stash.get(_FAILED, False):
        _see_nothing_left(request.node, before)


# For tests that are plain functions --------------------------------------------------------------


@pytest.fixture
def anabranch_loop(request: pytest.FixtureRequest) -> str:
    """Name the loop of this test: "trio", and again "asyncio"."""
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        return backend if isinstance(backend, str) else str(backend[0])
    return str(request.param)


@pytest.fixture
def anabranch_run(anabranch_loop: str) -> Callable[..., Any]:
    """Run an async function in virtual time on this test's loop, as `run_virtual` does."""
    return partial(run_virtual, loop=anabranch_loop)
