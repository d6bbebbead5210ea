"""The program runs a pipeline, prints its result and exits with what happened."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from anabranch.cli import main
from tests.cli.shell import PROGRAM, environment, shell, write

pytestmark = [pytest.mark.slow, pytest.mark.real_clock]
both_loops = pytest.mark.parametrize("loop", ["trio", "asyncio"])

FLOW = """
    import os, sys, time
    import anyio
    import anabranch as ab

    def twice(n): return n * 2
    def bad(n): raise ValueError(f"no {n} \\x1b[31m")
    async def nap(n): await anyio.sleep(n)
    def noisy(n):
        print("noise")
        os.system("echo more noise")
        return n
    class Own:
        def __repr__(self): return "an Own"
    class Odd(Exception):
        def __init__(self, a, b): super().__init__(a)
    class Mute:
        def __repr__(self): raise ValueError("no repr")
    class Unspeakable(Exception):
        def __str__(self): raise ValueError("no words")
        __repr__ = __str__
    class Base(BaseException): pass
    def unspeakable(_): raise Unspeakable
    def raises_base(_): raise Base("base")

    doubled = ab.Pipeline([ab.Step.map_over("double", twice)])
    in_processes = ab.Step.map_over("double", ab.Step("cpu", twice, lane="cpu"), max_concurrency=2)
    words = ab.Step("words", lambda _: "a\\nb")
    nothing = ab.Step("nothing", lambda _: None)
    own = ab.Step("own", lambda _: [Own(), float("nan")])
    naps = ab.Step.parallel("naps", {"a": nap, "b": nap})
    short = ab.Step.parallel("short", {"a": nap}, timeout=0.1)
    thread = ab.Step.parallel("thread", {"sleepy": lambda _: time.sleep(60)}, timeout=0.2)
    brief = ab.Step("brief", nap, timeout=0.1)
    inner = ab.Step.parallel("outer", {"in": short, "ok": twice})
    one = ab.Step("one", nap)
    mute = ab.Step("mute", lambda _: Mute())
    mutes = ab.Step("mutes", lambda _: {"a": [Mute(), 1]})
    unspoken = ab.Step.parallel("u", {"a": unspeakable})
    forged = ab.Step.parallel("s\\x1b[31m\\nanabranch: fine", {"k\\nanabranch: fine": bad})
    napping = ab.Step.parallel("s\\x1b[31m\\nanabranch: fine", {"k\\nanabranch: fine": nap})
    long = ab.Step.parallel("L" * 10_000, {"k" * 10_000: bad, "l" * 10_000: nap}, timeout=0.2)
    base = ab.Step.parallel("base", {"a": raises_base, "b": nap})
    plain_base = ab.Step("base", raises_base)
    nobody = ab.Step.parallel("nobody", {})
    fails = ab.Step.parallel("all", {f"b{n}": bad for n in range(9)} | {"ok": twice})
    nested = ab.Step.parallel("outer", {"in": ab.Step.parallel("inner", {"x": bad})})
    cpu_fails = ab.Step("c", bad, lane="cpu")
    leaves = ab.Step("leaves", lambda _: sys.exit(5))
    noise = ab.Step.parallel("noise", {"a": noisy})
    many = ab.Step.map_over("many", twice, items=range(20_000), max_concurrency=9)
    peak = ab.Step.parallel("outer", {k: ab.Step.map_over("in", twice) for k in "abc"})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, FLOW)
    return tmp_path


@both_loops
def test_a_result_is_printed_as_json(folder: Path, loop: str) -> None:
    done = shell("run", "flow.py:doubled", "--data", "[1, 2]", "--loop", loop, cwd=folder)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [2, 4], "")


