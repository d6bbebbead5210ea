#!/usr/bin/env python3
"""Run the tests: python3 scripts/test.py [--fast] [arguments of pytest].

As many run at once as this process may use cores, and one more where all run: they wait for child
processes and timers a third of their time. `-n 0`, `-s` and `--pdb` run one after another.

--fast leaves out the tests marked `slow`, which take over a quarter of a second each: whole
programs and child processes, the documents, the bench in small, the laws' simulations, installing.
Of those it keeps the ones that draw programs, and draws 100 where there would be 2,000.
`-m` chooses by marks instead.

Paths are the root's, wherever this is called; pytest's own help: `.venv/bin/pytest --help`.
"""

import os

import _environment

# With several at once there is no terminal for a test to show itself or to be asked on.
ALONE = ("--capture=no", "--pdb", "--trace", "--numprocesses", "--dist", "-n")


def pytest_arguments(args: list[str]) -> list[str]:
    """Add to what was asked for what this script itself chooses."""
    added = []
    if not any(arg.startswith(ALONE) or "no:xdist" in arg or _shows(arg) for arg in args):
        added += ["-n", "auto" if "--fast" in args else str(cores() + 1), "--dist", "worksteal"]
    if "--fast" in args and not any(arg.startswith("-m") for arg in args):
        added += ["-m", "drawn or not slow"]
    return [*added, *args]


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shows(arg: str) -> bool:
    """Tell `-s`, alone or among other letters, as in `-xvs`."""
    return arg.startswith("-") and "s" in arg and set(arg[1:]) <= set("lqsvx")


if __name__ == "__main__":
    args = pytest_arguments(_environment.passed_on(__doc__))
    # Hundreds of tests start a Python: what they import is compiled once and not by each.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    _environment.hand_over("python", "-m", "pytest", *args)
