"""Read the small files in which a kernel tells its figures; what is missing or broken is unknown.

Such a file may be absent, empty, forbidden, switched off (PSI answers EOPNOTSUPP), or say what no
version has said before: a signal less, and never an error.
"""

from __future__ import annotations

from pathlib import Path

LONGEST_NUMBER = 30  # digits; int() refuses very long ones with a ValueError
MOST_CPUS = 1_000_000


def read(path: Path) -> str:
    """Return a file's text; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):  # ValueError: a path that is none, with a NUL in it
        return ""


def whole(text: str) -> int | None:
    """Return a number that is not negative; None for ``max``, ``-1`` and for what is none."""
    text = text.strip()
    usual = text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER
    return int(text) if usual else None


def number(path: Path) -> int | None:
    """Return the number that a file holds; None where it holds none."""
    return whole(read(path))


def table(path: Path) -> dict[str, int]:
    """Return the lines ``name number`` of a file; other lines are left out."""
    found: dict[str, int] = {}
    for line in read(path).splitlines():
        name, _, text = line.partition(" ")
        value = whole(text)
        if value is not None:
            found[name] = value
    return found


def ranges(text: str) -> list[range]:
    """Read a list of CPUs, ``0-3,8``; empty where any part of it is none."""
    found: list[range] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        low, high = whole(first), whole(last or first)
        if low is None or high is None or not low <= high < MOST_CPUS:
            return []
        found.append(range(low, high + 1))
    return found
