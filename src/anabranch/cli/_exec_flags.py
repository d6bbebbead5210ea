"""Part our flags from the command of ``anabranch exec``, before anything else reads them.

Our flags end at the first word that is no flag, as GNU parallel's do, so what follows is the
command's own. Short flags may be bundled (``-kj4``), a value may follow in the same word or in the
next, and a flag that is given twice means what it says last; the result has one form for each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Final

from anabranch.cli._exec_refused import REFUSED
from anabranch.cli._load import WrongUsageError

VALUES: Final = {  # flags with a value, with their short forms
    "arg-file": "a",
    "colsep": "C",
    "delay": "",
    "halt": "",
    "jobs": "jP",
    "joblog": "",
    "journal": "",
    "journal-failure": "",
    "load": "",
    "loop": "",
    "max-args": "nN",
    "memfree": "",
    "results": "",
    "retries": "",
    "timeout": "",
}
SWITCHES: Final = {
    "bar": "",
    "dry-run": "",
    "eta": "",
    "fsync": "",
    "help": "h",
    "json": "",
    "keep-order": "k",
    "null": "0",
    "resume": "",
    "resume-failed": "",
    "shell": "",
    "tag": "",
}
OTHER_NAMES: Final = {
    "dryrun": "dry-run",
    "halt-on-error": "halt",
    "jl": "joblog",
    "keeporder": "keep-order",
    "max-procs": "jobs",
    "max-replace-args": "max-args",
    "res": "results",
}
REPEATED: Final = ("arg-file",)
SHORT: Final = {
    letter: name for name, letters in {**VALUES, **SWITCHES}.items() for letter in letters
}


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our flags, as ``--name=value`` or ``--name``, and the words from the command on.

    Raises:
        WrongUsageError: a flag that there is not, or one without its value.
    """
    found: list[tuple[str, str | None]] = []
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] != "-":
        word = words[place]
        place += 1
        if word == "--":
            break
        following = words[place] if place < len(words) else None
        for name, value, takes in _long(word) if word.startswith("--") else _bundle(word):
            if takes and value is None:
                if following is None:
                    raise WrongUsageError(f"exec: {word} needs a value, and nothing follows it")
                place += 1
            found.append((name, following if takes and value is None else value))
    last = {name: value for name, value in found if name not in REPEATED}
    pairs = [*last.items(), *(pair for pair in found if pair[0] in REPEATED)]
    flags = [f"--{name}" if value is None else f"--{name}={value}" for name, value in pairs]
    return flags, list(words[place:])


def _long(word: str) -> Iterator[tuple[str, str | None, bool]]:
    name, equals, value = word[2:].partition("=")
    name = OTHER_NAMES.get(name, name)
    if name in SWITCHES:
        if equals:
            raise WrongUsageError(f"exec: --{name} takes no value, and {word:.80} gives one")
        yield name, None, False
    elif name in VALUES:
        yield name, value if equals else None, True
    elif name in REFUSED:
        raise WrongUsageError(f"exec: --{name} is not offered: {REFUSED[name]}")
    else:
        near = difflib.get_close_matches(name, [*VALUES, *SWITCHES], n=1)
        hint = f"; did you mean --{near[0]}?" if near else "; see anabranch exec --help"
        raise WrongUsageError(f"exec: there is no flag {word:.80}{hint}")


def _bundle(word: str) -> Iterator[tuple[str, str | None, bool]]:
    for place, letter in enumerate(word[1:], 1):
        name = SHORT.get(letter)
        if name is None and letter in REFUSED:
            raise WrongUsageError(f"exec: -{letter} is not offered: {REFUSED[letter]}")
        if name is None:
            raise WrongUsageError(
                f"exec: there is no flag -{letter} (in {word:.80}); a command that begins with a "
                f"dash goes after --"
            )
        if name in SWITCHES:
            yield name, None, False
            continue
        yield name, word[place + 1 :].removeprefix("=") or None, True
        return
