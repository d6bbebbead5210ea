#!/usr/bin/env python3
"""Run the benchmarks: python3 scripts/bench.py [arguments of tests.bench].

They are told by `.venv/bin/python -m tests.bench --help`, asked from the root.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "-m", "tests.bench", *args)
