"""The examples in docs/ do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import PROGRAM, environment, shell, write

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.real_clock]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    write(tmp_path, "import os, os.path\ndef long():\n    1\n    2\nasync def short(): 3\n", "a.py")
    write(tmp_path, "from os import sep\nfrom . import b\n", "b.py")
    write(tmp_path, "print 1\n", "broken.py")
    (tmp_path / "site-packages").mkdir()
    write(tmp_path / "site-packages", "1", "c.py")
    return tmp_path


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_the_census_counts_a_folder(sources: Path, loop: str) -> None:
    file = str(EXAMPLES / "census.py")
    done = shell("run", file, "--data", f'"{sources}"', "--loop", loop, cwd=sources)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "3 files, 8 lines",
        "3 lines  long  (a.py)",
        "2 files  os",
        "do not parse: 1",
    ):
        assert words in done.stdout
    assert "broken.py: line 1: Missing parentheses" in done.stdout
    assert "at once at the peak" in done.stdout
    assert "times as fast" in done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity here")
def test_the_census_runs_as_many_processes_as_it_has_cores(sources: Path) -> None:
    file = str(EXAMPLES / "census.py")
    one_core = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "os.execv(sys.executable, sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", one_core, *PROGRAM, "run", file, "--data", f'"{sources}"'],
        cwd=sources,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n1 at once at the peak" in done.stdout


def test_the_census_of_an_empty_folder_says_so(tmp_path: Path) -> None:
    done = shell("run", str(EXAMPLES / "census.py"), "--data", f'"{tmp_path}"', cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no .py file in" in done.stderr


def test_the_census_runs_as_a_program_too(sources: Path) -> None:
    code = (EXAMPLES / "census.py").read_text("utf-8").replace("run_sync(None)", "run_sync('.')")
    file = write(sources, code, "own_census.py")
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=sources,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "times as fast" in done.stdout


def test_the_program_is_the_module(tmp_path: Path) -> None:
    assert PROGRAM[1:] == ["-m", "anabranch"]
    assert shell("--help", cwd=tmp_path).returncode == 0
