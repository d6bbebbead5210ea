"""The tutorial, followed to the letter: its programs print what stands under them."""

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs/tutorial.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# A program, or a command over the program before it; and what stands under it.
SAID = [
    (next(text for kind, text in reversed(FENCED[: number + 1]) if kind == "python"), block, said)
    for number, (block, (kind, said)) in enumerate(pairwise(FENCED))
    if kind == "text"
]


def arguments(kind: str, text: str) -> list[str]:
    if kind == "python":
        return ["flow.py"]
    program, *words = shlex.split(text)
    assert program == "tour/bin/anabranch"
    return ["-m", "anabranch", *words]


def test_every_program_of_the_tutorial_says_what_it_prints():
    kinds = [kind for kind, _ in FENCED]
    assert kinds.count("python") >= 6
    assert {after for kind, after in pairwise(kinds) if kind == "python"} == {"text"}


@pytest.mark.slow
@pytest.mark.parametrize("step", SAID, ids=[str(number) for number in range(len(SAID))])
def test_who_follows_the_tutorial_gets_what_it_prints(step, tmp_path):
    program, block, said = step
    (tmp_path / "flow.py").write_text(program, encoding="utf-8")
    argv = [sys.executable, "-W", "error", *arguments(*block)]
    done = subprocess.run(
        argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == said
