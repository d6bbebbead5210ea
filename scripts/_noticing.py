"""Run tests in a copy of the tree until one fails, and say which one: so a planted bug is noticed.

A test that fails without the bug as well has noticed nothing, and neither has one that fails with
it only once: it is left out, and the rest goes on.
A test that hangs has noticed it, too: pytest ends itself then, and the last test begun is named.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

HANGS_AFTER = 25.0  # seconds in one test; the slowest takes ten on a busy machine
LEFT_OUT = ("tests/bench", "tests/soak", "tests/test_docs.py", "tests/test_examples.py")
PASSED, NOTHING_COLLECTED = 0, 5
HUNG = "hung"
_running: set[subprocess.Popen[str]] = set()
_over = threading.Event()
BEGUN = re.compile(r"^(tests/\S+\.py::\w+(?:\[.*\])?) ?(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)?")
SUMMED_UP = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$")


@attrs.frozen
class Notice:
    """Say which test noticed: ``how`` is "failed", HUNG, or how pytest itself ended."""

    test: str
    how: str


@attrs.frozen
class Ran:
    """How one pytest ended: its exit code, None if its time ran out, and what it wrote."""

    code: int | None
    output: str

    def notice(self) -> Notice | None:
        """Return what noticed, if anything did."""
        if self.code in {PASSED, NOTHING_COLLECTED, None}:  # slow tests are no hang
            return None
        lines = self.output.splitlines()
        named = [found[1] for line in lines if (found := SUMMED_UP.match(line))]
        if named:
            return Notice(named[0], "failed")
        if "Timeout (" in self.output:
            return Notice(last_begun(lines), HUNG)
        return Notice("", f"pytest ended with {self.code}")


def last_begun(lines: Sequence[str]) -> str:
    """Return the test that had begun and not ended; empty if none had."""
    name = ""
    for line in lines:
        found = BEGUN.match(line)
        if found:
            name = "" if found[2] else found[1]
    return name


def run(tree: Path, tests: Sequence[str], seconds: float, *more: str) -> Ran:
    """Run tests in ``tree``, stopping at the first failure, at most so many seconds."""
    # Examples that an earlier plant has left would make the next one look easier than it is.
    shutil.rmtree(tree / ".hypothesis", ignore_errors=True)
    argv = [sys.executable, "-m", "pytest", "-x", "-v", "--fast", "-rfE", "--no-header", "--tb=no"]
    argv += ["-p", "no:cacheprovider", "--hypothesis-seed=0"]
    argv += ["-o", f"faulthandler_timeout={HANGS_AFTER:g}", "-o", "faulthandler_exit_on_timeout=1"]
    argv += [*more, *tests]
    env = {**os.environ, "PYTHONPATH": str(tree / "src"), "COLUMNS": "300"}
    with subprocess.Popen(
        argv,
        cwd=tree,
        env=env,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            _running.add(process)
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            _kill(process)
            return Ran(None, process.communicate()[0] or "")
        finally:
            _kill(process)
            _running.discard(process)
            if _over.is_set():
                raise InterruptedError("the run was interrupted; start it again to go on")
    return Ran(process.returncode, output)


def end_all() -> None:
    """End what runs in other threads: whoever pressed Ctrl-C does not wait for minutes."""
    _over.set()
    for process in list(_running):
        _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End whatever is left of the session of a pytest."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Watch:
    """Run the tests that are near a bug, then all others, and believe a failure only if it is new.

    Args:
        tree: a copy of the tree.
        put: plants the bug in it if it is called with True, and takes it out again with False.
        near: seconds for the tests that mirror the file: the quick ones, and then the slow ones.
        far: for all others, one after the other; 0 leaves them out.
    """

    def __init__(
        self, tree: Path, put: Callable[[bool], None], *, near: float = 120.0, far: float = 240.0
    ) -> None:
        self._tree = tree
        self._put = put
        self._near = near
        self._far = far

    def first_notice(self, mirror: Sequence[str]) -> Notice | None:
        """Return which test notices the bug, the tests ``mirror`` first; None if none does."""
        try:
            return (
                self._stage(mirror, self._near, "-m", "not slow")
                or self._stage(mirror, self._near, "-m", "slow")
                or self._stage(self._others(mirror), self._far, "-m", "not slow")
            )
        finally:
            self._put(False)

    def _others(self, mirror: Sequence[str]) -> list[str]:
        """List all other files of tests: those of the same folder first, drawn ones last."""
        folder = Path(mirror[0]).parent
        tests = (self._tree / "tests").rglob("test_*.py")
        found = [path.relative_to(self._tree) for path in tests]
        found.sort(key=lambda path: ("properties" in path.parts, path.parent != folder, path))
        names = [str(path) for path in found]
        return [name for name in names if name not in mirror and not name.startswith(LEFT_OUT)]

    def _stage(self, tests: Sequence[str], seconds: float, *more: str) -> Notice | None:
        left_out: list[str] = []
        give_up = time.monotonic() + seconds
        while (left := give_up - time.monotonic()) > 0:
            self._put(True)
            notice = run(self._tree, tests, left, *more, *left_out).notice()
            if notice is None:
                return None
            again = [notice.test] if notice.test else [*tests, *more, *left_out]
            self._put(False)
            passes = run(self._tree, again, seconds).notice() is None
            if passes and (notice.how == HUNG or self._fails_again(again, seconds)):
                return notice
            if not notice.test:
                return None  # nothing can be told from these tests, bug or no bug
            left_out.append(f"--deselect={notice.test}")
        return None

    def _fails_again(self, tests: Sequence[str], seconds: float) -> bool:
        self._put(True)
        return run(self._tree, tests, seconds).notice() is not None
