"""anabranch bench: which limit is best here, and what is not decided."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from anabranch import ConcurrencyConfig, LimitChanged, Load, Pipeline, Step
from anabranch.cli._bench import limits_of
from anabranch.cli._bench_words import Tried, drawing_of, table_of, verdict, words_of
from anabranch.cli._json import line_of_event
from anabranch.pipeline._trial import trial
from tests.branches import Watch

FLOW = """
import anyio
from anabranch import Pipeline, Step

async def one(number):
    print("noise")
    await anyio.sleep(0.02)
    return number

async def broken(number):
    raise ValueError("no")

flow = Pipeline([Step.map_over("items", Step("one", one), items=range(24), max_concurrency=3)])
alone = Pipeline([Step("one", one)])
bad = Pipeline([Step.map_over("items", Step("one", broken), items=range(3))])
"""


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "flow.py").write_text(FLOW)
    return subprocess.run(
        [sys.executable, "-m", "anabranch", "bench", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_pipeline_is_run_under_each_limit_and_the_quickest_is_named(tmp_path: Path) -> None:
    done = bench(tmp_path, "flow.py:flow", "--limits", "1,8", "--rounds", "2", "--plot", "out.svg")
    assert done.returncode == 0, done.stderr
    assert "best fixed limit here: 8" in done.stdout
    assert "noise" not in done.stdout
    drawn = (tmp_path / "out.svg").read_text()
    assert drawn.startswith("<svg")
    assert "adaptive" in drawn


@pytest.mark.slow
def test_for_a_program_it_is_one_object(tmp_path: Path) -> None:
    done = bench(tmp_path, "flow.py:flow", "--limits", "2,4", "--rounds", "1", "--json")
    found = json.loads(done.stdout)
    assert [each["limit"] for each in found["limits"]] == ["2", "4", "adaptive"]
    assert found["best"] in ("2", "4")
    assert found["decided"] is False  # one run each


@pytest.mark.slow
def test_a_pipeline_that_fails_is_best_under_no_limit(tmp_path: Path) -> None:
    done = bench(tmp_path, "flow.py:bad", "--limits", "2", "--rounds", "1")
    assert done.returncode == 1
    assert "no limit worked" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("flow.py:flow", "--limits", "0"), "is no limit"),
        (("flow.py:flow", "--limits", "2,x"), "is no limit"),
        (("flow.py:flow", "--rounds", "0"), "is no number of rounds"),
        (("flow.py:flow", "--data", "{"), "is no JSON"),
        (("flow.py:alone", "--rounds", "1"), "no step of it has a limit that could be tried"),
        (("none.py",), "there is no file"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: Any, says: str, tmp_path: Path) -> None:
    done = bench(tmp_path, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_limits_are_read_once_each_in_order() -> None:
    assert limits_of("8, 2,8") == (8, 2)


def test_limits_that_differ_less_than_their_runs_are_not_told_apart() -> None:
    tried = [
        Tried("2", (4.0, 4.1, 4.2)),
        Tried("4", (2.0, 2.5, 2.1)),
        Tried("8", (2.0, 2.2, 2.4)),
        Tried("16", (1.0,), failed=2),
        Tried("adaptive", (2.1, 2.6, 2.3)),
    ]
    found = verdict(tried)
    assert (found.best, found.tied, found.decided) == ("4", ("8",), False)
    assert "not decided against 8" in words_of(tried)
    assert "not decided: the runs differ more" in words_of(tried)
    assert "2 of 3 failed" in table_of(tried)
    assert "adaptive" in drawing_of("<b>", tried)
    assert "<b>" not in drawing_of("<b>", tried)
    slower = [*tried[:-1], Tried("adaptive", (3.9, 4.0, 4.1))]
    assert verdict(slower).decided
    assert verdict(slower).ratio == pytest.approx(4.0 / 2.1)


def test_one_run_each_tells_nothing_apart() -> None:
    tried = [Tried("2", (9.0,)), Tried("4", (1.0,)), Tried("adaptive", (5.0,))]
    found = verdict(tried)
    assert (found.best, found.tied, found.decided) == ("4", ("2",), False)
    assert "(not decided against 2: one run each decides nothing)" in words_of(tried)
    assert "5.00 of its time, not decided: give more --rounds" in words_of(tried)


async def test_a_trial_knows_whether_a_step_met_it() -> None:
    with trial(3) as alone:
        await Pipeline([Step("one", anyio.sleep)]).run(0)
    with trial(3) as wide:
        await Pipeline([Step.parallel({"a": anyio.sleep, "b": anyio.sleep})]).run(0)
    assert (alone.met, wide.met) == (False, True)


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 3},
                                     {"concurrency": ConcurrencyConfig(3)}], ids=str)  # fmt: skip
async def test_a_trial_gives_every_step_its_limit_and_is_over_with_its_block(
    options: dict[str, Any],
) -> None:
    async def peak(limit: int | None) -> int:
        watch = Watch()
        step = Step.parallel({str(i): watch.sleeps for i in range(30)}, **options)
        if limit is None:
            await Pipeline([step]).run(1)
        else:
            with trial(limit):
                await Pipeline([step]).run(1)
        return watch.peak

    assert await peak(7) == 7
    assert await peak(None) == (3 if options else 30)


async def test_a_limiter_that_was_handed_in_is_nobodys_to_try() -> None:
    watch = Watch()
    limiter = anyio.CapacityLimiter(2)
    step = Step.parallel({str(i): watch.sleeps for i in range(9)}, max_concurrency=limiter)
    with trial(7):
        await Pipeline([step]).run(1)
    assert watch.peak == 2


def test_a_line_of_json_has_the_load_that_moved_a_limit() -> None:
    event = LimitChanged(1.0, "s", 9, 4, "cpu 99 %", Load(cpu=0.99, limit=9))
    told = json.loads(line_of_event(event))
    assert (told["event"], told["old"], told["new"]) == ("limit_changed", 9, 4)
    assert (told["load"]["cpu"], told["load"]["memory_used"]) == (0.99, None)
