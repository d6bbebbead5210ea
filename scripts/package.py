#!/usr/bin/env python3
"""Build the package and try it: python3 scripts/package.py [3.12 ...] [--here].

It builds an sdist, and the wheel from it, into build/package. For each Python that is named, or
supported, the wheel is installed in an empty environment, with what it depends on, and used there;
in the first of them a user's file is checked by mypy and by pyright. What is not found is told.
--here tries the running Python only, and takes dependencies from beside it: no index is asked.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import _environment

SUPPORTED = ("3.11", "3.12", "3.13")
BESIDES = ("3.13t", "3.14", "3.14t")  # not promised: told if they are here, and tried if named
USER = """\
from anabranch import Pipeline, Step, WorkerPool

def size(text: str) -> int:
    return len(text)

pipeline = Step("size", size) >> Step("text", str)
found: str = pipeline.run_sync("abc").unwrap()
with WorkerPool() as pool:
    number: int = pool.submit(size, "abc").result()
"""
WRONG = "wrong: bytes = pipeline.run_sync('abc').unwrap()\n"


class FailedError(Exception):
    """A step of the trial failed; its message says which, and what it printed."""


def call(*argv: "str | Path", cwd: Path = _environment.ROOT, code: int = 0) -> str:
    """Run a program, and return what it printed.

    Raises:
        FailedError: it ended with another exit code than this one.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != code:
        raise FailedError(f"{' '.join(map(str, argv))}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def build(python: str, folder: Path) -> Path:
    """Build the sdist and, from it, the wheel; return the wheel."""
    shutil.rmtree(folder, ignore_errors=True)
    call(python, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    [sdist] = folder.glob("*.tar.gz")
    quiet = ("--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir")
    call(python, "-m", "pip", "wheel", *quiet, folder, sdist)
    [wheel] = folder.glob("*.whl")
    print(f"built     {sdist.name}, {wheel.name}", flush=True)
    return wheel


def found(version: str) -> "str | None":
    """Return the program of this version of Python, if it is here."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    pattern = f"versions/{version.removesuffix('t')}.*/bin/python"
    names = [f"python{version}", *map(str, sorted(kept.glob(pattern), reverse=True))]
    says = "import sys, sysconfig as s; print('%d.%d' % sys.version_info[:2]"
    says += " + ('t' if s.get_config_var('Py_GIL_DISABLED') else ''))"
    for name in names:
        try:
            if call(name, "-c", says).strip() == version:
                return name
        except (FailedError, OSError):
            continue  # a shim of what is not installed
    return None


def installed(python: str, wheel: Path, folder: Path, *, here: bool) -> Path:
    """Make an empty environment with the wheel in it; return its Python."""
    call(python, "-m", "venv", folder / "env")
    inside = folder / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if here:
        where = "import sysconfig; print(sysconfig.get_path('purelib'))"
        beside = call(python, "-c", where).strip()  # an editable install there is not seen by this
        into = Path(call(inside, "-c", where).strip())
        (into / "beside.pth").write_text(beside + "\n", encoding="utf-8")
    options = ("--quiet", "--no-input", *(("--no-deps",) if here else ()))
    call(inside, "-m", "pip", "install", *options, wheel)
    return inside


def check_types(checker: str, inside: Path, folder: Path) -> None:
    """Check a user's program, right and wrong, against what is installed."""
    for name, text, code in (("right", USER, 0), ("wrong", USER + WRONG, 1)):
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
        options = ["--pythonpath", str(inside)]
        if checker == "mypy":
            options = ["--strict", "--config-file=", f"--python-executable={inside}"]
        says = call(_environment.program(checker), *options, f"{name}.py", cwd=folder, code=code)
        line = str((USER + WRONG).count("\n"))
        if code and not (f"{name}.py:{line}" in says and says.count("error:") == 1):
            raise FailedError(f"{checker} says of the wrong line {line}:\n{says}")
        if "error:" in says and not code:
            raise FailedError(f"{checker} says of a program that is right:\n{says}")


def attempt(version: str, python: str, wheel: Path, *, here: bool, types: bool) -> bool:
    """Try the wheel in one Python, tell how it went in a line, and return whether it works."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            inside = installed(python, wheel, folder, here=here)
            smoke = shutil.copy(Path(__file__).with_name("_smoke.py"), folder)
            done = [call(inside, "-W", "error", smoke, cwd=folder).strip()]
            if types:
                check_types("mypy", inside, folder)
                done.append("mypy agrees")
                pyright = shutil.which("node") is not None
                if pyright:
                    check_types("pyright", inside, folder)
                done.append("pyright agrees" if pyright else "pyright not run: there is no node")
        except FailedError as error:
            print(f"{version:<10}FAILED: {error}", flush=True)
            return False
        print(f"{version:<10}{', '.join(done)}", flush=True)
        return True


def main() -> int:
    """Build, try, and return the exit code."""
    args = _environment.passed_on(__doc__)
    here = args == ["--here"]
    wanted = [] if here else args or [*SUPPORTED]
    unknown = set(wanted) - {*SUPPORTED, *BESIDES}
    if unknown:
        sys.exit(f"{', '.join(unknown)}: not known; name some of {', '.join(SUPPORTED + BESIDES)}")
    if not here:
        _environment.prepare()
    python = sys.executable if here else _environment.program("python")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if here else _environment.ROOT / "build" / "package"
        try:
            wheel = build(python, folder)
        except FailedError as error:
            sys.exit(f"build     FAILED: {error}")
        pythons = {"here": python} if here else {version: found(version) for version in wanted}
        works, first = [], True
        for version, program in pythons.items():
            if program is None:
                print(f"{version:<10}not run: it is not here", flush=True)
                continue
            works.append(attempt(version, program, wheel, here=here, types=first))
            first = False
    if not args:
        spare = [version for version in BESIDES if found(version) is not None]
        print(f"not tried, and here: {', '.join(spare) or 'none'} of {', '.join(BESIDES)}")
    return 0 if works and all(works) else 1


if __name__ == "__main__":
    sys.exit(main())
