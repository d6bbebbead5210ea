#!/usr/bin/env python3
"""Build the documents: python3 scripts/docs.py [arguments of sphinx-build].

They are written to build/docs, from docs/ and the docstrings; nothing is fetched.
A warning fails the build, after all of them are told. `--fresh-env` reads every page anew.
"""

import _environment

STRICT = ("--builder=html", "--fail-on-warning", "--keep-going", "--nitpicky")

if __name__ == "__main__":
    args = _environment.passed_on(__doc__)
    _environment.hand_over("python", "-m", "sphinx", *STRICT, *args, "docs", "build/docs")
