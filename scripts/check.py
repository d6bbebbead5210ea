#!/usr/bin/env python3
"""Check what needs no run: python3 scripts/check.py.

Lint, format, types, the floors and the house rules; each is told with its time.
All of them run, whichever fails; the exit code is 1 if any did.
"""

import subprocess
import sys
import time

import _environment

CHECKS = {
    "lint": ("ruff", "check", "--output-format=concise"),
    "format": ("ruff", "format", "--check"),
    "types": ("mypy",),
    "floors": ("lint-imports", "--no-logo"),
    "house": ("python", "-m", "pytest", "-q", "--tb=short", "tests/test_house.py"),
}


def passes(name: str, command: str, *args: str) -> bool:
    """Run one check and tell how it went: one line, and its output if it failed."""
    start = time.perf_counter()
    argv = [_environment.program(command), *args]
    done = subprocess.run(
        argv, cwd=_environment.ROOT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    took = time.perf_counter() - start
    print(f"{name:<8}{'FAILED' if done.returncode else 'ok':<8}{took:5.1f} s", flush=True)
    if done.returncode:
        sys.stdout.buffer.write(done.stdout)
        sys.stdout.flush()
    return done.returncode == 0


def main() -> int:
    """Run all checks and return the exit code."""
    if _environment.passed_on(__doc__):
        sys.exit("scripts/check.py takes no arguments.")
    _environment.prepare()
    try:
        results = [passes(name, *command) for name, command in CHECKS.items()]
    except KeyboardInterrupt:
        return _environment.INTERRUPTED
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
