"""Keep stdout for results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from anabranch.cli._streams import silence
from anabranch.errors import AnabranchError


class UnwritableError(AnabranchError):
    """Say why stdout takes no more: the disk's fault, or whoever closed it."""


@contextmanager
def results_only(strictly: bool) -> Iterator[TextIO]:
    """Return the stream for results.

    Args:
        strictly: whatever else is printed, by child processes too, goes to stderr.

    Raises:
        BrokenPipeError: nobody reads it; what is left unwritten is thrown away.
        UnwritableError: it cannot be written for another reason; likewise.
    """
    try:
        if strictly:
            with _kept_apart() as out:
                yield out
        else:
            yield sys.stdout
        _put(sys.stdout, "")
    except (BrokenPipeError, UnwritableError):
        silence(1)
        raise


def write(out: TextIO, text: str) -> None:
    """Write a line, and let it be read at once.

    Raises:
        BrokenPipeError: nobody reads it.
        UnwritableError: it cannot be written for another reason.
    """
    _put(out, text + "\n")


@contextmanager
def _kept_apart() -> Iterator[TextIO]:
    """Return what stdout was, for results, while stdout itself leads to stderr."""
    _put(sys.stdout, "")
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield kept
    finally:
        try:
            sys.stdout.flush()
        except (OSError, ValueError):  # stderr takes no more: that noise is lost
            pass
        os.dup2(kept.fileno(), 1)
        try:
            kept.close()
        except OSError:  # what is left in it is what could not be written before
            pass


def _put(out: TextIO, text: str) -> None:
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the user's own file has closed it
        raise UnwritableError(str(getattr(error, "strerror", None) or error)) from error
