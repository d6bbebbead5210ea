"""What notices a planted bug: a test that fails with it and passes without it, and which one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import _noticing
from scripts._noticing import Notice, Ran, Watch, last_begun, run

pytestmark = pytest.mark.slow  # each runs pytest, in a process

SOUND = "def test_sound():\n    assert open('bug').read() == 'no'\n"
BROKEN = "def test_broken():\n    assert False\n"
FORGETFUL = "def test_forgetful():\n    assert True\n"


OPTIONS = """
def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true")
    parser.addoption("--hypothesis-seed")
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start pytest without the plugins that the small trees need not: in half the time."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


class Tree:
    """A tree with a file that is the bug, and some tests."""

    def __init__(self, root: Path, **tests: str) -> None:
        self.root = root
        (root / "tests").mkdir()
        (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
        (root / "conftest.py").write_text(OPTIONS)
        for name, text in tests.items():
            (root / "tests" / f"test_{name}.py").write_text(text)
        self.put(False)

    def put(self, there: bool) -> None:
        (self.root / "bug").write_text("yes" if there else "no")

    def first_notice(self, *mirror: str) -> Notice | None:
        watch = Watch(self.root, self.put, near=60.0, far=60.0)
        return watch.first_notice([f"tests/test_{name}.py" for name in mirror])


def test_the_test_that_fails_is_named_and_the_bug_is_taken_out(tmp_path: Path) -> None:
    tree = Tree(tmp_path, sound=SOUND)
    assert tree.first_notice("sound") == Notice("tests/test_sound.py::test_sound", "failed")
    assert (tmp_path / "bug").read_text() == "no"


def test_a_test_that_fails_without_the_bug_too_has_noticed_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, broken=BROKEN)
    assert tree.first_notice("broken") is None


def test_behind_a_broken_test_the_others_are_asked(tmp_path: Path) -> None:
    tree = Tree(tmp_path, both=BROKEN + SOUND)
    assert tree.first_notice("both") == Notice("tests/test_both.py::test_sound", "failed")


def test_what_the_near_tests_miss_a_far_one_may_notice(tmp_path: Path) -> None:
    tree = Tree(tmp_path, forgetful=FORGETFUL, sound=SOUND)
    assert tree.first_notice("forgetful") == Notice("tests/test_sound.py::test_sound", "failed")


HANGS = "import time\ndef test_ends():\n    pass\ndef test_hangs():\n    time.sleep(60)\n"


def test_the_test_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_noticing, "HANGS_AFTER", 1.0)
    Tree(tmp_path, hangs=HANGS)
    ran = run(tmp_path, ["tests/test_hangs.py"], 60.0)
    assert ran.notice() == Notice("tests/test_hangs.py::test_hangs", "hung")


def test_tests_whose_time_is_up_have_noticed_nothing(tmp_path: Path) -> None:
    Tree(tmp_path, hangs=HANGS)
    ran = run(tmp_path, ["tests/test_hangs.py"], 3.0)
    assert ran.code is None
    assert ran.notice() is None


def test_a_hang_that_pytest_itself_has_ended_is_one() -> None:
    output = "tests/a.py::test_b PASSED [ 50%]\ntests/a.py::test_c Timeout (0:00:30)!\nThread 0x1"
    assert Ran(1, output).notice() == Notice("tests/a.py::test_c", "hung")


def test_a_parameter_with_blanks_is_a_part_of_the_name() -> None:
    lines = ["tests/a.py::test_b[x y] PASSED [ 50%]", "tests/a.py::test_c[x y] "]
    assert last_begun(lines) == "tests/a.py::test_c[x y]"


def test_what_cannot_even_be_collected_is_noticed(tmp_path: Path) -> None:
    tree = Tree(
        tmp_path, import_="if open('bug').read() == 'yes':\n    raise OSError\n" + FORGETFUL
    )
    assert tree.first_notice("import_") == Notice("tests/test_import_.py", "failed")
