"""Read the bugs that are planted, and plant one in a copy of the tree.

A bug is a text that stands once in a file of the engine, and what stands there instead:
a text that is not there, or is there twice, is an error, so that no plant is lost in silence.
"""

from __future__ import annotations

import ast
import importlib.util
import shutil
import tomllib
from pathlib import Path

import attrs

PACKAGE = Path("src/anabranch")
TABLES = Path("tests/planted")
COPIED = ("src", "tests", "docs", "scripts", "pyproject.toml", "README.md", "LICENSE")
KEYS = {"name", "file", "before", "after", "why"}


class PlantError(ValueError):
    """Say that a plant cannot be planted; whoever wrote or moved the text is to mend it."""


@attrs.frozen
class Plant:
    """A bug: ``before`` becomes ``after`` in ``file``, which goes without src/anabranch.

    Attributes:
        table: the name of the table that it stands in: the floor.
        tests: files that are about ``file``, besides those that bear its name.
    """

    table: str
    name: str
    file: str
    before: str
    after: str
    why: str
    tests: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """Where it is planted, from the root."""
        return PACKAGE / self.file

    def mirror(self, root: Path) -> list[str]:
        """Return the tests that mirror its file, from the root: files of its name come first."""
        source = Path(self.file)
        pattern = f"test{'' if source.stem.startswith('_') else '_'}{source.stem}"
        folder = root / "tests" / source.parent
        found = [*folder.glob(f"{pattern}.py"), *sorted(folder.glob(f"{pattern}_*.py"))]
        return list(dict.fromkeys([*(str(each.relative_to(root)) for each in found), *self.tests]))

    def planted(self, text: str) -> str:
        """Return ``text``, the file's, with the bug in it.

        Raises:
            PlantError: ``before`` does not stand there exactly once, or what comes of it is no
                Python.
        """
        count = text.count(self.before)
        if count != 1:
            raise PlantError(
                f"{self.table}.toml: {self.name}: its text stands {count} times in {self.file}, "
                f"not once; bring `before` up to what the file says now"
            )
        changed = text.replace(self.before, self.after)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise PlantError(f"{self.table}.toml: {self.name}: {error}; mend `after`") from None
        return changed


def plants(root: Path) -> list[Plant]:
    """Read all tables.

    Raises:
        PlantError: a key is unknown or missing, or a name is given twice.
    """
    found: dict[str, Plant] = {}
    for table in sorted((root / TABLES).glob("*.toml")):
        said = tomllib.loads(table.read_text(encoding="utf-8"))
        for entry in said["plant"]:
            wrong = sorted(entry.keys() ^ KEYS)
            if wrong:
                raise PlantError(f"{table.name}: {entry.get('name')}: {wrong}: give {sorted(KEYS)}")
            if entry["name"] in found:
                raise PlantError(f"{table.name}: {entry['name']} is there twice; name one anew")
            tests = tuple(said.get("tests", {}).get(entry["file"], ()))
            found[entry["name"]] = Plant(table=table.stem, tests=tests, **entry)
    return list(found.values())


def copy_tree(root: Path, to: Path) -> None:
    """Copy what the tests need of the tree; whatever was there is gone."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=ignore)
        else:
            shutil.copy2(source, to / name)


def write(path: Path, text: str) -> None:
    """Write a source file, and see that no bytecode of what it said before is used.

    Bytecode is told from stale by the second and the size, and both may be the same.
    """
    path.write_text(text, encoding="utf-8")
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
