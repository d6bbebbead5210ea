"""What `scripts/test.py` adds to the arguments of pytest: processes, and what --fast leaves out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
CORES = 5
SHARED = ["-n", "6", "--dist", "worksteal"]
FAST = ["-n", "auto", "--dist", "worksteal"]
QUICK = ["-m", "drawn or not slow"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    spec = importlib.util.spec_from_file_location("run_tests", SCRIPTS / "test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "cores", lambda: CORES)
    return module


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ("", SHARED),
        ("-rs --no-header --maxfail=2 -x tests/test_glob.py", SHARED),
        ("--fast", [*FAST, *QUICK]),
        ("--fast -m slow", FAST),
        ("--fast -n0", QUICK),
        ("-n 4", []),
        ("--dist=loadfile -n2", []),
        ("-p no:xdist", []),
        ("-s", []),
        ("-xvs", []),
        ("--pdb", []),
        ("--capture=no", []),
    ],
)
def test_what_was_asked_for_stands_and_the_rest_is_added(
    script: ModuleType, given: str, added: list[str]
) -> None:
    assert script.pytest_arguments(given.split()) == [*added, *given.split()]
