"""Run the tests of executors of one Python on WorkerPool, by that Python: runner.py LIBRARY.

Each of CPython's test classes for ThreadPoolExecutor is taken, with WorkerPool in its place.
Left out by rule are tests that read a private attribute, pass ``initializer``, or name
ThreadPoolExecutor: they test how it is made, or itself. A class whose ``setUp`` does so is left
out as a whole. Nothing of the tests is changed but what their child processes import first.
"""

from __future__ import annotations

import ast
import concurrent.futures
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import textwrap
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from anabranch import WorkerPool

PACKAGE = "test.test_concurrent_futures"
# What a child process of a test does first: -I forgets PYTHONPATH, and it imports us by name.
PRELUDE = """\
import sys
sys.path[:0] = {path!r}
import concurrent.futures, anabranch
concurrent.futures.WorkerPool = anabranch.WorkerPool
"""


def graft(library: Path) -> None:
    """Have ``test`` mean the package of another folder than this Python's own."""
    init = library / "test" / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        "test", init, submodule_search_locations=[str(init.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["test"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def modules() -> Iterator[ModuleType]:
    """Import the tests: one module up to Python 3.11, a package of them since."""
    first = importlib.import_module(PACKAGE)
    yield first
    for found in pkgutil.iter_modules(getattr(first, "__path__", [])):
        if found.name.startswith("test_") and "process" not in found.name:
            yield importlib.import_module(f"{PACKAGE}.{found.name}")


def why_not(function: Any) -> str:
    """Say by which rule a test is left out; empty if it is run."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()) if is_private(name):
                return f"reads {name}"
            case ast.Name(id="ThreadPoolExecutor") | ast.Attribute(attr="ThreadPoolExecutor"):
                return "names ThreadPoolExecutor"
            case ast.Constant(value=str(text)) if "ThreadPoolExecutor" in text:
                return "names ThreadPoolExecutor"
            case ast.keyword(arg="initializer") | ast.Constant(value="initializer"):
                return "passes initializer"
    return ""


def is_private(name: str) -> bool:
    """Tell whether a name is private, and not Python's own."""
    return name.startswith("_") and not name.startswith("__")


def on_our_pool(case: type[unittest.TestCase], left_out: dict[str, str]) -> type | None:
    """Make a test case with WorkerPool as its executor, less what is left out by rule."""
    names = unittest.TestLoader().getTestCaseNames(case)
    set_up = why_not(case.setUp)
    members: dict[str, Any] = {"executor_type": WorkerPool, "__module__": case.__module__}
    for name in names:
        reason = set_up or why_not(getattr(case, name))
        if reason:
            left_out[f"{case.__name__}.{name}"] = reason
            members[name] = None
    if all(name in members for name in names):
        return None
    return type(case.__name__.replace("ThreadPool", "WorkerPool"), (case,), members)


def cases(module: ModuleType) -> Iterator[type[unittest.TestCase]]:
    """Find the cases that test ThreadPoolExecutor through their ``executor``."""
    for value in list(vars(module).values()):
        if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
            continue
        if getattr(value, "executor_type", None) is concurrent.futures.ThreadPoolExecutor:
            yield value


def with_prelude(run: Callable[..., Any]) -> Callable[..., Any]:
    """Let the code of a child process import WorkerPool from concurrent.futures."""

    def run_with_prelude(*args: str, **options: Any) -> Any:
        before = PRELUDE.format(path=[each for each in sys.path if each])
        if args[:1] == ("-c",):
            args = ("-c", before + args[1], *args[2:])
        return run(*args, **options)

    return run_with_prelude


def main(library: Path, *, lists: bool) -> int:
    """Run all tests that the rule does not leave out; return the exit code."""
    sys.path.pop(0)  # the folder of this file
    if importlib.util.find_spec(PACKAGE) is None:
        graft(library)
    suite, left_out, seen = unittest.TestSuite(), {}, set()
    for module in modules():
        if hasattr(module, "assert_python_ok"):
            module.assert_python_ok = with_prelude(module.assert_python_ok)
        for case in cases(module):
            ours = on_our_pool(case, left_out) if case not in seen else None
            seen.add(case)
            if ours is not None:
                suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(ours))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if lists:
        print(*[f"left out: {name}: {why}" for name, why in left_out.items()], sep="\n")
    bad = len(result.failures) + len(result.errors)
    print(
        f"{result.testsRun - bad - len(result.skipped)} passed, {bad} failed, "
        f"{len(result.skipped)} skipped by themselves, {len(left_out)} left out by rule"
    )
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), lists="--list" in sys.argv))
