"""Find CPython's own tests of executors, and run them: python -m tests.workerpool.cpython.

They are no part of this repository: they are run from the first place that has them, and by the
Python that they belong to. `--from DIR` names a folder that holds Python's `test` package.
Exit code 0: all passed; 1: some did not; 77: no place has them, and nothing was run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

SKIPPED = 77  # what automake and meson take for a test that could not be run
PACKAGE = "test_concurrent_futures"
LIBRARIES = (  # where Pythons are installed, the Debian package libpython3-testsuite among them
    "/usr/local/lib/python3.*",
    "/opt/python*/lib/python3.*",
    "/usr/lib/python3.*",
    "/usr/lib64/python3.*",
    "/Library/Frameworks/Python.framework/Versions/3.*/lib/python3.*",
)
ROOT = Path(__file__).resolve().parent.parent.parent.parent
RUNNER = Path(__file__).with_name("runner.py")


def places(named: Path | None) -> Iterator[Path]:
    """Yield the folders that may hold the tests, the first to be taken first."""
    if named is not None:
        yield named
        return
    yield Path(os.__file__).parent
    beside = Path(sys.base_prefix).parent
    others = sorted(beside.glob("*/lib/python3.*"))
    for pattern in LIBRARIES:
        others += sorted(Path("/").glob(pattern.lstrip("/")))
    yield from sorted(others, key=_distance)


def _distance(library: Path) -> int:
    """Rank other Pythons: the nearest version first, an older one after a newer one."""
    minor = library.name.removeprefix("python3.")
    if not minor.isdigit():
        return 100
    further = int(minor) - sys.version_info.minor
    return further if further >= 0 else 50 - further


def has_tests(library: Path) -> bool:
    """Tell whether a folder holds the tests, and what they need."""
    tests = library / "test"
    found = (tests / PACKAGE).is_dir() or (tests / f"{PACKAGE}.py").is_file()
    return found and (tests / "support").is_dir()


def python_of(library: Path) -> Path | None:
    """Return the Python whose library a folder is, None if there is none that we can use."""
    python = library.parent.parent / "bin" / library.name
    if library.resolve() == Path(os.__file__).parent.resolve():
        return Path(sys.executable)
    minor = library.name.removeprefix("python3.")
    if not minor.isdigit():
        return Path(sys.executable)  # a folder that somebody named: its tests, with this Python
    return python if int(minor) >= 11 and python.is_file() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Find the tests, run them, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="named", type=Path, metavar="DIR", help="holds test/")
    parser.add_argument("--list", action="store_true", help="name what is left out, and why")
    args = parser.parse_args(argv)
    for library in places(args.named):
        python = python_of(library) if has_tests(library) else None
        if python is None:
            continue
        print(f"tests of {library / 'test'}, run by {python}", flush=True)
        # Ours and what we need is plain Python, or built for any version from ours on.
        packages = [str(ROOT / "src"), *[each for each in sys.path if "site-" in each]]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(packages)}
        options = ["--list"] if args.list else []
        command = [str(python), str(RUNNER), str(library), *options]
        return subprocess.run(command, env=environment, check=False).returncode
    where = str(args.named or "any Python that was found here")
    print(
        f"SKIPPED: {where} has no test.{PACKAGE}; nothing was run. Name a folder that holds it "
        f"with --from, or install it (Debian: libpython3-testsuite).",
        file=sys.stderr,
    )
    return SKIPPED


if __name__ == "__main__":
    sys.exit(main())
