#!/usr/bin/env python3
"""Use everything at once, with faults, and see that nothing stays behind: python3 scripts/soak.py.

--minutes N   how long, 10 unless said otherwise
--seed S      draw what another run drew; else the seed is drawn, and said
--round K     only this round of the seed, over and over, for a minute unless --minutes says more
--only A,B    only these acts: programs, trees, threads, pipelines, pool, processes, scripts, killed

Memory, descriptors, threads, child processes and tokens are watched. Exit code 1, and the line
that replays it, on a leak or a broken promise; Ctrl-C ends it after the round that runs, and says
what was found till then.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "-m", "tests.soak", *args)
