"""Take the secrets of the environment out of what is written down.

A variable is a secret by its name. Its value is replaced wherever it stands by ``$NAME``, which
stays the same when the secret itself changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

SHORTEST = 6  # characters; what is shorter stands in too many harmless places
_SECRET = re.compile(
    r"secret|token|passw|passphrase|credential|private|auth(?!or)|api_?key|access_?key|"
    r"(^|_)(key|pw|pass)$",
    re.IGNORECASE,
)


class Redaction:
    """Replace the secrets of an environment in texts, and in whatever holds texts.

    Args:
        environment: names and values; this process's own by default.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        names = {
            value: name
            for name, value in (os.environ if environment is None else environment).items()
            if len(value) >= SHORTEST and _SECRET.search(name)
        }
        # The longest first: one secret may begin with another.
        ordered = sorted(names, key=len, reverse=True)
        self._names = names
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """Return ``text`` with ``$NAME`` in the place of each secret."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"${self._names[found[0]]}", text)

    def value(self, value: Any) -> Any:
        """Return ``value`` likewise, down through dicts, lists and tuples."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value
