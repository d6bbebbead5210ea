"""Run the program as a person does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PROGRAM = [sys.executable, "-m", "anabranch"]


def environment() -> dict[str, str]:
    """Return an environment in which child processes find the package, and no terminal's wishes."""
    left = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "COLUMNS")}
    return left | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def shell(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [*PROGRAM, *args],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def write(folder: Path, text: str, name: str = "flow.py") -> Path:
    """Write a file for the program to run."""
    file = folder / name
    file.write_text(dedent(text), encoding="utf-8")
    return file
