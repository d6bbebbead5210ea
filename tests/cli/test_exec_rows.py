"""Each row of docs/how-to/from-gnu-parallel.md is true: input, replacement strings, output."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anabranch.cli import main
from anabranch.cli._exec_flags import OTHER_NAMES, SWITCHES, VALUES
from anabranch.cli._exec_refused import REFUSED
from tests.cli import test_exec_runs
from tests.cli.rows import PAGE, TESTED, Exec, row, rows
from tests.cli.shell import PROGRAM, environment

pytestmark = [pytest.mark.slow, pytest.mark.real_clock]


@pytest.fixture
def run(capfd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exec:
    monkeypatch.chdir(tmp_path)
    return Exec(capfd)


def piped(text: bytes, *words: str) -> bytes:
    """Run the program with `text` as its stdin."""
    argv, env = [*PROGRAM, "exec", *words], environment()
    done = subprocess.run(argv, input=text, env=env, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    assert test_exec_runs.__doc__
    ours = [cell for cell, verdict in rows() if verdict != "not offered"]
    assert len(ours) == len(set(ours))
    assert sorted(TESTED) == sorted(ours)


def test_every_flag_is_told_of() -> None:
    page = PAGE.read_text()
    silent = {"arg-file": "-a", "null": "-0", "max-args": "-n", "keep-order": "-k", "jobs": "-j"}
    flags = [silent.get(name, f"--{name}") for name in {**VALUES, **SWITCHES}]
    assert [flag for flag in flags if f"`{flag}" not in page and flag != "--help"] == []
    assert set(OTHER_NAMES.values()) <= set(VALUES) | set(SWITCHES)


def test_every_flag_that_is_not_offered_says_so(capfd: Any) -> None:
    told = {
        cell for cells, verdict in rows() if verdict == "not offered" for cell in cells.split(", ")
    }
    names = {f"`-{name}`" if len(name) == 1 else f"`--{name}`" for name in REFUSED}
    assert told - {"`:::+`", "`::::+`", "`{= perl =}`"} == names
    for cell in sorted(names):
        flag = cell.strip("`")
        assert main(["exec", flag, "echo", ":::", "a"]) == 2
        assert f"{flag} is not offered: " in capfd.readouterr().err


@pytest.mark.parametrize("words", [[":::+", "b"], ["::::+", "f"]])
def test_linked_sources_and_perl_are_not_offered(run: Exec, words: list[str]) -> None:
    said = run("echo", ":::", "a", *words)
    assert (said.code, said.out) == (2, "")
    assert "not offered" in said.err
    assert run("echo", "{= $_++ =}", ":::", "a").code == 2


# Input ---------------------------------------------------------------------------------------


@row("`::: a b`")
def test_every_combination(run: Exec) -> None:
    said = run("-k", "echo", ":::", "a", "b", ":::", "1", "2", "3")
    assert said.lines == ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"]
    assert run("echo", ":::").lines == []
    assert run("echo", ":::", "a", ":::").lines == []


@row("`:::: FILE`")
def test_files_are_sources(run: Exec) -> None:
    Path("one").write_text("a\nb\n")
    Path("two").write_text("1\n2")
    assert run("-k", "echo", "::::", "one", "two").lines == ["a 1", "a 2", "b 1", "b 2"]
    assert run("-k", "echo", "::::", "two", ":::", "x").lines == ["1 x", "2 x"]
    missing = run("echo", "::::", "one", "nowhere")
    assert (missing.code, missing.out) == (2, "")
    assert "nowhere cannot be read: No such file" in missing.err
    assert "Is a directory" in run("echo", "::::", "/").err


@row("stdin")
def test_stdin_is_read_where_there_is_no_source() -> None:
    assert piped(b"a\n\nb c", "-k", "echo", "[{}]") == b"[a]\n[]\n[b c]\n"
    assert piped(b"", "echo") == b""
    assert piped(b"x\n", "-k", "echo", ":::", "a", "b", "::::", "-") == b"a x\nb x\n"


@row("`-a FILE`")
def test_argument_files(run: Exec) -> None:
    Path("one").write_text("a\nb\n")
    assert run("-k", "-a", "one", "echo").lines == ["a", "b"]
    assert run("-k", "-aone", "--arg-file", "one", "echo").lines == ["a a", "a b", "b a", "b b"]
    assert run("-k", "-a", "one", "echo", ":::", "x").lines == ["a x", "b x"]


@row("`-0`")
def test_arguments_may_end_with_nul() -> None:
    assert piped(b"a\nb\0c\0", "-k0", "echo", "[{}]") == b"[a\nb]\n[c]\n"


@row("`-C`, `--colsep`")
def test_columns(run: Exec) -> None:
    Path("in").write_text("a, b\nc ;d\ne\n")
    said = run("-k", "--colsep", "[,;]", "echo", "[{1}][{2}]", "{}", "::::", "in")
    assert said.lines == ["[a][b] a b", "[c][d] c d", "[e][] e"]
    assert run("-C", ",", "echo", "{2}", ":::", "a,b").lines == ["b"]
    assert run("-C", "(", "echo", ":::", "a").code == 2


@row("`-n`, `-N`")
def test_several_arguments_for_a_job(run: Exec) -> None:
    assert run("-k", "-n2", "echo", ":::", "a", "b", "c").lines == ["a b", "c"]
    assert run("-k", "-N", "2", "echo", "{1}-{2}", ":::", "a", "b", "c").lines == ["a-b", "c-"]
    assert run("-k", "-n2", "echo", ":::", "a", "b", ":::", "1", "2").lines == [
        "a 1 a 2",
        "b 1 b 2",
    ]
    assert run("-k", "-n0", "echo", "[{}]", "{#}", ":::", "a", "b").lines == ["[] 1", "[] 2"]
    assert run("-n0", ":::", "true").code == 2
    assert run("-n", "-1", "echo", ":::", "a").code == 2


@row("no `{}`")
def test_the_argument_is_appended(run: Exec) -> None:
    assert run("echo", "x", ":::", "a b").lines == ["x a b"]


@row("no command")
def test_arguments_are_commands(run: Exec) -> None:
    assert run("-k", ":::", "echo a '$HOME' ; b", "echo c").lines == ["a $HOME ; b", "c"]
    assert run("-k", "--shell", ":::", "echo a | tr a b", "echo c").lines == ["b", "c"]
    said = run(":::", "echo 'a", "echo b")
    assert (said.code, said.lines) == (1, ["b"])
    assert "No closing quotation" in said.err


# Replacement strings -------------------------------------------------------------------------

PATHS = ["/a/b.c/d.tar.gz", ".bashrc", "x", "a.b/c", "a/", "/", "-", ""]


def each(run: Exec, form: str) -> list[str]:
    """Return what a replacement string makes of all paths."""
    return [line[1:-1] for line in run("-k", "echo", f"[{form}]", ":::", *PATHS).lines]


@row("`{}`")
def test_the_whole_argument(run: Exec) -> None:
    assert each(run, "{}") == PATHS
    assert run("echo", "x{}y", ":::", "a", ":::", "1").lines == ["xa 1y"]


@row("`{.}`")
def test_without_extension(run: Exec) -> None:
    assert each(run, "{.}") == ["/a/b.c/d.tar", "", "x", "a.b/c", "a/", "/", "-", ""]


@row("`{/}`")
def test_the_last_part(run: Exec) -> None:
    assert each(run, "{/}") == ["d.tar.gz", ".bashrc", "x", "c", "", "", "-", ""]


@row("`{//}`")
def test_the_folder(run: Exec) -> None:
    assert each(run, "{//}") == ["/a/b.c", ".", ".", "a.b", ".", "/", ".", "."]


@row("`{/.}`")
def test_the_last_part_without_extension(run: Exec) -> None:
    assert each(run, "{/.}") == ["d.tar", "", "x", "c", "", "", "-", ""]


@row("`{#}`")
def test_the_number_of_the_job(run: Exec) -> None:
    assert run("-k", "echo", "{#}", "{}", ":::", "a", "b").lines == ["1 a", "2 b"]
    assert run("-k", "echo", "{#}", ":::", "a", "b").lines == ["1", "2"]


@row("`{%}`")
def test_the_slot(run: Exec) -> None:
    said = run("-j3", "--shell", "echo {%}; sleep 0.05", ":::", *"abcdefghi")
    assert set(said.lines) == {"1", "2", "3"}
    assert run("-j1", "echo", "{%}", ":::", "a", "b").lines == ["1", "1"]


@row("`{1}`, `{2/.}`, `{-1}`")
def test_one_of_several_arguments(run: Exec) -> None:
    said = run("-k", "echo", "{2/.}", "{1}", "{-1}", ":::", "a", ":::", "x/y.z")
    assert said.lines == ["y a x/y.z"]
    wrong = run("echo", "{3}", ":::", "a", ":::", "b")
    assert (wrong.code, wrong.out) == (2, "")
    assert "argument 3 of a job" in wrong.err


@row("bytes that are no UTF-8")
def test_bytes_arrive_as_they_are() -> None:
    odd = bytes(byte for byte in range(1, 256) if byte != 10)
    assert piped(odd + b"\n", "printf", "%s") == odd
    shown = piped(odd + b"\n", "--shell", 'printf %s {} "{}" ' + "'{}'")
    assert shown == odd * 3


# Output --------------------------------------------------------------------------------------


@row("`--group` is the default")
def test_output_of_jobs_never_mixes_within_a_line(run: Exec) -> None:
    script = 'i=0; while [ $i -lt 200 ]; do printf "%s" {}; printf "%s\\n" {}; i=$((i+1)); done'
    said = run("-j4", "--shell", script, ":::", *"abcd")
    assert sorted(said.lines) == sorted(["aa", "bb", "cc", "dd"] * 200)
    blocks = [line for place, line in enumerate(said.lines) if said.lines[place - 1] != line]
    assert len(blocks) == 4
    assert run("-k", "printf", "{}", ":::", "a", "b").out == "a\nb"


@row("`-k`")
def test_output_in_the_order_of_input(run: Exec) -> None:
    said = run("-j4", "-k", "--shell", "sleep 0.{}; echo {}", ":::", "4", "2", "3", "1")
    assert said.lines == ["4", "2", "3", "1"]


@row("`--tag`")
def test_lines_are_tagged(run: Exec) -> None:
    said = run("-k", "--tag", "printf", "x\\ny\\n%s%s", ":::", "a b", ":::", "1")
    assert said.lines == ["a b 1\tx", "a b 1\ty", "a b 1\ta b1"]


@row("`--results DIR`")
def test_results_have_a_folder_for_each_job(run: Exec) -> None:
    said = run("-k", "--results", "r/s", "echo", ":::", "a/b", "..", "x" * 300, ":::", "1", "")
    assert len(said.lines) == 6
    assert Path("r/s/1/a\\_b/2/1/stdout").read_text() == "a/b 1\n"
    assert Path("r/s/1/\\../2/\\/stdout").read_text() == ".. \n"
    assert Path("r/s/1/a\\_b/2/1/seq").read_text() == "1"
    assert sorted(file.name for file in Path("r").rglob("*") if file.is_file()) == sorted(
        ["stdout", "stderr", "seq"] * 6
    )
    twice = run("--results", "twice", "echo", "{#}", ":::", "a", "a")
    kept = [file.read_text() for file in Path("twice").rglob("stdout")]
    assert sorted(kept) == sorted(f"{line}\n" for line in twice.lines)
    assert {os.path.commonpath([file.resolve(), Path.cwd()]) for file in Path().rglob("*")} == {
        str(Path.cwd())
    }
    Path("file").touch()
    assert run("--results", "file", "echo", ":::", "a").code == 2


@row("`--dry-run`")
def test_commands_are_printed_and_not_run(run: Exec) -> None:
    said = run("--dry-run", "touch", "{}", ":::", "a b", "$x", "c'd")
    assert said.lines == ["touch 'a b'", "touch '$x'", "touch 'c'\"'\"'d'"]
    assert run("--dryrun", "--shell", "touch {} | cat", ":::", "a b").lines == ["touch 'a b' | cat"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("kind", ["--journal", "--joblog"])
def test_a_dry_run_shows_what_is_left_and_begins_no_record(run: Exec, kind: str) -> None:
    words = ["--resume", "--dry-run", "test", "{}", "=", "a", ":::"]
    assert run(kind, "kept", *words, "a").lines == ["test a = a"]
    assert list(Path().iterdir()) == []
    assert run(kind, "kept", "test", "{}", "=", "a", ":::", "a", "b").code == 1
    before = Path("kept").read_bytes()
    assert run(kind, "kept", *words, "a", "b", "c").lines == ["test c = a"]
    words[0] = "--resume-failed"
    assert run(kind, "kept", *words, "a", "b", "c").lines == ["test b = a", "test c = a"]
    assert Path("kept").read_bytes() == before


@row("`--bar`")
def test_progress_is_told_on_stderr(run: Exec) -> None:
    said = run("-j2", "--bar", "sh", "-c", "exit $0", ":::", "0", "1", "0")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("3 of 3 done, 100 %, 1 failed, 0 running, limit 2, ")
    assert "/s, 0:00 left" in said.err


@row("`--eta`")
def test_eta_is_the_bar(run: Exec) -> None:
    assert "2 of 2 done" in run("--eta", "true", ":::", "0", "1").err


@row("`--json`")
def test_one_object_a_line_for_each_job(run: Exec) -> None:
    said = run("-k", "--json", "sh", "-c", 'echo "$0"; echo no >&2; exit $0', ":::", "0", "3")
    first, second = map(json.loads, said.lines)
    assert said.code == 1
    assert (first["seq"], first["args"], first["exit_code"]) == (1, ["0"], 0)
    assert (first["stdout"], first["stderr"], first["error"]) == ("0\n", "no\n", None)
    assert (second["exit_code"], second["kind"]) == (3, "exit")
    assert "no" in second["error"]
