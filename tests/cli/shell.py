"""Run the program as a person does: in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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


def until_heard(pid: int, number: signal.Signals) -> None:
    """Wait until a process has heard a signal: two of a kind that wait for it come as one."""
    file = Path(f"/proc/{pid}/status")  # elsewhere than on Linux only the moment is waited
    for _ in range(3000):
        lines = file.read_text().splitlines() if file.exists() else []
        waiting = [int(line.split()[1], 16) for line in lines if line.startswith(("SigP", "ShdP"))]
        if not any(mask >> (number - 1) & 1 for mask in waiting):
            break
        time.sleep(0.01)
    time.sleep(0.3)


def write(folder: Path, text: str, name: str = "flow.py") -> Path:
    """Write a file for the program to run."""
    file = folder / name
    file.write_text(dedent(text), encoding="utf-8")
    return file
