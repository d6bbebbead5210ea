"""The list of faults: forty numbers, each with a test here and a row in the docs."""

import re
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/explanation/faults.md"
ALL = set(range(1, 41))


def numbers_here():
    """Map each number to the files that have tests of it."""
    found = defaultdict(set)
    for file in HERE.glob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        for number in re.findall(r"^(?:async )?def test_fault_(\d\d)_\w+\(", text, re.MULTILINE):
            found[int(number)].add(file.name)
    return dict(found)


def rows():
    """Map each number to the cells of its row in the docs."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {int(row[0]): row[1:] for row in cells if row[0].isdecimal()}


def test_all_forty_are_here():
    assert set(numbers_here()) == ALL


def test_every_fault_has_a_row_in_the_docs_with_what_is_done_and_where_it_is_tested():
    assert list(rows()) == sorted(ALL)
    for number, (fault, done, tests) in rows().items():
        assert fault, number
        assert done, number
        assert set(re.findall(r"`(\w+\.py)`", tests)) == numbers_here()[number], number


def test_each_file_names_its_faults_in_its_docstring():
    for file in HERE.glob("test_*.py"):
        text = file.read_text(encoding="utf-8")
        told = set(map(int, re.findall(r"\d+", text.split('"""')[1])))
        own = {number for number, files in numbers_here().items() if file.name in files}
        assert own <= told or not own, file.name
