"""Stand in for what the blocks of seed 000 leave open: the origin's modules, and its scripts."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest

import anabranch

SHORTER = 0.01  # what is left of each sleep
ORIGIN = ("src", "src.core", "src.core.concurrent_executor", "src.core.resource_manager")
WORDS = ("fetch_data", "clean_data", "analyze_data", "module_a", "module_b", "module_c")
NUMBERED = [f"{name}{i}" for name in ("module", "module_", "script") for i in range(50)]


def imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the origin's modules be ours, for as long as a test runs."""
    for name in ORIGIN:
        module: Any = ModuleType(name)
        module.ConcurrentExecutor = anabranch.ConcurrentExecutor
        module.ResourceManager = anabranch.ResourceManager
        monkeypatch.setitem(sys.modules, name, module)


def write(folder: Path) -> None:
    """Write every script that a block names; module_b fails."""
    for place in ("scripts", "path/to", "."):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in [*WORDS, *NUMBERED, "script"]:
            fails = name == "module_b"
            code = "import sys; sys.exit('broken')" if fails else "import sys; print(sys.argv[1:])"
            (folder / place / f"{name}.py").write_text(code)


async def sleep(seconds: float) -> None:
    """Sleep on any loop, for a hundredth of the time."""
    await anyio.sleep(seconds * SHORTER)


def known(**more: Any) -> dict[str, Any]:
    """Return what the blocks may name without an import; sleeps are shorter."""
    loop = SimpleNamespace(
        run=asyncio.run, sleep=sleep, wait_for=asyncio.wait_for, TimeoutError=TimeoutError
    )
    return {**anabranch_names(), "asyncio": loop, "Path": Path, **more}


def anabranch_names() -> dict[str, Any]:
    """Return our public names."""
    return {name: getattr(anabranch, name) for name in anabranch.__all__}


def modules(count: int = 3) -> list[tuple[Any, ...]]:
    """Return modules as a user gives them."""
    return [(f"m{i}", Path(f"scripts/module_{i}.py"), None) for i in range(count)]
