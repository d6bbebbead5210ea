"""Check globs over the branches of a step: before it runs as far as they can be known, else after.

The branches of nested steps are known when those are parallel steps; those of a ``map_over`` and of
a pipeline nobody knows before they run. A glob that could match only there and has matched nothing
is told by a warning when the step has ended by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches

from anabranch._glob import matcher
from anabranch.errors import ConfigurationError

UNKNOWN = "/**"  # ends the path of a branch in which nobody knows what will be


class UnmatchedPatternWarning(UserWarning):
    """Warn that a glob over branches which are made while a step runs has matched none of them."""


def check_matches(where: str, glob: str, keys: Collection[str], below: Collection[str]) -> None:
    """Refuse a glob that can match no branch, naming the nearest that there is.

    Args:
        keys: of the step's own branches.
        below: the paths of all that are nested in them, as ``Node.paths_below`` gives them.
    """
    chosen = matcher(glob)
    if any(map(chosen, keys)) or any(_may_match(glob, chosen, path) for path in below):
        return
    known = [*keys, *(path for path in below if not path.endswith(UNKNOWN))]
    near = get_close_matches(glob, known, 1, 0.3)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[:5])}"
    raise ConfigurationError(f"{where}: {glob!r} matches no branch; {hint}")


def _may_match(glob: str, chosen: Callable[[str], bool], path: str) -> bool:
    if not path.endswith(UNKNOWN):
        return chosen(path)
    parts = path.removesuffix(UNKNOWN).split("/")
    globs = glob.split("/")
    if "**" in "".join(globs[: len(parts)]):
        return True
    return len(globs) > len(parts) and all(
        each and matcher(each)(part) for each, part in zip(globs, parts, strict=False)
    )


class Unmatched:
    """Keep which globs have matched no branch yet, of those that none of a step's own matches."""

    def __init__(self, globs: Iterable[str], keys: Collection[str]) -> None:
        missing = {glob: matcher(glob) for glob in globs if "/" in glob or "**" in glob}
        self._missing = {
            glob: chosen for glob, chosen in missing.items() if not any(map(chosen, keys))
        }

    def __bool__(self) -> bool:
        return bool(self._missing)

    def saw(self, path: str) -> None:
        """Hear of a branch."""
        for glob, chosen in list(self._missing.items()):
            if chosen(path):
                del self._missing[glob]

    def tell(self, where: str) -> None:
        """Warn of those that are left."""
        for glob in self._missing:
            warnings.warn(
                f"step {where!r}: {glob!r} in cancel_when= matched no branch of this run",
                UnmatchedPatternWarning,
                stacklevel=2,
            )
        self._missing.clear()
