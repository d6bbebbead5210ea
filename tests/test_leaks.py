"""See that a test which leaves something behind fails, and that the message names it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import anabranch

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent
OPTIONS = ["-p", "no:cacheprovider", "-o", "anyio_mode=auto", "-o", "trio_mode=false"]
OPTIONS += ["-W", "error"]

LEAVING = """
import asyncio, os, subprocess, threading
import anyio, pytest, trio
from trio.lowlevel import in_trio_task, spawn_system_task

kept = []

def test_thread():
    kept.append(event := threading.Event())
    threading.Thread(target=event.wait, name="the lost one", daemon=True).start()

def test_descriptor():
    kept.append(os.pipe())

def test_process():
    kept.append(subprocess.Popen(["sleep", "20"]))

@pytest.mark.leaves("process", reason="the test before has to be cleaned up")
def test_reap():
    kept[-1].kill()
    kept[-1].wait()

async def forgotten():
    await anyio.sleep_forever()

async def test_task():
    if in_trio_task():
        spawn_system_task(forgotten)
    else:
        kept.append(asyncio.create_task(forgotten()))

@pytest.fixture
async def careless():
    yield
    await test_task()

async def test_task_of_a_fixture(careless):
    pass

def test_tokens(all_home):
    all_home(trio.CapacityLimiter(3)).acquire_on_behalf_of_nowait("somebody")
"""

ALLOWED = """
import os, threading, time
import anyio, anyio.to_process, anyio.to_thread, pytest

kept = []

@pytest.mark.leaves("descriptor", reason="to see that it may")
def test_excused():
    kept.append(os.pipe())

@pytest.fixture(scope="module")
def for_all():
    ends = os.pipe()
    yield
    for end in ends:
        os.close(end)

def test_first_of_a_module_fixture(for_all):
    pass

def test_ends_a_little_later():
    threading.Thread(target=time.sleep, args=[0.05]).start()

@pytest.mark.real_clock
async def test_cached_threads_and_processes():
    await anyio.to_thread.run_sync(time.sleep, 0.001)
    await anyio.to_process.run_sync(time.sleep, 0.001)

async def test_nursery_of_a_fixture(nursery):
    nursery.start_soon(anyio.sleep_forever)

@pytest.fixture
async def nursery():
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()
"""

several = pytest.mark.parametrize("processes", ["0", "2"])
UNEVEN = """

def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "trio" not in item.name]
"""


@pytest.fixture
def checked(pytester: pytest.Pytester) -> pytest.Pytester:
    """Make a project with our conftest; a process of its own keeps its leaks and settings away."""
    conftest = (TESTS / "conftest.py").read_text()
    pytester.makeconftest(conftest.replace("GRACE = 5.0", "GRACE = 0.2"))
    package = pytester.mkpydir("tests")
    (package / "leaks.py").write_text((TESTS / "leaks.py").read_text())
    source = Path(anabranch.__file__).parents[1]
    pytester.makeini(f"[pytest]\npythonpath = . {source}")
    return pytester


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed in /proc")
def test_what_is_left_behind_fails_the_test_and_is_named(checked: pytest.Pytester) -> None:
    checked.makepyfile(LEAVING)
    result = checked.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=9, errors=8)
    expected = [
        r"thread: the lost one: .*threading.py:\d+ in wait",
        r"descriptor: \d+ -> pipe:",
        r"process: pid \d+ \(sleep 20\)",
        r"task: .*forgotten: .*:\d+ in forgotten",
        r"tokens are not home: .*1/3",
    ]
    text = result.stdout.str()
    assert [each for each in expected if not re.search(each, text)] == []


@pytest.mark.slow
@pytest.mark.real_clock
def test_what_is_excused_cached_or_ending_fails_nothing(checked: pytest.Pytester) -> None:
    checked.makepyfile(ALLOWED)
    checked.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=7)


@pytest.mark.slow
@pytest.mark.real_clock
def test_an_excuse_without_a_reason_is_refused(checked: pytest.Pytester) -> None:
    checked.makepyfile("import pytest\n@pytest.mark.leaves('thread')\ndef test_x(): pass")
    result = checked.runpytest_subprocess(*OPTIONS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "reason=" in result.stderr.str()


@pytest.mark.slow
@pytest.mark.real_clock
@several
def test_a_test_that_ran_on_one_loop_only_fails_the_run(
    checked: pytest.Pytester, processes: str
) -> None:
    checked.makepyfile(test_uneven="async def test_both(): pass")
    checked.makepyfile(drop=UNEVEN)
    result = checked.runpytest_subprocess(*OPTIONS, "-p", "drop", "-n", processes)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "not as often on trio as on asyncio: test_uneven.py::test_both" in result.stdout.str()


@pytest.mark.slow
@pytest.mark.real_clock
@several
def test_choosing_one_loop_by_hand_is_allowed(checked: pytest.Pytester, processes: str) -> None:
    checked.makepyfile(test_uneven="async def test_both(): pass")
    result = checked.runpytest_subprocess(*OPTIONS, "-k", "asyncio", "-n", processes)
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize("value", ["object()", "{'a', 'b'}"], ids=["address", "order"])
def test_a_name_that_differs_between_processes_is_refused(
    checked: pytest.Pytester, value: str
) -> None:
    mark = f"@pytest.mark.parametrize('x', [{value}], ids=str)"
    checked.makepyfile(f"import pytest\n{mark}\ndef test_x(x): pass")
    result = checked.runpytest_subprocess(*OPTIONS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "the same in every process" in result.stderr.str()


@pytest.mark.slow
@pytest.mark.real_clock
def test_pytest_trio_cannot_turn_asyncio_into_trio(checked: pytest.Pytester) -> None:
    checked.makepyfile("async def test_both(): pass")
    result = checked.runpytest_subprocess(*OPTIONS, "-o", "trio_mode=true")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "trio_mode = false" in result.stderr.str()
