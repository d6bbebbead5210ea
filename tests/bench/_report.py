"""Tell what was measured: a table on the terminal, and JSON with what the machine was."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import attrs

from tests.bench._measure import Spread

ROOT = Path(__file__).resolve().parent.parent.parent


@attrs.frozen(kw_only=True)
class Row:
    """One figure; ``ratio`` to ``against``, or the spread of what is judged; ``bar`` if it is."""

    case: str
    size: int
    subject: str
    value: float
    unit: str
    against: str = ""
    ratio: Spread | None = None
    bar: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it has a bar and is above it: the median of the ratios, or the figure itself."""
        judged = self.value if self.ratio is None else self.ratio.median
        return self.bar is not None and judged > self.bar


def machine() -> dict[str, Any]:
    """Describe where and when this is measured."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "src", "tests/bench")),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cores_allowed": len(affinity(0)) if affinity else os.cpu_count(),
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": importlib.metadata.version("trio"),
        "anyio": importlib.metadata.version("anyio"),
        "load": [round(value, 2) for value in load],
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def describe(found: dict[str, Any]) -> str:
    """Say in two lines what the machine is."""
    changed = " with changes" if found["changed"] else ""
    return (
        f"{found['date']}  commit {found['commit'] or '?'}{changed}  load {found['load']}\n"
        f"{found['cpu']}, {found['cores_allowed']} cores, {found['python']}, "
        f"trio {found['trio']}, anyio {found['anyio']}, {found['system']}"
    )


def heading(title: str) -> str:
    return f"\n{title}\n{'':<67}{'value':>17}{'ratio (quartiles)':>20}{'bar':>6}"


def line(row: Row) -> str:
    """Lay out one row; a ratio is to the row of its size that has none, but for the exponent's."""
    ratio = ""
    if row.ratio is not None:
        ratio = f"{row.ratio.median:.2f}"
        if row.ratio.count > 1:
            ratio += f" ({row.ratio.low:.2f}-{row.ratio.high:.2f})"
    bar = "" if row.bar is None else f"{row.bar:g}"
    verdict = "" if row.bar is None else ("MISSED" if row.missed else "ok")
    value = f"{row.value:.2f} {row.unit}"
    text = f"{row.size:>9,}  {row.subject:<56}{value:>17}{ratio:>20}{bar:>6} {verdict}"
    return text.rstrip()


class Progress:
    """Say on a terminal what is being measured now, in one line that is written over."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._shows = stream.isatty()

    def tell(self, text: str) -> None:
        if self._shows:
            self._stream.write(f"\r\x1b[K{text:.100}")
            self._stream.flush()

    def clear(self) -> None:
        self.tell("")


def save(
    file: Path,
    before: dict[str, Any],
    rows: Sequence[Row],
    failed: Sequence[str],
    seconds: float,
) -> None:
    """Write everything as JSON; ``before`` describes the machine as it was at the start."""
    content = {
        "machine": before,
        "load_after": machine()["load"],
        "seconds": round(seconds, 1),
        "failed": list(failed),
        "rows": [{**attrs.asdict(row), "missed": row.missed} for row in rows],
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
