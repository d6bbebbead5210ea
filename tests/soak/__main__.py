"""Soak: python -m tests.soak; what it takes is told by scripts/soak.py --help."""

import sys

if __name__ == "__main__":  # processes of the cpu lane import this file, and need none of it
    from tests.soak._command import main

    sys.exit(main())
