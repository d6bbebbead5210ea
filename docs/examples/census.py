"""Count what is in a folder of Python files: this Python's standard library, if none is named.

anabranch run docs/examples/census.py
anabranch run docs/examples/census.py --data '"src"'
"""

import ast
import sysconfig
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anabranch import Pipeline, Step


@dataclass
class File:
    """What one file holds, or why it could not be read; and when that was found out."""

    path: str
    began: float
    lines: int = 0
    functions: list[tuple[int, str]] = field(default_factory=list)  # the five longest
    modules: set[str] = field(default_factory=set)
    error: str = ""
    ended: float = 0.0


def find(folder: str | None) -> list[str]:
    """List the .py files of a folder, but for what was installed into it."""
    root = Path(folder or sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    if not files:
        raise FileNotFoundError(f"there is no .py file in {root}")
    return [str(path) for path in files]


def parse(path: str) -> File:
    """Read and parse one file, in a process of the cpu lane."""
    file = File(path, began=time.monotonic())
    try:
        source = Path(path).read_bytes()
        file.lines = source.count(b"\n")
        look_at(ast.parse(source), file)
    except SyntaxError as error:
        file.error = f"line {error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        file.error = f"{type(error).__name__}: {error}"
    file.ended = time.monotonic()
    return file


def look_at(tree: ast.AST, file: File) -> None:
    """Note the functions and the imports of a file."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                file.functions.append((length, name))
            case ast.Import(names=names):
                file.modules.update(each.name.partition(".")[0] for each in names)
            case ast.ImportFrom(module=str(module), level=0):
                file.modules.add(module.partition(".")[0])
    file.functions = sorted(file.functions, reverse=True)[:5]


def total(files: list[File]) -> str:
    """Count files and lines."""
    return f"{len(files):,} files, {sum(file.lines for file in files):,} lines"


def longest(files: list[File]) -> list[str]:
    """Find the longest functions."""
    functions = ((*function, file.path) for file in files for function in file.functions)
    top = sorted(functions, reverse=True)[:5]
    return [f"{length:>7,} lines  {name}  ({Path(path).name})" for length, name, path in top]


def imported(files: list[File]) -> list[str]:
    """Find the modules that most files import."""
    counts = Counter(module for file in files for module in file.modules)
    return [f"{count:>7,} files  {module}" for module, count in counts.most_common(8)]


def unparsed(files: list[File]) -> list[str]:
    """List the files that do not parse, each with its reason."""
    return [f"  {Path(file.path).name}: {file.error}" for file in files if file.error]


def speed(files: list[File]) -> tuple[int, float]:
    """Measure how many files were parsed at once at the peak, and in how many seconds all were."""
    changes = [(file.began, 1) for file in files] + [(file.ended, -1) for file in files]
    running = peak = 0
    for _, change in sorted(changes):
        running += change
        peak = max(peak, running)
    return peak, max(file.ended for file in files) - min(file.began for file in files)


def paths(files: list[File]) -> list[str]:
    """List the files again, to parse them one after another."""
    return [file.path for file in files]


def table(found: dict[str, Any]) -> str:
    """Lay out what was found."""
    report, (peak, together), (_, alone) = found["report"], found["together"], speed(found["alone"])
    lines = [
        report["total"],
        "\nThe longest functions",
        *report["longest"],
        "\nThe most imported modules",
        *report["imported"],
        f"\nFiles that do not parse: {len(report['unparsed'])}",
        *report["unparsed"],
        f"\n{peak} at once at the peak",
        f"Parsed at once in {together:.1f} s, one after another in {alone:.1f} s",
        f"So at once was {alone / together:.2f} times as fast",
    ]
    if together > alone:
        lines.append("(too few files, a single core, or something else kept the cores busy)")
    return "\n".join(lines)


# Parsing keeps a core busy, so it runs in processes. The cpu lane runs no more of them than there
# are cores for this program; the limit is how many files are taken in hand for that.
parse_each = Step.map_over("parse", Step("file", parse, lane="cpu"), max_concurrency=256)
# The same work under a limit of 1: what it takes without anything at once.
parse_alone = Step.map_over(
    "one after another", Step("file", parse, lane="cpu"), items=paths, max_concurrency=1
)
# Each branch gets all files. Branches may be parallel steps themselves.
report = Step.parallel(
    "report", {"total": total, "longest": longest, "imported": imported, "unparsed": unparsed}
)
compare = Step.parallel(
    "compare", {"report": report, "together": speed, "alone": parse_alone}, timeout=None
)
census = Pipeline([Step("find", find), parse_each, compare, Step("table", table)], name="census")

if __name__ == "__main__":
    print(census.run_sync(None).unwrap())
