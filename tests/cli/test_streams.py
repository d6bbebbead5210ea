"""Whatever stdin, stdout and stderr are, the program says what it can and exits as it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import PROGRAM, environment, write

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_clock,
    pytest.mark.skipif(sys.platform == "win32", reason="the redirections are a POSIX shell's"),
]
FLOW = """
    import os, subprocess, sys
    from pathlib import Path
    from anabranch import Step

    def noisy(_):
        Path("ran").touch()
        print("noise")
        sys.stdout.flush()
        print("complaint", file=sys.stderr)
        subprocess.run(["sh", "-c", "echo child; echo child >&2"])
        return "fine"
    def closes(_): sys.stdout.close()
    def dup(_): return [os.fstat(place).st_rdev for place in (0, 1, 2)]

    ok = Step("ok", lambda _: "fine")
    nothing = Step("nothing", lambda _: None)
    noise = Step("noise", noisy)
    fails = Step("fails", lambda _: 1 / 0)
    closed = Step("closed", closes)
    places = Step("places", dup)
    many = Step.map_over("many", lambda n: n, items=range(20_000), max_concurrency=9)
"""
FULL = "anabranch: stdout cannot be written: No space left on device\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, FLOW)
    return tmp_path


def redirected(folder: Path, args: str, where: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {args} {where}', "sh", *PROGRAM],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full here")
@pytest.mark.parametrize(
    "args",
    [
        "run flow.py:ok",
        "run flow.py:ok --json",
        "run flow.py:many",
        "run flow.py:many --json",
        "--help",
        "run --help",
        "--version",
    ],
)
def test_a_full_disk_is_told_in_one_line(folder: Path, args: str) -> None:
    assert redirected(folder, args, ">/dev/full") == (1, "", FULL)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full here")
def test_stderr_that_is_full_changes_no_exit_code(folder: Path) -> None:
    assert redirected(folder, "run flow.py:fails", "2>/dev/full") == (1, "", "")
    assert redirected(folder, "run nowhere.py", "2>/dev/full") == (2, "", "")
    assert redirected(folder, "run flow.py:ok", "2>/dev/full") == (0, "fine\n", "")
    assert redirected(folder, "run flow.py:ok", ">/dev/full 2>&1") == (1, "", "")


@pytest.mark.parametrize("args", ["run flow.py:noise", "run flow.py:noise --json", "--help"])
def test_a_closed_stdout_is_refused_before_anything_runs(folder: Path, args: str) -> None:
    code, _, said = redirected(folder, args, ">&-")
    assert code == 2
    assert said.startswith("anabranch: stdout is closed")
    assert said.count("\n") == 1
    assert not (folder / "ran").exists()


def test_a_closed_stderr_takes_nothing_into_the_result(folder: Path) -> None:
    assert redirected(folder, "run flow.py:ok", "2>&-") == (0, "fine\n", "")
    assert redirected(folder, "run flow.py:noise", "2>&-") == (0, "noise\nchild\nfine\n", "")
    assert redirected(folder, "run flow.py:fails", "2>&-") == (1, "", "")
    assert redirected(folder, "run nowhere.py", "2>&-") == (2, "", "")
    code, out, _ = redirected(folder, "run flow.py:noise --json", "2>&-")
    assert code == 0
    assert {json.loads(line)["event"] for line in out.splitlines()} >= {"step_started", "result"}


@pytest.mark.parametrize("where", ["<&-", "</dev/null", "2>&- <&-"])
def test_closed_streams_are_the_null_device_for_whoever_is_started(
    folder: Path, where: str
) -> None:
    code, out, said = redirected(folder, "run flow.py:places", where)
    assert (code, said) == (0, "")
    null = os.stat(os.devnull).st_rdev
    found = json.loads(out)
    assert found[0] == null
    assert (found[2] == null) == ("2>&-" in where)


def test_stdout_that_the_file_itself_has_closed_is_told(folder: Path) -> None:
    code, out, said = redirected(folder, "run flow.py:closed", "")
    assert (code, out) == (1, "")
    assert said == "anabranch: stdout cannot be written: I/O operation on closed file.\n"


def test_a_system_without_descriptors_for_a_loop_is_told(folder: Path) -> None:
    for loop in ("trio", "asyncio"):
        done = subprocess.run(
            ["sh", "-c", 'ulimit -n 6; "$@"', "sh", *PROGRAM, "run", "flow.py:ok", "--loop", loop],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("anabranch: the system refuses: [Errno 24] Too many open")
        assert done.stderr.count("\n") == 1
