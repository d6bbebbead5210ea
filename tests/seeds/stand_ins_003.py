"""Stand in for the names that the blocks of seed 003 leave open; importable in processes too."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

concepts_list = ["river", "branch", "mouth"]
data = "data"
chunks = [{"priority": "high" if n % 2 else "low", "n": n} for n in range(6)]
items = list(range(12))
item_batches = [items[start : start + 5] for start in range(0, len(items), 5)]


def analyze_concepts(found: Any) -> Any:
    """Compute something, and say in which process."""
    return os.getpid(), found


def read_pdf_file(path: str) -> bytes:
    """Read a file."""
    return Path(path).read_bytes()


read_file = read_pdf_file


def extract_concepts(chunk: dict[str, Any]) -> list[int]:
    """Find one concept."""
    return [chunk["n"]]


def process_chunk(chunk: Any) -> Any:
    """Hand a chunk back."""
    return chunk


def process(item: Any) -> Any:
    """Fail for one of the chunks, and hand the others back."""
    if isinstance(item, dict) and item["n"] == 3:
        raise ValueError("chunk three is broken")
    return item


def double(n: int) -> int:
    """Compute very little."""
    return 2 * n


cpu_intensive_func = analyze_data = analyze_concepts


def long_running_task(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def unstable_api_call() -> None:
    """Fail."""
    raise ConnectionError("no route")
