"""Match branch paths by glob: ``*`` and ``?`` stay within a part, ``**`` crosses ``/``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from anabranch.errors import ConfigurationError

Which = str | Callable[[str], bool]


def matcher(which: Which) -> Callable[[str], bool]:
    """Return the predicate over paths that ``which``, a glob or a predicate, stands for."""
    if callable(which):
        return which
    if not isinstance(which, str) or not which:
        raise ConfigurationError(
            f"{which!r} ({type(which).__name__}) chooses no branch; "
            f"give a glob such as 'low_*', or a predicate over keys"
        )
    pattern = _compile(which)
    return lambda path: pattern.fullmatch(path) is not None


@lru_cache(maxsize=256)
def _compile(glob: str) -> re.Pattern[str]:
    tokens = re.split(r"(\*\*|\*|\?|\[!?[^\]]+\])", glob)
    return re.compile("".join(_translate(token) for token in tokens), re.DOTALL)


def _translate(token: str) -> str:
    if token == "**":
        return ".*"
    if token == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token.startswith("[") and token.endswith("]") and len(token) > 2:
        return _one_of(token[1:-1])
    return re.escape(token)


def _one_of(inside: str) -> str:
    """Translate a set; a range from high to low holds nothing, and none holds ``/``."""
    negated = inside.startswith("!")
    chars = "".join(c if c == "-" else re.escape(c) for c in inside[negated:])
    pattern = f"(?!/)[{'^' if negated else ''}{chars}]"
    try:
        re.compile(pattern)
    except re.error:
        return "(?!)"
    return pattern
