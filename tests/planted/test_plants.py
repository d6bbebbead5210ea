"""The planted bugs can be planted: each text stands where its table says, and tests are near it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from scripts import _plants

ROOT = Path(__file__).resolve().parents[2]
PLANTS = _plants.plants(ROOT)
SOME = 60
FLOORS = {"core", "edges", "facades", "lanes", "load"}


def plant(**changes: object) -> _plants.Plant:
    found = _plants.Plant("core", "a-bug", "_queue.py", "a < b", "a <= b", "Off by one.")
    return attrs.evolve(found, **changes)


@pytest.mark.slow  # it parses a file for each
def test_every_bug_can_be_planted_and_is_a_change() -> None:
    wrong = []
    for each in PLANTS:
        text = (ROOT / each.path).read_text(encoding="utf-8")
        try:
            if each.planted(text) == text:
                wrong.append(f"{each.name} changes nothing")
        except _plants.PlantError as error:
            wrong.append(str(error))
    assert not wrong, "\n" + "\n".join(wrong)


def test_some_tests_are_about_the_file_of_each_bug() -> None:
    mirrors = {each.file: each.mirror(ROOT) for each in PLANTS}
    assert [file for file, mirror in mirrors.items() if not mirror] == []
    named = {name for mirror in mirrors.values() for name in mirror}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_bugs_are_planted_on_all_floors() -> None:
    assert len(PLANTS) >= SOME
    assert {plant.table for plant in PLANTS} == FLOORS


@pytest.mark.parametrize("text", ["", "a < b and a < b"])
def test_a_text_that_does_not_stand_there_once_is_refused(text: str) -> None:
    with pytest.raises(_plants.PlantError, match=r"core.toml: a-bug: .* not once; bring"):
        plant().planted(text)


def test_a_bug_that_is_no_python_is_refused() -> None:
    with pytest.raises(_plants.PlantError, match="mend `after`"):
        plant(after="a <").planted("a < b")


def test_the_tests_of_a_family_mirror_its_file() -> None:
    found = plant(file="pipeline/_merge.py").mirror(ROOT)
    assert "tests/pipeline/test_merge.py" in found
    assert "tests/pipeline/test_merge_fold.py" in found


def test_a_table_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / _plants.TABLES).mkdir(parents=True)
    (tmp_path / _plants.TABLES / "core.toml").write_text('[[plant]]\nname = "x"\nfiel = "y"\n')
    with pytest.raises(_plants.PlantError, match="fiel"):
        _plants.plants(tmp_path)


@pytest.mark.slow
def test_a_copy_holds_what_the_tests_need_and_is_apart(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    _plants.copy_tree(ROOT, copy)
    _plants.write(copy / "src/anabranch/_queue.py", "x = 1\n")
    assert (copy / "pyproject.toml").exists()
    assert (ROOT / "src/anabranch/_queue.py").read_text() != "x = 1\n"
