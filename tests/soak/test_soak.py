"""A soak finds what leaks and what is broken, names the round, and finds nothing in the engine."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anabranch import Budget
from tests.soak._command import main
from tests.soak._round import Round
from tests.soak._soak import ACTS, Soak
from tests.soak._telling import told
from tests.soak._watching import GROWTH_MB, JUDGED_FROM, Sample, growth

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT: list[Any] = []

pytestmark = pytest.mark.slow


def nothing(_: Round) -> None:
    """Do nothing wrong."""


def soaked(act: Callable[[Round], None], rounds: int = 3, **terms: Any) -> Soak:
    """Run an act so often, and one that does nothing, without a warm-up."""

    def counted(this: Round) -> None:
        if soak.rounds["act"] + 1 >= rounds:
            soak.stop()
        act(this)

    soak = Soak(1, 60, {"act": counted, "nothing": nothing}, warm_up=0, patience=0.2, **terms)
    soak.run()
    return soak


def test_a_round_that_leaves_a_thread_is_named():
    go_on = threading.Event()
    seen = []

    def leave_a_thread(_: Round) -> None:
        seen.append(soak_round())
        if len(seen) == 2:
            threading.Thread(target=go_on.wait, name="left alone", daemon=True).start()

    def soak_round() -> int:
        return len(seen) + 1

    try:
        soak = soaked(leave_a_thread)
    finally:
        go_on.set()
    (found,) = soak.findings
    assert "left alone" in found.says
    assert soak.drawn(found.round)[0] == "act"
    assert f"--seed 1 --only act,nothing --round {found.round}" in "\n".join(told(soak))


def test_a_round_that_leaves_a_descriptor_or_a_child_is_named():
    left: list[Any] = []

    def leave(_: Round) -> None:
        left.append(os.open(os.devnull, os.O_RDONLY))
        left.append(subprocess.Popen(["sleep", "30"]))

    try:
        soak = soaked(leave, rounds=1)
    finally:
        os.close(left[0])
        left[1].kill()
        left[1].wait()
    kinds = {each.says.partition(" ")[0] for each in soak.findings}
    assert kinds == {"descriptor", "process"}


def test_what_stays_in_the_warm_up_is_excused():
    go_on = threading.Event()

    def keep_one(_: Round) -> None:
        if not KEPT:
            KEPT.append(threading.Thread(target=go_on.wait, daemon=True))
            KEPT[0].start()

    soak = Soak(1, 0.5, {"act": keep_one}, patience=0.1)
    try:
        soak.run()
    finally:
        go_on.set()
        KEPT.clear()
    assert soak.rounds["act"] > soak.warm_up
    assert not soak.findings


def test_objects_of_ours_that_pile_up_are_found():
    def keep(_: Round) -> None:
        KEPT.extend(Budget(tokens=n + 1) for n in range(20))

    try:
        soak = soaked(keep, rounds=30)
    finally:
        KEPT.clear()
    assert any("Budget" in each.says and "pile up" in each.says for each in soak.findings)


def course(*memory_mb: float) -> list[Sample]:
    return [Sample(float(n), mb, 1, 0, 3, Counter()) for n, mb in enumerate(memory_mb)]


def test_memory_that_grows_is_found_and_memory_that_comes_and_goes_is_not():
    steady = [100.0, 100 + GROWTH_MB] * JUDGED_FROM
    assert not growth(course(*steady))
    assert not growth(course(*sorted(steady)[: JUDGED_FROM - 1])), "too few to tell"
    assert "memory grows" in growth(course(*(100.0 + 3 * n for n in range(JUDGED_FROM))))[0]


def test_a_broken_promise_an_error_and_an_error_that_nobody_hears_are_findings():
    def break_a_promise(this: Round) -> None:
        this.claim(False, "a promise")

    def raise_an_error(_: Round) -> None:
        raise LookupError("drawn")

    def raise_in_a_thread(_: Round) -> None:
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    for act, words in (
        (break_a_promise, "a promise"),
        (raise_an_error, "LookupError"),
        (raise_in_a_thread, "ZeroDivisionError"),
    ):
        (found,) = soaked(act, rounds=1).findings
        assert words in found.says


def test_equal_seeds_draw_equal_rounds_and_each_cycle_has_every_act():
    one, two, other = Soak(7, 1), Soak(7, 1), Soak(8, 1)
    names = [one.drawn(n)[0] for n in range(1, 3 * len(ACTS) + 1)]
    assert names == [two.drawn(n)[0] for n in range(1, 3 * len(ACTS) + 1)]
    assert names != [other.drawn(n)[0] for n in range(1, 3 * len(ACTS) + 1)]
    assert set(names[: len(ACTS)]) == set(names[len(ACTS) : 2 * len(ACTS)]) == set(ACTS)
    assert one.drawn(5)[1].random() == two.drawn(5)[1].random() != one.drawn(6)[1].random()


@pytest.mark.leaves("thread", reason="trio's cache keeps idle threads, some may be about to end")
@pytest.mark.parametrize(
    "name", ["threads", "pipelines", "pool", "scripts"]
)  # and tests/properties
def test_nothing_is_found_in_a_short_soak(name):
    soak = Soak(5, math.inf, {name: ACTS[name]}, warm_up=1)

    def stop_after_three(soak: Soak, _: str) -> None:
        if soak.rounds.total() == 2:
            soak.stop()

    soak.tell = stop_after_three
    soak.run()
    assert soak.rounds[name] == 3
    assert not soak.findings, "\n".join(told(soak))
    assert soak.did.total() > 0


@pytest.mark.parametrize("act", ["processes", "killed"])
def test_the_program_soaks_with_child_processes(act):
    argv = ["--seed", "3", "--only", act, "--minutes", "0.02"]
    done = run_it(argv)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no leak, no broken promise" in done.stdout


def run_it(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.soak", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_ctrl_c_ends_it_after_its_round_and_it_tells_what_it_did():
    argv = [sys.executable, "-m", "tests.soak", "--only", "threads,pipelines", "--minutes", "9"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("seed ")
        program.send_signal(signal.SIGINT)
        said = program.stdout.read()
    assert program.returncode == 130
    assert "(stopped early)" in said
    assert "no leak, no broken promise" in said


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--minutes", "0"], "above 0"),
        (["--minutes", "nan"], "above 0"),
        (["--minutes", "soon"], "soon"),
        (["--only", "trees,leaves"], "'leaves' is no act; there are programs"),
        (["--round", "3"], "needs the --seed"),
        (["--round", "0", "--seed", "1"], "the first is 1"),
        (["--for", "3"], "unrecognized"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(argv, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert words in capsys.readouterr().err


def test_a_round_that_hangs_ends_the_soak_and_says_where():
    code = (
        "import time; from tests.soak._alarms import Patience\n"
        "with Patience(0.1) as patience, patience.over('round 7 (act)'): time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "HANGS: round 7 (act)" in done.stdout
    assert 'File "<string>", line 2' in done.stderr
