#!/usr/bin/env python3
"""Compare the laws with fixed limits: python3 scripts/laws.py [--seeds N] [--drawn N] [--first N] [--print].

It plays each in the simulator, some minutes long, and writes the tables of
docs/explanation/laws.md and the plots beside it, docs/plots/*.svg; --print only prints the tables.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "scripts/_laws.py", *args)
