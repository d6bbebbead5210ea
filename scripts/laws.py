#!/usr/bin/env python3
"""Compare the laws with fixed limits: python3 scripts/laws.py [OPTION ...].

It plays each in the simulator, some minutes long, and writes the tables of
docs/explanation/laws.md and the plots beside it, docs/plots/*.svg.

--drawn N   scenarios to draw, 60 unless said otherwise
--seeds N   plays of each scenario that has a name, 5 unless said otherwise
--first N   the first seed of both, 7000 unless said otherwise
--print     only print the tables
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "scripts/_laws.py", *args)
