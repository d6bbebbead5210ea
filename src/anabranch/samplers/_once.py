"""Say a thing once: what is missing is worth a line in the log, and not one a second."""

from __future__ import annotations

import logging
import threading

MOST = 32  # of one speaker: what finds ever new words is cut off

_logger = logging.getLogger("anabranch")


class Once:
    """Log each message that has not been logged before; from any thread."""

    def __init__(self, level: int = logging.WARNING) -> None:
        self._level = level
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def say(self, topic: str, words: str) -> None:
        """Log ``words``, unless something was said on this topic already."""
        with self._lock:
            if topic in self._said or len(self._said) >= MOST:
                return
            self._said.add(topic)
            last = len(self._said) == MOST
        more = "; more of this kind is not told" if last else ""
        _logger.log(self._level, "%s%s", words, more)
