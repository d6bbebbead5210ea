"""Give tests a clock that stands, and trees of files instead of this machine's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anabranch.samplers import Groups, _cores
from tests.samplers.trees import LOTS, Clock, plant


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Groups]:
    """Write a tree; a machine of 64 CPUs stands around it. Again: change what is there."""
    monkeypatch.setattr(_cores, "_affinity", lambda: LOTS)

    def make(
        files: dict[str, str], own: str | None = "0::/a/b\n", mounts: str | None = None
    ) -> Groups:
        return plant(tmp_path, files, own, mounts)

    return make
