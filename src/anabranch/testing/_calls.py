"""Name the calls that ``check_lane`` makes: plain functions that any process can import."""

from __future__ import annotations

import time
from pathlib import Path


def add(one: int, two: int = 1) -> int:
    """Add two numbers."""
    return one + two


def fail(words: str) -> None:
    """Raise a ValueError."""
    raise ValueError(words)


def rest(seconds: float, value: int = 0) -> int:
    """Take some time, and return a value."""
    time.sleep(seconds)
    return value


def beat(path: str, count: int) -> int:
    """Write a byte every hundredth of a second, so many times."""
    for _ in range(count):
        with Path(path).open("ab") as file:
            file.write(b".")
        time.sleep(0.01)
    return count
