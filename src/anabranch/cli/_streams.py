"""Keep the standard streams usable: closed ones are filled, broken ones fall silent.

A file that is opened while a standard stream is closed takes its place, and is then written into
by whoever prints; the interpreter, which flushes at its exit, complains of what it cannot write.
"""

from __future__ import annotations

import os
import sys


def fill_closed() -> None:
    """Put the null device where the shell has closed stdin, stdout or stderr."""
    while (place := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(place, True)
    os.close(place)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  # to the end


def silence(place: int) -> None:
    """Throw away from now on what is written to a stream, by its descriptor."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, place)
    os.close(nowhere)


def tell(words: str) -> None:
    """Print to stderr; what nobody takes there is lost, and hurts nothing."""
    try:
        print(words, file=sys.stderr, flush=True)
    except (OSError, ValueError):  # full, or nobody reads it; closed by the user's file
        silence(2)
