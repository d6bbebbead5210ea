"""Mirror src/anabranch; beside that: properties, conformance, seeds, faults, soak, bench.

The file is here because without it any installed package called `tests` would come first.
"""
