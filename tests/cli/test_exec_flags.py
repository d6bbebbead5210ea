"""Our flags end where the command begins; templates, values and input are read as they should."""

from __future__ import annotations

import math
import os
import random
import shlex
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.cli import _exec_terms as read
from anabranch.cli._exec_flags import split
from anabranch.cli._exec_input import Reading, Rows, sources_in
from anabranch.cli._exec_results import LONGEST, name_for
from anabranch.cli._exec_template import Template
from anabranch.cli._load import WrongUsageError


@pytest.mark.parametrize(
    ("line", "flags", "rest"),
    [
        ("-j4 ls -k {} ::: a", "--jobs=4", "ls -k {} ::: a"),
        ("-kj4 --tag ls", "--keep-order --jobs=4 --tag", "ls"),
        ("-k0j 4 ls", "--keep-order --null --jobs=4", "ls"),
        ("-j -1 ls -1", "--jobs=-1", "ls -1"),
        ("-j+2 --jobs=3 ls", "--jobs=3", "ls"),
        ("-a one -atwo ls", "--arg-file=one --arg-file=two", "ls"),
        ("--halt now,fail=1 -- -odd ::: a", "--halt=now,fail=1", "-odd ::: a"),
        ("--colsep '' ls", "--colsep=", "ls"),
        ("- a", "", "- a"),
        ("::: -k -j4", "", "::: -k -j4"),
        ("", "", ""),
        ("--dryrun --max-procs 2 ls --help", "--dry-run --jobs=2", "ls --help"),
        ("-n2 -C, ls", "--max-args=2 --colsep=,", "ls"),
    ],
)
def test_our_flags_end_at_the_first_word_that_is_none(line: str, flags: str, rest: str) -> None:
    assert split(shlex.split(line)) == (shlex.split(flags), shlex.split(rest))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--nosuch ls", "no flag --nosuch"),
        ("--job 4 ls", "did you mean --jobs"),
        ("-kz ls", "no flag -z (in -kz)"),
        ("-j", "needs a value"),
        ("--halt", "needs a value"),
        ("--tag=yes ls", "takes no value"),
        ("--pipe cat", "--pipe is not offered: arguments go to commands"),
        ("-X echo", "-X is not offered"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_refused(line: str, words: str) -> None:
    with pytest.raises(WrongUsageError) as refused:
        split(shlex.split(line))
    assert words in str(refused.value)


def test_values_are_read() -> None:
    assert read.jobs("auto", 4) is None
    assert read.jobs("50%", 5) == read.Amount(2)
    assert read.jobs("1%", 0.5) == read.Amount(1)
    assert read.jobs("+2", 4) == read.Amount(6)
    assert read.jobs("-9", 4) == read.Amount(1)
    assert read.jobs("0", 4) == read.Amount(math.inf)
    assert read.size("memfree", "1.5G") == 1.5 * 1024**3
    assert read.duration("timeout", "2m") == read.Amount(120)
    assert read.duration("timeout", "150%") == read.Amount(150, percent=True)
    assert read.halt("soon,done=50%") == read.HaltRule(
        "soon", "done", read.Amount(50, percent=True)
    )
    assert read.halt("2") == read.HaltRule("now", "fail", read.Amount(1))
    assert read.halt("never") is None


@pytest.mark.parametrize("text", ["", "nan", "inf", "-3", "1e3", "0x4", "4 4", "%", "²", "1.5"])
def test_numbers_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(WrongUsageError):
        read.whole("retries", text, 1)
    if text != "-3":
        with pytest.raises(WrongUsageError):
            read.jobs(text, 4)
    if text != "1.5":
        for reads in (read.duration, read.size, read.amount):
            with pytest.raises(WrongUsageError):
                reads("timeout", text)
    with pytest.raises(WrongUsageError):
        read.halt(f"now,fail={text}")


def rows(sources: list[list[str]], reading: Reading | None = None) -> list[tuple[str, ...]]:
    return list(iter(Rows(sources, reading or Reading()).next, None))


def test_a_file_of_ten_million_lines_is_read_as_it_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "many"
    with file.open("wb") as out:
        out.truncate(100_000_000)
        out.write(b"first\nsecond\n")
    source = Rows([["::::", str(file)]], Reading())
    assert source.next() == ("first",)
    assert source.total is None
    source.close()


def test_a_line_is_given_as_soon_as_it_has_come() -> None:
    reader, writer = os.pipe()
    source = Rows([["::::", f"/dev/fd/{reader}"]], Reading())
    os.write(writer, b"a\nb")
    assert source.next() == ("a",)
    late = threading.Timer(0.05, lambda: (os.write(writer, b"c\n"), os.close(writer)))
    late.start()
    assert source.next() == ("bc",)
    assert source.next() is None
    late.join()
    os.close(reader)
    assert source.total == 2


@pytest.mark.slow
@given(
    st.lists(st.lists(st.text("ab", max_size=2), max_size=4), min_size=1, max_size=4),
    st.integers(1, 3),
)
def test_rows_are_every_combination_in_order_and_their_number_is_known(
    lists: list[list[str]], size: int
) -> None:
    expected: list[tuple[str, ...]] = [()]
    for args in lists:
        expected = [(*row, arg) for row in expected for arg in args]
    grouped = [
        tuple(arg for row in expected[place : place + size] for arg in row)
        for place in range(0, len(expected), size)
    ]
    source = Rows([[":::", *args] for args in lists], Reading(size=size))
    assert source.total == len(grouped)
    assert list(iter(source.next, None)) == grouped
    again = Rows([[":::", *args] for args in lists], Reading(size=size))
    again.read_all()
    assert again.total == len(grouped)
    assert list(iter(again.next, None)) == grouped


def test_sources_are_parted_from_the_command() -> None:
    assert sources_in(["ls", "-k", ":::", "a", ":::", "::::", "f", "g"]) == (
        ["ls", "-k"],
        [[":::", "a"], [":::"], ["::::", "f"], ["::::", "g"]],
    )
    assert sources_in(["ls"]) == (["ls"], [])
    with pytest.raises(WrongUsageError, match="names no file"):
        sources_in(["ls", "::::"])
    with pytest.raises(WrongUsageError, match="read once"):
        rows([["::::", "-"], ["::::", "-"]])


@given(st.text(min_size=0, max_size=300))
def test_the_folder_of_an_argument_is_one_name_that_leads_nowhere_else(arg: str) -> None:
    name = name_for(arg)
    assert "/" not in name
    assert "\0" not in name
    assert name.strip(".")
    assert len(os.fsencode(name)) <= LONGEST + 40


def test_different_arguments_have_different_folders() -> None:
    args = ["", ".", "..", "\\.", "\\", "a/b", "a\\_b", "a\\b", "x" * 300, "x" * 301, "\t", "\\t"]
    assert len({name_for(arg) for arg in args}) == len(args)


QUOTES = [
    "{}",
    '"{}"',
    "'{}'",
    '"a $(printf %s {}) b"',
    '"$(printf %s "{}")"',
    'a\\"{}',
    "$(echo '{}')",
]


@pytest.mark.slow
@pytest.mark.real_clock
def test_no_argument_is_ever_read_as_code(tmp_path: Path) -> None:
    draw = random.Random(7)
    alphabet = [
        "$(touch pwned)",
        "`touch pwned`",
        ";touch pwned;",
        "'",
        '"',
        "\\",
        " ",
        "\n",
        "*",
        "a",
    ]
    for _ in range(60):
        arg = "".join(draw.choices(alphabet, k=6))
        forms = draw.sample(QUOTES, 3)
        template = Template(["printf", "%s\\\\n", *forms, "#", "{}"], by_shell=True)
        argv = template.command([arg], 1).argv
        subprocess.run(argv, cwd=tmp_path, capture_output=True, check=False)
        shown = template.command([arg], 1).shown
        subprocess.run(["/bin/sh", "-c", f": {shlex.quote(shown)}"], cwd=tmp_path, check=True)
        plain = Template(["printf", "%s", "{}", 'x"{}"'], by_shell=False).command([arg], 1).argv
        assert plain == ("printf", "%s", arg, f'x"{arg}"')
        assert os.listdir(tmp_path) == [], (arg, forms)


@pytest.mark.slow
@pytest.mark.real_clock
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8))
def test_an_argument_reaches_a_program_through_the_shell_as_it_is(arg: str) -> None:
    template = Template(["printf", "%s+", "{}", '"{}"', "'{}'", "x{}y"], by_shell=True)
    argv = template.command([arg], 1).argv
    done = subprocess.run(argv, capture_output=True, check=True)
    assert done.stdout.decode() == f"{arg}+{arg}+{arg}+x{arg}y+"


@pytest.mark.parametrize(
    ("line", "arg", "said"),
    [
        ("echo $(({} + 1))", "4", "5\n"),
        ('echo "$(( ({}) * 2 ))x{}"', "-3", "-6x-3\n"),
        ("echo $((1))$(echo {}){}", "a  b", "1a ba  b\n"),
        ("echo $(($(echo {}) + {}))", "0x1F", "62\n"),
    ],
)
def test_an_argument_can_be_counted_with(line: str, arg: str, said: str) -> None:
    command = Template([line], by_shell=True).command([arg], 1)
    assert subprocess.run(command.argv, capture_output=True, check=True).stdout.decode() == said
    shown = subprocess.run(["/bin/sh", "-c", command.shown], capture_output=True, check=True)
    assert "x" in said or shown.stdout.decode() == said


@pytest.mark.parametrize("arg", ["a[$(id)]", "`id`", "a", "", "1 2", "1.5", "1\n"])
def test_what_a_shell_would_run_where_it_counts_is_refused(arg: str) -> None:
    with pytest.raises(ValueError, match="give a whole number"):
        Template(["echo $(( {} ))"], by_shell=True).command([arg], 1)
