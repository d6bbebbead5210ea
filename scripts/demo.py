#!/usr/bin/env python3
"""Show anabranch at work: python3 scripts/demo.py [arguments of `anabranch run`].

It runs docs/examples/census.py; the arguments are told by `.venv/bin/anabranch run --help`.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("anabranch", "run", "docs/examples/census.py", *args)
