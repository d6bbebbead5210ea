#!/usr/bin/env python3
"""Run CPython's own tests of executors on WorkerPool: cpython_tests.py [--from DIR] [--list].

They are no part of this repository. They are run from the first place that has them: this Python,
another one that is installed, Debian's libpython3-testsuite; or the folder that DIR names, which
holds Python's `test` package. `--list` names what is left out, and why.
Exit code 0: all passed; 1: some did not; 77: no place has them, so nothing was run.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "-m", "tests.workerpool.cpython", *args)
