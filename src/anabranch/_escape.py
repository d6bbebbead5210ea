"""Write what others wrote so that it can steer no terminal and forge no line of a log."""

from __future__ import annotations

import unicodedata
from typing import Final

# Cc: ESC, C1, newlines; Cf: bidi overrides, what has no width; Cs: what no terminal can encode.
_HARMFUL: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")


def escaped(text: str, *, length: int | None = None, keep: str = "") -> str:
    """Return ``text`` with every character that could steer a terminal written as an escape.

    Args:
        length: cut what is longer.
        keep: characters that stay as they are: a traceback keeps its newlines.
    """
    if length is not None and len(text) > length:
        text = text[: length - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _in_words(char) if char not in keep and unicodedata.category(char) in _HARMFUL else char
        for char in text
    )


def _in_words(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
