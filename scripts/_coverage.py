"""Run the tests under coverage.py, and say file by file which branches were taken.

coverage.py is called as a program: `import coverage` would find the script of that name here.
Its `patch = subprocess` measures child processes too: those of the cpu lane, and the programs
that tests run. What ends by SIGKILL or os._exit writes nothing down.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "anabranch"
KEPT = ROOT / "build" / "coverage"
FLOOR_5 = ("observe", "distributed", "testing", "cli", "__main__.py")
LEAST = 95.0
# Tests of the top floor, of documents and of tools: what they reach below is not counted, for they
# claim nothing of it; and some measure time, or how much may be written.
OF_OTHERS = ["bench", "cli", "observe", "planted", "soak", "testing"]
OF_OTHERS += [f"test_{name}.py" for name in ["coverage", "docs", "examples", "house", "import"]]
OF_OTHERS += [f"test_{name}.py" for name in ["laws_page", "packaging", "tutorial", "typing"]]
# Whose slow tests draw programs by the thousand, or simulate machines for minutes.
DRAWN = ["properties", "controllers"]
# It goes as deep as the stack allows, and there coverage.py's own calls find no room.
TOO_DEEP = "test_fault_39_steps_nested_deeper_than_the_stack_are_refused_and_the_deepest_run"
NO_TESTS = 5  # what pytest says where there is none


@attrs.frozen
class Seen:
    """Count what there is of a file, or of several, and what no test has reached."""

    name: str
    lines: int
    missed_lines: int
    branches: int
    missed_branches: int
    places: str = ""

    @property
    def percent(self) -> float:
        """Return how many of a hundred branches were taken; of lines, where none branches."""
        if self.branches:
            return 100 * (1 - self.missed_branches / self.branches)
        return 100 * (1 - self.missed_lines / max(1, self.lines))


def measure(runs: Sequence[Sequence[str]]) -> int:
    """Run the tests and gather what all their processes have seen; return how many runs failed."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    failed = sum(
        call("run", f"--source={PACKAGE}", "-m", "pytest", *run) not in (0, NO_TESTS)
        for run in runs
    )
    if call("combine", "--quiet") or call("json", "--quiet", f"--omit={omitted()}", "-o", report()):
        sys.exit("coverage.py: there is nothing to tell of; see what it says above")
    return failed


def runs_of(chosen: Sequence[str], *, every: bool) -> list[list[str]]:
    """Return the arguments of pytest for each of its runs: the quick tests first, then the slow."""
    shared = ["-q", "-n", "auto", "--dist", "worksteal"]
    shared += [f"--deselect=tests/faults/test_tokens.py::{TOO_DEEP}"]
    if every or any(word.startswith("tests") for word in chosen):
        return [[*shared, *chosen]]
    quick = [*shared, *(f"--ignore=tests/{name}" for name in OF_OTHERS), *chosen]
    slow = [*quick, *(f"--ignore=tests/{name}" for name in DRAWN), "-m", "slow"]
    return [[*quick, "--fast"], slow]


def call(command: str, *args: str) -> int:
    """Call coverage.py in the root, which keeps its data apart from all other runs'."""
    argv = [sys.executable, "-m", "coverage", command, *args]
    env = {**os.environ, "COVERAGE_FILE": str(KEPT / "data")}
    return subprocess.run(argv, cwd=ROOT, env=env, check=False).returncode


def omitted() -> str:
    """Name what is not measured: the top floor."""
    return ",".join(
        str(PACKAGE / (name if name.endswith(".py") else name + "/*")) for name in FLOOR_5
    )


def report() -> str:
    """Return where the figures of the last run are."""
    return str(KEPT / "report.json")


def read() -> list[Seen]:
    """Return what the last run has seen of each file."""
    try:
        files = json.loads(Path(report()).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        sys.exit("coverage.py: nothing was measured yet; run it without --report")
    return [seen_of(Path(name), each) for name, each in sorted(files.items())]


def seen_of(path: Path, told: Mapping[str, Any]) -> Seen:
    """Make a row of what coverage.py tells of a file."""
    sums = told["summary"]
    places = [str(line) for line in told["missing_lines"]]
    places += [f"{one}->{'end' if two < 0 else two}" for one, two in told["missing_branches"]]
    return Seen(
        (ROOT / path).relative_to(PACKAGE).as_posix(),
        sums["num_statements"],
        sums["missing_lines"],
        sums["num_branches"],
        sums["missing_branches"],
        " ".join(places),
    )


def total(rows: Iterable[Seen]) -> Seen:
    """Add rows up."""
    rows = list(rows)
    return Seen(
        f"floors 0 to 4, {len(rows)} files",
        sum(row.lines for row in rows),
        sum(row.missed_lines for row in rows),
        sum(row.branches for row in rows),
        sum(row.missed_branches for row in rows),
    )


def told(rows: Sequence[Seen], *, lines: bool) -> str:
    """Write the table; branches in percent, of files without branches their lines."""
    width = max(len(row.name) for row in rows)
    head = f"{'file':<{width}}  lines  missed  branches  missed  taken"
    written = [head, "-" * len(head)]
    for row in rows:
        written.append(
            f"{row.name:<{width}}  {row.lines:5}  {row.missed_lines:6}  {row.branches:8}  "
            f"{row.missed_branches:6}  {row.percent:4.0f} %"
        )
        if lines and row.places:
            written.append(f"    {row.places}")
    return "\n".join(written)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="coverage.py")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--least", type=float, default=LEAST)
    args, extra = parser.parse_known_args(argv)
    if args.report and extra:
        parser.error(f"--report runs no test, so {extra[0]!r} has no meaning")
    failed = 0 if args.report else measure(runs_of(extra, every=args.all))
    rows = read()
    print(told(rows, lines=args.lines))
    whole = total(rows)
    reached = 100 * (1 - whole.missed_lines / whole.lines)
    print(
        f"\n{whole.percent:.1f} % of {whole.branches} branches taken, {reached:.1f} % of "
        f"{whole.lines} lines reached: {whole.name}, on both loops together"
    )
    if failed:
        print("tests have failed, as is said above, so they have not done their part")
    if whole.percent < args.least:
        print(f"below {args.least:g} %: --lines names what no test takes")
    return 1 if failed or whole.percent < args.least else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
