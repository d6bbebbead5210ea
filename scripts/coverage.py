#!/usr/bin/env python3
"""Measure which branches of the engine the tests take: python3 scripts/coverage.py.

Floors 0 to 4 of src/anabranch are measured, on both loops together, child processes too, by the
tests of these floors; on all cores.
--all       run all tests, those of the top floor, documents and tools too, and draw 2,000 programs
            where else 100 do; takes long
--lines     name the lines and the branches that no test takes
--report    only say again what the last run has measured
--least P   percent of branches below which the exit code is 1; 95 unless said otherwise
ARGUMENT    any other goes to pytest: the files of some tests, -k, -x, -n

What was measured is kept in build/coverage.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "scripts/_coverage.py", *args)
