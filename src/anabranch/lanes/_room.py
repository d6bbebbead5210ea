"""Start fewer scripts at once where the system has no room for more, instead of failing them.

Descriptors, processes and memory are this process's or the machine's, so there is one gate for all
loops. When a start is refused, as many as run then are the limit, which grows again while no start
is refused.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time

from anabranch._pool import charged
from anabranch.events import StartRefused

log = logging.getLogger("anabranch")

SCARCE = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
QUIET_S = 1.0  # without a refusal, until more are tried
PATIENCE_S = 10.0  # of refusals while nothing of ours runs, until a script is given up
FIRST_S, LONGEST_S = 0.01, 0.2  # between two looks whether there is room


def is_scarce(error: BaseException) -> bool:
    """Tell whether a start was refused for a lack that may end, not for what was asked."""
    if isinstance(error, OSError):
        return error.errno in SCARCE
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


class Room:
    """Count the scripts that run, and how many may; any thread may ask."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: nothing runs, and nothing is known to be scarce."""
        self._lock = threading.Lock()
        self._quiet_since = 0.0
        self.running = 0
        self.limit: int | None = None  # None while nothing is scarce
        self.why = ""  # what is scarce

    def enter(self) -> bool:
        """Take a place if there is one."""
        with self._lock:
            if self.limit is not None:
                now = time.monotonic()
                if now - self._quiet_since > QUIET_S:
                    self.limit += max(1, self.limit // 4)
                    self._quiet_since = now
                if self.running >= self.limit:
                    return False
            self.running += 1
            return True

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self.running -= 1
            if not self.running:
                self.limit, self.why = None, ""

    def refused(self, error: BaseException) -> int:
        """Give back the place of one that the system refused; return how many others run."""
        with self._lock:
            self.running -= 1
            limit = max(1, self.running)
            self._quiet_since = time.monotonic()
            if self.limit is None:
                log.warning("fewer scripts at once for now, the rest wait: %s", error)
            if self.limit is None or limit < self.limit:
                self.limit = limit
            self.why = str(error)
            return self.running


def tell_refusal(error: BaseException, running: int) -> None:
    """Tell the observer of the calling branch, if there is one, that a start was refused.

    Args:
        running: how many run meanwhile.
    """
    place = charged.get()
    held = None if place is None else place[1]
    if held is None or held.hand is None:  # no branch of a pipeline
        return
    ledger, branch = held.hand.ledger, held.hand.running()
    delivery = getattr(ledger, "delivery", None)  # what pays may be no ledger, and no branch
    if delivery is not None and branch is not None:
        delivery.emit(StartRefused(ledger.clock(), ledger.step, branch.key, str(error), running))


ROOM = Room()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ROOM.forget)
