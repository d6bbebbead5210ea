"""FILE[:name] is found, or the message says what is there instead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch import Pipeline
from anabranch.cli._load import UserCodeError, WrongUsageError, load, split
from tests.cli.shell import write

PIPES = "from anabranch import Pipeline, Step\n"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.setitem(vars(sys.modules["__main__"]), "__file__", __file__)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "file", "name"),
    [
        ("flow.py", "flow.py", None),
        ("flow.py:main", "flow.py", "main"),
        (r"C:\x.py", r"C:\x.py", None),
        (r"C:\x.py:main", r"C:\x.py", "main"),
        ("C:/x.py:main", "C:/x.py", "main"),
        ("C:x.py", "C:x.py", None),
        ("a:b/flow.py", "a:b/flow.py", None),
    ],
)
def test_a_target_is_a_file_and_perhaps_a_name(target: str, file: str, name: str | None) -> None:
    assert split(target) == (file, name)


@pytest.mark.parametrize("target", ["flow.py:", "flow.py:1x", "flow.py:a-b", "flow.py:a.b"])
def test_what_follows_the_colon_must_be_a_name(target: str) -> None:
    with pytest.raises(WrongUsageError, match="is no name"):
        split(target)


def test_the_only_pipeline_needs_no_name(tmp_path: Path) -> None:
    file = write(tmp_path, PIPES + "_hidden = Pipeline([len])\nmain = same = Pipeline([str])")
    assert "str" in repr(load(str(file)))


def test_an_imported_pipeline_counts_only_if_there_is_no_own(tmp_path: Path) -> None:
    write(tmp_path, PIPES + "theirs = Pipeline([len], name='theirs')", "lib_of_flow.py")
    both = write(
        tmp_path, PIPES + "from lib_of_flow import theirs\nown = Pipeline([str], name='own')"
    )
    only = write(tmp_path, "from lib_of_flow import *", "only_flow.py")
    assert load(str(both)).name == "own"
    assert load(str(only)).name == "theirs"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("it = Step('a', len)", "it"),
        ("it = Step.parallel('a', {'b': len})", "it"),
        ("it = Step.map_over('a', len)", "it"),
        ("def it(): return Pipeline([len])", "it"),
        ("def it(n=1): return Step('a', len)", "it"),
    ],
)
def test_a_name_may_mean_a_step_or_a_function_that_returns_one(
    tmp_path: Path, line: str, name: str
) -> None:
    assert isinstance(load(f"{write(tmp_path, PIPES + line)}:{name}"), Pipeline)


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (
            "a = Pipeline([len])\nb = Pipeline([str])",
            "",
            r"has 2 pipelines.*flow\.py:a, flow\.py:b",
        ),
        ("step = Step('a', len)", "", r"has no Pipeline.*name a step: flow\.py:step"),
        ("x = 1", "", "has no Pipeline.*give it one"),
        ("main = Pipeline([len])", ":mian", r"has no 'mian'; did you mean flow\.py:main"),
        ("main = 1", ":main", r"flow\.py:main is 1 \(int\); give a Pipeline"),
        (
            "class A:\n    def __repr__(self): 1 / 0\nmain = A()",
            ":main",
            r"flow\.py:main is <A, whose repr raises ZeroDivisionError> \(A\); give a Pipeline",
        ),
        ("def main(x): pass", ":main", "cannot be called without arguments"),
        ("async def main(): pass", ":main", "is an async function"),
        ("def main(): pass", ":main", r"is None \(NoneType\)"),
        ("import sys\nsys.exit(3)", "", r"flow\.py:3: it called sys\.exit\(3\)"),
        ("Pipeline([])", "", r"flow\.py:2: Pipeline: it has no steps"),
        ("Step.parallel({'a': len}, max_concurrency=0)", "", r"flow\.py:2: .*max_concurrency=0"),
        ("Step('a', len, tiemout=3)", "", r"flow\.py:2: .*'timeout'"),
    ],
)
def test_a_mistake_is_told_in_one_message(tmp_path: Path, text: str, name: str, says: str) -> None:
    with pytest.raises(WrongUsageError, match=says):
        load(f"{write(tmp_path, PIPES + text)}{name}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ast.py", "would hide the module 'ast'"),
        ("anyio.py", "would hide the module 'anyio'"),
        ("hypothesis.py", "would hide the module 'hypothesis'"),
        ("__main__.py", "would hide"),
        ("test.py", "would hide the module 'test'"),
        ("my-flow.py", "cannot be imported"),
        ("flow.txt", "is no .py file"),
    ],
)
def test_a_file_that_cannot_be_a_module_is_refused(tmp_path: Path, name: str, says: str) -> None:
    before = sys.modules.get(Path(name).stem)
    with pytest.raises(WrongUsageError, match=says):
        load(str(write(tmp_path, PIPES + "main = Pipeline([len])", name)))
    assert sys.modules.get(Path(name).stem) is before


def test_a_missing_file_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(WrongUsageError, match=r"there is no file .*did you mean .*flow\.py"):
        load(str(tmp_path / "flwo.py"))
    with pytest.raises(WrongUsageError, match="there is no file"):
        load(str(tmp_path / "nowhere" / "flow.py"))
    with pytest.raises(WrongUsageError, match=r"is no \.py file"):
        load(str(tmp_path))
    (tmp_path / "a_folder.py").mkdir()
    with pytest.raises(WrongUsageError, match=r"is no \.py file"):
        load(str(tmp_path / "a_folder.py"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither links nor pipes there")
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "gone")
    with pytest.raises(WrongUsageError, match=r"there is no file .*nowhere\.py$"):
        load(str(tmp_path / "nowhere.py"))
    os.mkfifo(tmp_path / "pipe.py")  # opening one waits for ever
    with pytest.raises(WrongUsageError, match=r"is no \.py file"):
        load(str(tmp_path / "pipe.py"))


def test_a_file_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, PIPES + "main = Pipeline([len])")

    def refuses(*_: object, **__: object) -> None:  # the tests may be run by root, who may read all
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuses)
    with pytest.raises(WrongUsageError, match=r"flow\.py cannot be read: Permission denied"):
        load(str(file))


@pytest.mark.parametrize(
    "text", [b'x = "\xff\xfe"', b"x = 1\0", b"# coding: nonsense\nx = 1", b"\xff\xfe"]
)
def test_a_file_that_is_no_utf_8_is_the_users_own_error(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "flow.py").write_bytes(text)
    with pytest.raises(UserCodeError) as caught:
        load(str(tmp_path / "flow.py"))
    assert isinstance(caught.value.__cause__, SyntaxError)


@pytest.mark.parametrize(
    "line",
    [
        "1 / 0",
        "import no_such_module",
        "def f(:",
        "raise OSError",
        "raise BaseException",
        "raise KeyboardInterrupt",
    ],
)
def test_what_the_file_raises_is_kept_as_the_users_own(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserCodeError) as caught:
        load(str(write(tmp_path, line)))
    assert caught.value.__cause__ is not None


def test_the_guarded_part_of_a_file_does_not_run(tmp_path: Path) -> None:
    text = PIPES + "main = Pipeline([len])\nif __name__ == '__main__': raise SystemExit(9)"
    assert load(str(write(tmp_path, text)))
