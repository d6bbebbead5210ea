"""The bench measures what it says, in small: sizes of 1 and 10, and no bar."""

import json
import math
from contextlib import nullcontext

import pytest

from tests.bench import __main__ as bench
from tests.bench import _core, _measure, _memory, _report
from tests.bench._extent import Extent

TINY = Extent(
    bars=False,
    sizes=(1, 10),
    contextvar_sizes=(10,),
    small=(1, 2),
    growth=(1, 10),
    rounds=1,
    big_rounds=1,
    shown_rounds=1,
    batch=10,
    steps=2,
    items=50,
    sleeps=10,
    threads=10,
    processes=2,
)
CASES = {case.name: case for case in _core.CASES}
LOOPS = ("trio", "asyncio")


def run(name: str) -> list[_report.Row]:
    return list(CASES[name].run(TINY, lambda _: None))


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("memory", "lanes")])
def test_a_case_measures_ours_on_both_loops_beside_a_baseline(name: str) -> None:
    rows = run(name)
    for loop in LOOPS:
        assert any(row.subject == f"Step.parallel on {loop}" for row in rows)
    assert any(not row.subject.startswith("Step") for row in rows)
    assert all(math.isfinite(row.value) for row in rows)
    assert not any(row.missed for row in rows)


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.leaves("thread", "process", "descriptor", reason="lanes keep theirs for the next call")
@pytest.mark.parametrize("name", ["memory", "lanes"])
def test_what_needs_processes_is_measured_on_both_loops(name: str) -> None:
    rows = run(name)
    for loop in LOOPS:
        assert any(f"on {loop}" in row.subject for row in rows)


def subject(name: str, calls: list[str], loop: str = "trio") -> _measure.Subject:
    async def once() -> None:
        calls.append(name)

    return _measure.Subject(name, loop, lambda: nullcontext(once))


@pytest.mark.slow
@pytest.mark.real_clock
@pytest.mark.parametrize("loop", LOOPS)
def test_subjects_take_turns_forwards_and_backwards(loop: str) -> None:
    calls: list[str] = []
    pair = [subject("a", calls, loop), subject("b", calls, loop)]
    taken = _measure.in_turns(pair, rounds=3, times=2, warm_up=1, tell=lambda _: None)
    assert "".join(calls) == "aaabbb" + "bbbaaa" + "aaabbb"
    assert {name: len(tooks) for name, tooks in taken.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_taken_round_by_round() -> None:
    taken = {"ours": took(2, 30, 4), "theirs": took(1, 10, 2)}
    found = _measure.ratios(taken, "ours", "theirs")
    assert (found.low, found.median, found.high, found.count) == (2, 2, 3, 3)


def took(*seconds: float) -> list[_measure.Took]:
    return [_measure.Took(cpu=value, wall=0.0) for value in seconds]


@pytest.mark.parametrize("power", [1.0, 1.05, 2.0])
def test_the_exponent_is_the_power_of_the_size(power: float) -> None:
    sizes = (1_000, 10_000, 100_000)
    found = _core.exponent(sizes, [3e-6 * size**power for size in sizes])
    assert found == pytest.approx(power)


def test_memory_that_leaks_is_told_as_drift() -> None:
    steady = _memory.growth_of(0, [2**20] * 100)
    leaking = _memory.growth_of(0, [i * 2**20 for i in range(100)])
    assert steady == {"growth_mb": 1.0, "drift_mb": 0.0}
    assert leaking["growth_mb"] == 99.0
    assert leaking["drift_mb"] == 45.0


@pytest.mark.parametrize(("ratio", "verdict"), [(0.5, "ok"), (0.51, "MISSED")])
def test_a_median_above_its_bar_is_missed(ratio: float, verdict: str) -> None:
    found = _measure.Spread(0.4, ratio, 0.9, 5)
    row = _report.Row(case="c", size=1, subject="s", value=9.0, unit="us", ratio=found, bar=0.5)
    assert row.missed is (verdict == "MISSED")
    assert _report.line(row).endswith(verdict)


@pytest.mark.real_clock
@pytest.mark.parametrize("strict", [False, True])
def test_a_missed_bar_fails_the_run_only_with_strict(strict, monkeypatch, tmp_path) -> None:
    row = _report.Row(case="c", size=1, subject="s", value=2.0, unit="us", bar=1.0)
    case = _core.Case("c", "a case", lambda extent, tell: iter([row]))
    monkeypatch.setattr(bench, "SUITES", {"core": (case,)})
    file = tmp_path / "bench.json"
    argv = ["c", "--json", str(file)] + ["--strict"] * strict
    assert bench.main(argv) == int(strict)
    content = json.loads(file.read_text())
    assert content["rows"][0]["missed"] is True
    assert {"cpu", "cores", "python", "trio", "anyio", "load", "date", "commit"} <= set(
        content["machine"]
    )


def test_a_case_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(SystemExit, match=r"'smal' is no case; there are core, "):
        bench.cases_of(["smal"])
