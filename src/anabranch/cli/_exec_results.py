"""Keep each job's output in a folder of its own, named after its arguments as GNU parallel does.

``DIR/1/a/2/b/`` is the folder of the arguments a and b: it has ``stdout``, ``stderr`` and ``seq``.
A name can lead nowhere else: what separates paths, and names of dots only, are written with a
backslash; what is too long for a name is cut, and told apart by a hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

LONGEST: Final = 200  # bytes; file systems have 255


@attrs.frozen
class Folder:
    """The folder of one job's results."""

    path: Path

    @property
    def stdout(self) -> Path:
        """What the job prints."""
        return self.path / "stdout"

    @property
    def stderr(self) -> Path:
        """What it says besides."""
        return self.path / "stderr"


def folder_for(root: str, args: Sequence[str], seq: int) -> Folder:
    """Make the folder of a job; another job with the same arguments keeps its own.

    Raises:
        OSError: it cannot be made.
    """
    path = Path(root) if args else Path(root, str(seq))
    for number, arg in enumerate(args, 1):
        path = path / str(number) / name_for(arg)
    if _of_another(path, seq):
        path = path.with_name(f"{path.name}\\+{seq}")
    path.mkdir(parents=True, exist_ok=True)
    (path / "seq").write_text(str(seq))
    return Folder(path)


def name_for(arg: str) -> str:
    """Return an argument as the name of a folder."""
    name = arg.replace("\\", "\\\\").replace("/", "\\_").replace("\t", "\\t").replace("\0", "\\0")
    if not name.strip("."):  # none, this folder, the one above
        name = f"\\{name}"
    encoded = os.fsencode(name)
    if len(encoded) > LONGEST:
        digest = hashlib.sha256(encoded).hexdigest()[:32]
        name = f"{os.fsdecode(encoded[: LONGEST - 40])}\\-{digest}"
    return name


def _of_another(path: Path, seq: int) -> bool:
    try:
        return (path / "seq").read_text() != str(seq)
    except OSError:  # nobody has been there
        return False
