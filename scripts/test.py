#!/usr/bin/env python3
"""Run the tests: python3 scripts/test.py [--fast] [arguments of pytest].

--fast draws 100 random programs where it would draw 2,000.
Paths are the root's, wherever this is called; pytest's own help: `.venv/bin/pytest --help`.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "-m", "pytest", *args)
