"""Where GNU parallel is installed, `anabranch exec` prints what it prints and ends as it ends."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.shell import PROGRAM, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_clock,
    pytest.mark.skipif(shutil.which("parallel") is None, reason="GNU parallel is not installed"),
]

SAME = [
    "-k echo ::: a b ::: 1 2 3",
    "-k echo x{}y ::: a b ::: 1 2",
    "-k echo {1}-{2} :::: one two",
    "-k -a one echo {#} {}",
    "-k -a one echo ::: x y",
    "-k -n2 echo ::: a b c",
    "-k -n2 echo {1}-{2} ::: a b c",
    "-k -n0 echo [{}] {#} ::: a b",
    "-k -N2 echo {2} {1} ::: a b c d",
    "-k -n2 echo {} ::: a b ::: 1 2",
    "-k --colsep , echo {2} {1} {} :::: columns",
    "-k --colsep [,;] echo {2}-{1} :::: columns",
    "-k echo {} {.} {/} {//} {/.} ::: /a/b.c/d.tar.gz .bashrc x a.b/c a.b.c/ ./x.y ../z",
    "-k echo {1/.} {2//} {-1} {-2.} ::: a/b.c ::: d/e.f",
    "-k --tag echo ::: a b ::: 1 2",
    "-k --dry-run echo {} x ::: 'a b' '$x' 'c*' plain",
    "-j1 echo {%} {#} ::: a b",
    "-k0 echo {} :::: nul",
    "-k --shell 'exit {}' ::: 0 1 2 0 3",
    "-j1 --halt soon,fail=2 --shell 'echo {}; exit {}' ::: 0 1 2 0 3",
    "-j1 --halt now,success=1 --shell 'echo {}; exit {}' ::: 1 2 0 3",
    "-j1 --halt soon,done=50% --shell 'echo {}; exit {}' ::: 0 0 0 0 0 0",
    "-k --retries 2 --shell 'echo {}; exit {}' ::: 1 0",
    "-k --shell 'echo {} | tr a-z A-Z; echo {.}' ::: 'a  b' \"c'd\" '$(id)' 'e*.f'",
    "-k --shell 'echo $(({} + 1))' ::: 1 -2",
    "-k --timeout 1 --shell 'echo {}; sleep {}' ::: 0 9",
    "-k ::: 'echo a' 'echo b'",
    "-k echo :::",
]


@pytest.mark.parametrize("line", SAME)
def test_both_print_the_same(tmp_path: Path, line: str) -> None:
    files = {
        "one": "a\nb c\n\nd",
        "two": "1\n2\n",
        "columns": "a, b\nc ;d\ne,f;g\n",
        "nul": "a\0b\nc\0",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    words = shlex.split(line)
    done = []
    for program in (["parallel", "--will-cite"], [*PROGRAM, "exec"]):
        mine = [word for word in words if word != "--shell"] if program[0] == "parallel" else words
        done.append(
            subprocess.run(
                [*program, *mine],
                cwd=tmp_path,
                env=environment() | {"SHELL": "/bin/sh"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
        )
    theirs, ours = done
    assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode), ours.stderr


def test_each_resumes_the_log_of_the_other(tmp_path: Path) -> None:
    program = {"theirs": ["parallel", "--will-cite"], "ours": [*PROGRAM, "exec"]}
    said = {}
    for first, second in (("theirs", "ours"), ("ours", "theirs")):
        (tmp_path / "log").unlink(missing_ok=True)
        for name, flags, args in ((first, [], "ab"), (second, ["--resume"], "abc")):
            done = subprocess.run(
                [*program[name], *flags, "--joblog", "log", "-k", "echo", ":::", *args],
                cwd=tmp_path,
                env=environment() | {"SHELL": "/bin/sh"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=60,
                check=False,
            )
            said[name] = (done.returncode, done.stdout)
        assert said == {first: (0, b"a\nb\n"), second: (0, b"c\n")}
