"""Keep stdout for results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def results_only(strictly: bool) -> Iterator[TextIO]:
    """Return the stream for results.

    Args:
        strictly: whatever else is printed, by child processes too, goes to stderr.

    Raises:
        BrokenPipeError: nobody reads it; what is left unwritten is thrown away.
    """
    out = sys.stdout
    try:
        if strictly:
            out.flush()
            with os.fdopen(os.dup(1), "w", encoding="utf-8") as kept:
                os.dup2(2, 1)
                try:
                    yield kept
                finally:
                    out.flush()
                    os.dup2(kept.fileno(), 1)
        else:
            yield out
        out.flush()
    except BrokenPipeError:
        # The interpreter flushes at its exit, and would complain.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        raise


def write(out: TextIO, text: str) -> None:
    """Write a line, and let it be read at once."""
    out.write(text + "\n")
    out.flush()
