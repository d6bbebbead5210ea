"""Run the benchmarks: python -m tests.bench [CASE ...] [--fast] [--strict] [--json FILE].

``peers`` is no case but a comparison with other packages and programs, which it installs apart:
python -m tests.bench peers --help.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import (
    _adaptive,
    _breaching,
    _cancelling,
    _core,
    _importing,
    _journals,
    _lanes,
    _merging,
    _peers,
    _pools,
    _report,
    _scripts,
)
from tests.bench._extent import FAST, WHOLE, Extent

SUITES = {
    "core": _core.CASES,
    "cancelling": _cancelling.CASES,
    "merging": _merging.CASES,
    "breaching": _breaching.CASES,
    "scripts": (*_scripts.CASES, *_journals.CASES),
    "processes": _lanes.CASES,
    "pools": (*_pools.CASES, *_lanes.POOLS),
    "adaptive": _adaptive.CASES,
    "imports": _importing.CASES,
}


def cases_of(names: Sequence[str]) -> list[_core.Case]:
    """Choose cases by their own name or their suite's; all of them if none is named."""
    every = {case.name: case for cases in SUITES.values() for case in cases}
    chosen: dict[str, _core.Case] = {}
    for name in names or SUITES:
        if name not in every and name not in SUITES:
            sys.exit(f"{name!r} is no case; there are {', '.join([*SUITES, *every])}")
        chosen |= {case.name: case for case in SUITES.get(name, [every.get(name)])}
    return list(chosen.values())


def run(cases: Sequence[_core.Case], extent: Extent) -> tuple[list[_report.Row], list[str]]:
    """Run cases, print each row as soon as it is known, and return them and who failed."""
    rows: list[_report.Row] = []
    failed: list[str] = []
    progress = _report.Progress()
    for index, case in enumerate(cases):
        print(_report.heading(case.title), flush=True)
        prefix = f"[{index + 1}/{len(cases)}] {case.name} "
        gc.collect()
        gc.freeze()  # what the cases before have left is walked no more: each begins alike
        try:
            for row in case.run(extent, lambda text, prefix=prefix: progress.tell(prefix + text)):
                progress.clear()
                print(_report.line(row), flush=True)
                rows.append(row)
        except (_core.CaseFailedError, AssertionError) as error:
            progress.clear()
            print(f"FAILED: {error}", flush=True)
            failed.append(case.name)
    return rows, failed


def main(argv: Sequence[str] | None = None) -> int:
    """Parse arguments, run, and return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["peers"]:
        return _peers.main(given[1:])
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__)
    named = "; ".join(
        f"{suite}, or of it: {', '.join(case.name for case in cases)}"
        for suite, cases in SUITES.items()
    )
    parser.add_argument("case", nargs="*", help=named)
    parser.add_argument("--fast", action="store_true", help="fewer sizes and rounds: a quick look")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    args = parser.parse_args(given)
    cases = cases_of(args.case)
    before, start = _report.machine(), time.perf_counter()
    print(_report.describe(before))
    try:
        rows, failed = run(cases, FAST if args.fast else WHOLE)
    except KeyboardInterrupt:
        return 130
    seconds = time.perf_counter() - start
    missed, judged = sum(row.missed for row in rows), sum(row.bar is not None for row in rows)
    print(f"\n{judged - missed} of {judged} bars reached, in {seconds:.0f} s")
    if failed:
        print(f"what was measured went wrong: {', '.join(failed)}")
    if args.json is not None:
        _report.save(args.json, before, rows, failed, seconds)
    return 1 if failed or (missed and args.strict) else 0


if __name__ == "__main__":
    sys.exit(main())
