"""The plugin of pytest: both loops, virtual time, nothing left, and peace with other plugins."""

from __future__ import annotations

import importlib.util
from importlib.metadata import entry_points
from typing import Any

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

INSTALLED = any(each.name == "anabranch" for each in entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "anabranch.testing._plugin"]

IMPORTS = """
import asyncio, socket, subprocess, sys, threading, time
import anyio, pytest, sniffio
from anabranch.testing import check_lane
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    def run(code: str, *args: str, ini: str = "", conftest: str = "") -> pytest.RunResult:
        pytester.makefile(".ini", pytest=f"[pytest]\n{ini}")
        pytester.makeconftest(conftest)
        pytester.makepyfile(IMPORTS + code)
        alone = "global " in code  # what it leaves behind is no concern of this process
        started = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
        return started(*PLUGIN, "-q", "-p", "no:cacheprovider", *args)

    return run


BROKEN_LANE = """
class Detached:
    async def run(self, fn, args, kwargs):
        return await anyio.to_thread.run_sync(
            lambda: fn(*args, **kwargs), abandon_on_cancel=True)

@pytest.mark.anabranch(clock="real")
async def test_lane():
    await check_lane(Detached())
"""


def test_a_users_ten_lines_find_a_deliberately_broken_lane(run: Any) -> None:
    result = run(BROKEN_LANE)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*a call that is cancelled has ended when run returns*"])
    sound = run(BROKEN_LANE.replace("Detached", "Waits").replace("abandon_on_cancel=True", ""))
    sound.assert_outcomes(passed=2)


MARKED = """
seen = []

@pytest.mark.anabranch
async def test_an_hour(anyio_backend_name):
    seen.append(sniffio.current_async_library())
    assert seen[-1] == anyio_backend_name
    assert anyio.current_time() == 0
    await anyio.sleep(3600)
    assert anyio.current_time() == 3600

def test_both():
    assert sorted(seen) == ["asyncio", "trio"]
"""
OTHERS = """
@pytest.mark.trio
async def test_trio():
    assert sniffio.current_async_library() == "trio"

@pytest.mark.anyio
async def test_anyio():
    await anyio.sleep(0)

def test_plain():
    pass
"""


def test_marked_tests_run_on_both_loops_in_virtual_time_beside_the_tests_of_others(
    run: Any,
) -> None:
    run(MARKED + OTHERS).assert_outcomes(passed=7)


@pytest.mark.parametrize("ini", ["anyio_mode = auto", "anyio_mode = strict\ntrio_mode = false"])
def test_it_lives_with_the_modes_of_anyio(run: Any, ini: str) -> None:
    run(MARKED, ini=ini).assert_outcomes(passed=3)


needs_pytest_asyncio = pytest.mark.skipif(
    importlib.util.find_spec("pytest_asyncio") is None, reason="pytest-asyncio is not installed"
)


@needs_pytest_asyncio
def test_it_lives_with_pytest_asyncio(run: Any) -> None:
    theirs = """
@pytest.mark.asyncio
async def test_asyncio():
    assert asyncio.get_running_loop().time() > 0
"""
    run(MARKED + OTHERS + theirs, ini="asyncio_mode = strict").assert_outcomes(passed=8)


@needs_pytest_asyncio
def test_asyncio_mode_auto_is_refused(run: Any) -> None:
    result = run(MARKED, ini="asyncio_mode = auto")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*on asyncio twice; set asyncio_mode = strict*"])


def test_trio_mode_is_refused(run: Any) -> None:
    result = run(MARKED, ini="trio_mode = true")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_an_hour*on trio twice; set trio_mode = false*"])


def test_trio_mode_is_none_of_its_affairs_where_nothing_is_marked(run: Any) -> None:
    run("async def test_trio():\n    await anyio.sleep(0)", ini="trio_mode = true").assert_outcomes(
        passed=1
    )


def test_without_anyios_plugin_a_marked_test_is_refused(run: Any) -> None:
    result = run(MARKED, "-p", "no:anyio")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*leave out -p no:anyio*"])


def test_a_fixture_that_names_one_loop_does_not_make_both_the_same(run: Any) -> None:
    run(
        MARKED, conftest="import pytest\n@pytest.fixture\ndef anyio_backend(): return 'asyncio'"
    ).assert_outcomes(passed=3)


LEAVES = {
    "task": (
        """
@pytest.mark.anabranch(loops="asyncio")
async def test_it():
    global task
    task = asyncio.ensure_future(asyncio.sleep(99))
""",
        "*task: *",
    ),
    "thread": (
        """
@pytest.mark.anabranch
def test_it():
    global thread
    thread = threading.Thread(target=time.sleep, args=[3], name="sleeper", daemon=True)
    thread.start()
""",
        "*thread: sleeper*",
    ),
    "process": (
        """
@pytest.mark.anabranch(clock="real", loops=["trio"])
async def test_it():
    global child
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"])
""",
        "*process: pid *",
    ),
    "descriptor": (
        """
@pytest.mark.anabranch
def test_it():
    global file
    file = open(__file__)
