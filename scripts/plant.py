#!/usr/bin/env python3
"""Plant small bugs, one at a time, and see which tests notice: python3 scripts/plant.py.

--jobs N    so many at once, 2 unless said otherwise; each works in a copy of the tree of its own
--far S     seconds for all tests but those that mirror the file, 240 unless said otherwise;
            0 leaves them out
--anew      forget what an interrupted run has found; else it goes on where that one ended
--again     look again at what was not noticed, in a fresh copy of the tree
--list      only name the bugs, with the reason why each is one
--report    only say what is known of a run so far
--write     put what was found into docs/explanation/planted.md
NAME ...    only these, in a fresh copy; nothing is kept

The bugs are in tests/planted/*.toml. The working tree is never changed.
"""

import _environment

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "scripts/_plant.py", *args)