@both_loops
def test_the_cpu_lane_finds_the_functions_of_the_file(folder: Path, loop: str) -> None:
    target = str(folder / "flow.py:in_processes")
    done = shell("run", target, "--data", "[1, 2]", "--loop", loop, cwd=Path("/"))
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [2, 4], "")


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("words", "a\nb\n"),
        ("nothing", ""),
        ("own", "[an Own, nan]\n"),
        ("mute", "<Mute, whose repr raises ValueError>\n"),
        ("mutes", "{'a': [<Mute, whose repr raises ValueError>, 1]}\n"),
    ],
)
def test_other_results_are_printed_as_they_are(folder: Path, name: str, out: str) -> None:
    done = shell("run", f"flow.py:{name}", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


@both_loops
def test_a_failure_shows_the_users_own_tracebacks_and_counts_the_rest(
    folder: Path, loop: str
) -> None:
    done = shell("run", "flow.py:fails", "--data", "1", "--loop", loop, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("Traceback") == 5
    assert done.stderr.count("flow.py") == 5
    assert "branch b0 of step all" in done.stderr
    assert "no 1 \\x1b[31m" in done.stderr
    assert "... and 4 more" in done.stderr
    assert done.stderr.endswith("step 'all': 1 of 10 branches succeeded\n")
    assert "anabranch" + os.sep not in done.stderr


@pytest.mark.parametrize("name", ["nested", "cpu_fails"])
def test_errors_of_nested_steps_and_processes_keep_the_users_line(folder: Path, name: str) -> None:
    done = shell("run", f"flow.py:{name}", cwd=folder)
    assert done.returncode == 1
    assert 'raise ValueError(f"no {n}' in done.stderr
    assert "anabranch" + os.sep not in done.stderr


def test_a_branch_that_exits_fails_the_run(folder: Path) -> None:
    done = shell("run", "flow.py:leaves", cwd=folder)
    assert done.returncode == 1
    assert "SystemExit: 5" in done.stderr
    assert "anabranch" + os.sep not in done.stderr


def test_a_file_that_raises_shows_its_own_traceback_only(tmp_path: Path) -> None:
    write(tmp_path, "def f():\n    1 / 0\nf()")
    done = shell("run", "flow.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("File ") == 2
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@both_loops
@pytest.mark.parametrize("name", ["base", "plain_base"])
def test_what_ends_a_program_is_shown_as_the_users_own(folder: Path, name: str, loop: str) -> None:
    done = shell("run", f"flow.py:{name}", "--data", "60", "--loop", loop, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("flow.Base: base\n")
    assert done.stderr.count("File ") == 1
    assert "anabranch" + os.sep not in done.stderr


def test_an_error_without_words_costs_no_event(folder: Path) -> None:
    done = shell("run", "flow.py:unspoken", "--json", cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    finished = next(line for line in lines if line["event"] == "branch_finished")
    assert finished["error"] == "<Unspeakable, whose repr raises ValueError>"
    assert done.returncode == 1
    assert "anabranch" + os.sep not in done.stderr


@pytest.mark.parametrize("name", ["forged", "napping"])
def test_a_name_forges_no_line_and_steers_no_terminal(folder: Path, name: str) -> None:
    args = ("run", f"flow.py:{name}", "--data", "60", "--timeout", "0.5")
    done = shell(*args, cwd=folder)
    assert "\x1b" not in done.stderr
    assert "\\x1b[31m\\nanabranch: fine" in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("anabranch: fine")] == []
    for line in shell(*args, "--json", cwd=folder).stdout.splitlines():
        assert "\x1b" not in line
        json.loads(line)


def test_names_of_10_kb_are_told_shortly(folder: Path) -> None:
    done = shell("run", "flow.py:long", "--data", "60", cwd=folder)
    assert done.returncode == 124
    assert len(done.stderr) < 6_000
    assert "no 60" in done.stderr
    assert done.stderr.endswith("0 of 2 branches succeeded; deadline: 0.2 s (timeout=)\n")


@both_loops
@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("inner", [], "in: 0 of 1 branches succeeded; deadline: 0.1 s (timeout=)"),
        ("nobody", [], "it has no branches"),
    ],
)
def test_a_cause_without_an_error_is_told_once(
    folder: Path, name: str, args: list[str], says: str, loop: str
) -> None:
    done = shell("run", f"flow.py:{name}", "--data", "60", "--loop", loop, *args, cwd=folder)
    assert done.returncode == 1
    assert done.stderr.count(says) == 1


@both_loops
@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        ("one", ["--timeout", "0.2"], "deadline: 0.2 s"),
        ("naps", ["--timeout", "0.2"], "deadline: 0.2 s"),
        ("short", [], "deadline: 0.1 s"),
        ("thread", [], "in threads that cannot be stopped, and end now: sleepy"),
        ("brief", [], "timed_out: deadline: 0.1 s"),
    ],
)
def test_a_deadline_exits_with_124(
    folder: Path, name: str, args: list[str], says: str, loop: str
) -> None:
    done = shell("run", f"flow.py:{name}", "--data", "60", "--loop", loop, *args, cwd=folder)
    assert done.returncode == 124
    assert done.stderr.count(says) == 1
    assert done.stderr.count("deadline: ") == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@both_loops
