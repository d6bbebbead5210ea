"""Read the code blocks of the seeds, where the seeds are, and what index.toml says of each.

The seeds are no part of this repository: they are looked for in the folder that the environment
variable ANABRANCH_SEEDS names, and without it in ``shared/seeds`` beside the checkout.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parent.parent.parent
INDEX = Path(__file__).with_name("index.toml")
KINDS = ("run", "intent")
FENCED = re.compile(r"^```\w*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


def _strings(value: list[str]) -> tuple[str, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class Entry:
    """Say of one block how it is tested; the words are told at the top of index.toml."""

    number: int
    hash: str
    kind: str = attrs.field(validator=attrs.validators.in_(KINDS))
    means: str = attrs.field(validator=attrs.validators.min_len(1))
    proof: tuple[str, ...] = attrs.field(converter=_strings)
    bench: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    valid: bool = True
    later: str = ""


@attrs.frozen(kw_only=True)
class Seed:
    """Name a seed document and its blocks."""

    file: str
    blocks: tuple[Entry, ...]


@cache
def index() -> Mapping[str, Seed]:
    """Read index.toml: the number of a seed, such as ``"004"``, to what is said of it."""
    table = tomllib.loads(INDEX.read_text("utf-8"))
    return {number: _seed(**said) for number, said in table.items()}


def _seed(*, file: str, block: list[dict[str, Any]]) -> Seed:
    return Seed(file=file, blocks=tuple(Entry(**each) for each in block))


def folder() -> Path | None:
    """Return where the seeds are, None where they are not.

    Raises:
        FileNotFoundError: the environment variable names no folder.
    """
    if named := os.environ.get("ANABRANCH_SEEDS"):
        if not Path(named).is_dir():
            raise FileNotFoundError(f"ANABRANCH_SEEDS={named!r} is no folder")
        return Path(named)
    beside = ROOT.parent / "shared" / "seeds"
    return beside if beside.is_dir() else None


def blocks_of(text: str) -> list[str]:
    """Return what stands between each pair of fences."""
    return FENCED.findall(text)


def hash_of(block: str) -> str:
    """Return enough of the SHA-256 of a block to know it again."""
    return hashlib.sha256(block.encode()).hexdigest()[:12]


def is_valid(block: str) -> bool:
    """Tell whether a block is Python, where ``await`` may stand at the top level."""
    try:
        compile(block, "<seed>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError:
        return False
    return True
