"""The descriptors of the whole system: what the kernel has allocated, less what is free of it."""

from pathlib import Path

import pytest

from anabranch.samplers._descriptors import _system


@pytest.mark.parametrize(
    ("text", "used"), [("900\t100\t1000\n", 800), ("900\t0\t1000\n", 900), ("900 100 0\n", None)]
)
def test_what_is_free_is_not_in_use(tmp_path: Path, text: str, used: int | None) -> None:
    file = tmp_path / "proc/sys/fs/file-nr"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    found = _system(tmp_path)
    assert (None if found is None else found.used) == used
