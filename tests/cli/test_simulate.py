"""`anabranch simulate` prints a table, draws, and says what is wrong."""

from __future__ import annotations

import io
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from anabranch._terminal import counted_on_stderr
from anabranch.cli import _simulate
from anabranch.cli._app import main
from anabranch.cli._simulate import law_named, seeds_of
from anabranch.controllers import Fixed, Weir
from tests.cli.shell import shell


def test_one_controller_gets_all_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--controller", "fixed-4", "--scenario", "few-of-30s"]
    assert main(["simulate", *options]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["of", "best"]
    assert row.split()[:3] == ["few-of-30s", "1.00", "0"]


@pytest.mark.slow
def test_several_controllers_stand_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    laws = ["--controller", "fixed-10", "--controller", "fixed-100"]
    assert main(["simulate", *laws, "--scenario", "herd", "--seeds", "1,2"]) == 0
    head, row, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["fixed-10", "fixed-100"]
    assert row.endswith(" K")


@pytest.mark.slow
@pytest.mark.real_clock
def test_with_json_each_play_is_a_line(tmp_path: Path) -> None:
    options = ["--controller", "fixed-2", "--scenario", "drawn", "--seeds", "3-4", "--json"]
    done = shell("simulate", *options, cwd=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [(line["scenario"], line["seed"]) for line in lines]
    assert names == [("drawn-3", 3), ("drawn-4", 4)]
    assert all(len(line["moments"]) >= 60 for line in lines)


def test_a_play_is_drawn(tmp_path: Path) -> None:
    file = tmp_path / "knee.svg"
    options = ["--controller", "fixed-8", "--scenario", "bursts", "--plot", str(file)]
    assert main(["simulate", *options]) == 0
    assert ET.parse(file).getroot().tag.endswith("svg")


WRONG = {
    "--scenario kne": "did you mean knee?",
    "--controller wier": "did you mean 'weir'?",
    "--controller fixed-0": "limit",
    "--scenario knee --seeds 1,x": "'x' is no seed",
    "--scenario knee --seeds 9-1": "in order",
    "--scenario knee --seeds 0-99999999999": "in order",
    "--plot x.svg": "--plot draws one scenario",
    "--sceanrio knee": "--scenario",
}


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_wrong_usage_is_one_line_that_says_what_to_do(
    options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert WRONG[options] in err


def test_a_file_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "no" / "x.svg")
    assert main(["simulate", "--scenario", "herd", "--plot", file]) == 1
    assert f"{file} cannot be written: No such file" in capsys.readouterr().err


def test_ctrl_c_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_simulate, "simulate", interrupted)
    assert main(["simulate", "--scenario", "herd"]) == 130
    assert capsys.readouterr().err == "anabranch: interrupted\n"


class Terminal(io.StringIO):
    """Be looked at by a person."""

    def isatty(self) -> bool:
        return True


def test_a_person_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("TERM", "xterm")
    items = ["one", "\x1b[2Jtwo"]
    assert list(counted_on_stderr(items, str)) == items
    assert "2 of 2: " in seen.getvalue()
    assert "\x1b[2J" not in seen.getvalue()


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("3,1,3", (3, 1)), ("0, 4-6", (0, 4, 5, 6)), ("7-7", (7,))]
)
def test_seeds_are_read(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_of(text) == seeds


def test_laws_are_named() -> None:
    assert law_named("fixed-20") == Fixed(20)
    assert law_named("weir") == Weir()


@pytest.mark.slow
@pytest.mark.real_clock
def test_the_program_does_it(tmp_path: Path) -> None:
    done = shell("simulate", "--scenario", "herd", "--controller", "fixed-10", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("      of best")