""",
        "*descriptor: *",
    ),
}


@pytest.mark.parametrize("kind", LEAVES)
def test_what_a_test_leaves_behind_is_named(run: Any, kind: str) -> None:
    code, says = LEAVES[kind]
    result = run(code, "-W", "ignore")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_it*left behind:", says])
    allowed = code.replace("def test_it", "def test_allowed").replace(
        "\n@", f"\n@pytest.mark.anabranch(leaves={kind!r})\n@", 1
    )
    run(allowed, "-W", "ignore").assert_outcomes(passed=1)


STANDS = """
@pytest.mark.anabranch
async def test_it():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 60)
        await anyio.Event().wait()

@pytest.mark.anabranch
async def test_the_next():
    await anyio.sleep(1)
"""


def test_a_test_that_waits_for_ever_ends_and_says_where(run: Any) -> None:
    result = run(STANDS)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*DeadlockError: at 60 s everything waits*", "* in test_it"])


FROM_OUTSIDE = """
@pytest.mark.anabranch
async def test_a_thread():
    assert await anyio.to_thread.run_sync(lambda: time.sleep(0.3) or 3) == 3

@pytest.mark.anabranch
async def test_a_process():
    done = await anyio.run_process([sys.executable, "-c", "print(3)"])
    assert done.stdout == b"3\\n"

@pytest.mark.anabranch
async def test_a_thread_of_its_own():
    event, token = anyio.Event(), anyio.lowlevel.current_token()
    def later():
        time.sleep(0.3)
        anyio.from_thread.run_sync(event.set, token=token)
    threading.Thread(target=later).start()
    await event.wait()

@pytest.mark.anabranch
async def test_a_socket():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        timer = threading.Timer(0.3, theirs.send, [b"x"])
        timer.start()
        await anyio.wait_readable(ours)
"""


def test_a_test_that_waits_for_something_outside_is_left_alone(run: Any) -> None:
    run(FROM_OUTSIDE).assert_outcomes(passed=8)


OVER_A_THREAD = """
@pytest.mark.anabranch
async def test_it():
    with anyio.move_on_after(5):
        await anyio.to_thread.run_sync(time.sleep, 0.2, abandon_on_cancel=True)
"""


def test_virtual_time_that_passes_over_a_thread_is_told(run: Any) -> None:
    result = run(OVER_A_THREAD, "-W", "default")
    result.assert_outcomes(passed=2, warnings=2)
    result.stdout.fnmatch_lines(["*VirtualTimeWarning*while 1 call ran*"])
    as_error = "error::anabranch.testing.VirtualTimeWarning"
    run(OVER_A_THREAD, "-W", as_error).assert_outcomes(passed=2, errors=2)


FIXTURES = """
@pytest.fixture
async def server():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        yield sniffio.current_async_library()
        group.cancel_scope.cancel()

@pytest.mark.anabranch
async def test_fixture(server, anabranch_loop):
    assert server == anabranch_loop

async def ask():
    await anyio.sleep(5)
    return sniffio.current_async_library()

def test_plain(anabranch_run, anabranch_loop):
    assert anabranch_run(ask) == anabranch_loop

@pytest.mark.anabranch
@pytest.mark.parametrize("n", [1, 2])
class TestClass:
    async def test_method(self, n):
        assert anyio.current_time() == 0
        await anyio.sleep(n)

    def test_sync(self, n):
        pass

def test_no_leaks(anabranch_no_leaks):
    pass
"""


def test_its_fixtures_and_async_fixtures_for_anyio_serve_it(run: Any) -> None:
    run(FIXTURES).assert_outcomes(passed=2 + 2 + 4 + 2 + 1)


def test_a_leak_of_any_test_is_seen_by_the_fixture(run: Any) -> None:
    code = "def test_it(anabranch_no_leaks):\n    global file\n    file = open(__file__)"
    run(code, "-W", "ignore").assert_outcomes(passed=1, errors=1)


DRAWN = """
from hypothesis import given, settings, strategies as st

@pytest.mark.anabranch
@settings(max_examples=5)
@given(st.integers(1, 9))
async def test_drawn(n):
    assert sniffio.current_async_library() in ("trio", "asyncio")
    await anyio.sleep(n)
"""


def test_a_test_with_drawn_values_runs_on_both_loops(run: Any) -> None:
    run(DRAWN).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("loop='trio'", "did you mean 'loops'"),
        ("loops=['curio']", "give some of trio, asyncio"),
        ("loops=[]", "give some of trio, asyncio"),
        ("clock='wall'", "give 'virtual' or 'real'"),
        ("leaves='socket'", "give some of task"),
        ("'trio'", "give it by its name"),
    ],
)
def test_a_mark_that_cannot_be_meant_is_refused(run: Any, mark: str, says: str) -> None:
    result = run(f"@pytest.mark.anabranch({mark})\nasync def test_it():\n    await anyio.sleep(0)")
    assert result.ret != pytest.ExitCode.OK
    assert says in str(result.stdout) + str(result.stderr)
