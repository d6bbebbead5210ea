"""A Ctrl-C while the program is still being imported, or has not begun, ends it with a word."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from anabranch.cli import _app, main
from tests.cli.shell import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")

STRUCK = """
import os, signal, sys
# Whoever starts the tests behind a shell's & has them ignore it.
heard = signal.default_int_handler
signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[2] == "ignored" else heard)

class Strikes:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Strikes())
from anabranch.cli import main
sys.exit(main(["exec", "echo", ":::", "ran"]))
"""


def struck(folder: Path, module: str, *, ignored: bool = False) -> tuple[int, str, str]:
    """Run a job by a program that a Ctrl-C hits as it begins to import a module."""
    done = subprocess.run(
        [sys.executable, "-c", STRUCK, module, "ignored" if ignored else "heard"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["anabranch.cli._app", "cyclopts", "psutil", "sqlite3"])
def test_a_ctrl_c_during_the_import_ends_it_with_a_word(tmp_path: Path, module: str) -> None:
    assert struck(tmp_path, module) == (130, "", "anabranch: interrupted\n")


@pytest.mark.slow
def test_a_ctrl_c_that_is_ignored_is_ignored_during_the_import_too(tmp_path: Path) -> None:
    assert struck(tmp_path, "cyclopts", ignored=True) == (0, "ran\n", "")


def test_a_ctrl_c_before_signals_are_heard_ends_it_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(_app, "main", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main([]) == 130
        assert capfd.readouterr() == ("", "anabranch: interrupted\n")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