def test_json_prints_events_and_then_the_result(folder: Path, loop: str) -> None:
    done = shell("run", "flow.py:noise", "--json", "--data", "7", "--loop", loop, cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["event"] == "step_started"
    assert lines[-1]["event"] == "result"
    assert lines[-1]["output"] == {"a": 7}
    assert "branch_finished" in [line["event"] for line in lines]
    assert sorted(done.stderr.split()) == ["more", "noise", "noise"]


def test_json_has_every_event_of_many(folder: Path) -> None:
    done = shell("run", "flow.py:many", "--json", cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    missed = sum(line["count"] for line in lines if line["event"] == "events_missed")
    assert lines[-1]["event"] == "result"
    assert len(lines) + missed >= 60_000
    assert [line["event"] for line in lines].count("result") == 1


def test_a_failed_run_is_json_too(folder: Path) -> None:
    done = shell("run", "flow.py:own", "--json", cwd=folder)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["output"] == ["an Own", "nan"]
    done = shell("run", "flow.py:fails", "--json", cwd=folder)
    assert json.loads(done.stdout.splitlines()[-1])["success"] is False
    assert done.returncode == 1


def test_a_reader_that_goes_away_ends_the_program_quietly(folder: Path) -> None:
    for args in (["flow.py:many", "--json"], ["flow.py:many"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*PROGRAM, "run", *args],
            cwd=folder,
            env=environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")


def test_a_warning_of_ours_is_a_message(folder: Path) -> None:
    done = shell("run", "flow.py:doubled", "--data", json.dumps([1] * 65), cwd=folder)
    assert done.returncode == 0
    assert done.stderr.startswith("anabranch: step 'double' runs 65 branches at once")
    assert done.stderr.count("\n") == 1


def test_limit_bounds_the_whole_pipeline(folder: Path) -> None:
    args = ("run", "flow.py:peak", "--limit", "1", "--json", "--data", "[1, 2]")
    done = shell(*args, cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    running = peak = 0
    for line in lines:
        if "/" in line.get("key", ""):
            running += {"branch_started": 1, "branch_finished": -1}.get(line["event"], 0)
            peak = max(peak, running)
    assert done.returncode == 0
    assert peak == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run"], "requires an argument"),
        (["rnu", "flow.py"], 'Did you mean "run"'),
        (["run", "flow.py", "--limt", "3"], "Did you mean --limit"),
        (["run", "flow.py:words", "--limit", "0"], "0 lets nothing run"),
        (["run", "flow.py:words", "--limit", "-1"], "-1 lets nothing run"),
        (["run", "flow.py:words", "--limit", "1.5"], "'1.5' is no whole number"),
        (["run", "flow.py:words", "--limit", "nan"], "'nan' is no whole number"),
        (["run", "flow.py:words", "--data", "{1"], "is no JSON"),
        (["run", "flow.py:words", "--data", "[" * 100_000], "is no JSON"),
        (["run", "flow.py:words", "--data", "\x1b[31m"], "--data \\x1b[31m is no JSON"),
        (["run", "flow.py:words", "--loop", "uvloop"], "Choose from"),
        (["run", "flow.py:words", "--timeout", "0"], "not above 0 seconds"),
        (["run", "flow.py:words", "--timeout", "nan"], "nan is not above 0 seconds"),
        (["run", "flow.py:words", "--timeout", "-1"], "-1 is not above 0 seconds"),
        (["run", "nowhere.py", "--timeout", "-inf"], "-inf is not above 0 seconds"),
        (["run", "flow.py:words", "--timeout", "abc"], "'abc' is no number of seconds"),
        (["run", "flow.py:words", "--timeout", ""], "'' is no number of seconds"),
        (["run", "flow.py:words", "--tmieout", "1"], "Did you mean --timeout"),
        (["run", "flow.py:words", "extra\x1b"], "extra\\x1b"),
        (["run", "nowhere.py"], "there is no file"),
        (["run", "no\nwhere\x1b.py"], "there is no file no\\nwhere\\x1b.py"),
        (["run", "x" * 10_000 + ".py"], "File name too long"),
        (["run", "flow.py:" + "x" * 10_000], "has no 'xxx"),
        (["run", ""], "'' is no .py file"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(folder: Path, args: list[str], says: str) -> None:
    done = shell(*args, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.startswith("anabranch: ")
    assert done.stderr.count("\n") == 1


def test_help_has_examples_and_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert main(["run", "--help"]) == 0
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    assert "anabranch run flow.py:nightly" in out
    assert "143  SIGTERM" in out
