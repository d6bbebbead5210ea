"""Put the arguments of a job into its command: ``{}``, ``{.}``, ``{/}``, ``{2}`` and the like.

A command is a list of words and stays one: whatever is in an argument, it remains one argument.
With ``by_shell`` the words are a line for ``/bin/sh``, and arguments reach it as its parameters
(``"${1}"``), which a shell never reads as code; their place in quotes decides how they are written.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

import attrs

from anabranch.cli._load import WrongUsageError

SHELL: Final = "/bin/sh"
_TOKEN: Final = re.compile(r"\{(?:(#|%)|(-?[1-9]\d*)?(//|/\.|/|\.)?)\}")
_COUNTABLE: Final = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)")
_PERL: Final = re.compile(r"\{(-?\d+)?=")


@attrs.frozen
class Token:
    """A replacement string: ``place`` is the number in it, from 1, or from the end below 0."""

    form: str = ""
    place: int | None = None

    def values(self, args: Sequence[str], seq: int, slot: str) -> list[str]:
        """Return what takes its place: a word for each argument that it means."""
        if self.form in ("#", "%"):
            return [str(seq) if self.form == "#" else slot]
        if self.place is None:
            return [formed(arg, self.form) for arg in args]
        index = self.place - 1 if self.place > 0 else len(args) + self.place
        return [formed(args[index], self.form)] if 0 <= index < len(args) else []


def formed(arg: str, form: str) -> str:
    """Return an argument as a replacement string's form wants it, as GNU parallel does."""
    if form == "//":
        return str(PurePosixPath(arg).parent) if "/" in arg else "."
    if form.startswith("/"):
        arg = arg.rpartition("/")[2]
    return re.sub(r"\.[^/.]*\Z", "", arg) if form.endswith(".") else arg


@attrs.frozen
class Command:
    """What is run for a job: ``argv``, and ``shown``, one line that a shell would read as that."""

    argv: tuple[str, ...]
    shown: str


class Template:
    """Make the command of each job.

    Args:
        words: of the command; none if each input line is a command itself.
        by_shell: a shell reads them.

    Raises:
        WrongUsageError: a replacement string that is not offered.
    """

    def __init__(self, words: Sequence[str], *, by_shell: bool) -> None:
        perl = next((word for word in words if _PERL.search(word)), None)
        if perl is not None:
            raise WrongUsageError(
                f"exec: {perl:.80}: Perl expressions are not offered; compute the argument before"
            )
        self._shell = by_shell
        parts = [_parts(word) for word in words]
        if parts and not any(isinstance(part, Token) for word in parts for part in word):
            parts.append([Token()])
        self._words = parts
        self._pieces = _in_quotes(_joined(parts)) if by_shell else []

    @property
    def tokens(self) -> list[Token]:
        """The replacement strings in it."""
        return [part for word in self._words for part in word if isinstance(part, Token)]

    def command(self, args: Sequence[str], seq: int, slot: str = "{%}") -> Command:
        """Return what is run for ``args``, as job ``seq`` in ``slot``.

        Raises:
            ValueError: a line that is a command has a quote without its end, or an argument is to
                be counted with that is no number.
        """
        if not self._words:
            line = " ".join(args)
            argv = (SHELL, "-c", line) if self._shell else tuple(shlex.split(line))
            return Command(argv, line)
        if self._shell:
            return self._for_shell(args, seq, slot)
        argv = tuple(word for parts in self._words for word in _filled(parts, args, seq, slot))
        return Command(argv, shlex.join(argv))

    def _for_shell(self, args: Sequence[str], seq: int, slot: str) -> Command:
        script, shown, given = "", "", list[str]()
        for part, quote in self._pieces:
            if isinstance(part, str):
                script, shown = script + part, shown + part
                continue
            values = part.values(args, seq, slot)
            names = [
                f"${{{number}}}" for number in range(len(given) + 1, len(given) + 1 + len(values))
            ]
            given += values
            inner = " ".join(names)
            if quote == "((":
                _check_countable(values)
            if quote == "'":
                script += f"'\"{inner}\"'"
            else:
                script += inner if quote else " ".join(f'"{name}"' for name in names)
            quoted = " ".join(map(shlex.quote, values))
            shown += quoted if quote in ("", "((") else f"{quote}{quoted}{quote}"
        return Command((SHELL, "-c", script, "sh", *given), shown)


def _check_countable(values: Sequence[str]) -> None:
    """Refuse what a shell would read as code where it counts: ``a[$(rm x)]`` in ``$((...))``."""
    for value in values:
        if not _COUNTABLE.fullmatch(value):
            raise ValueError(
                f"{value!r:.80} stands in $((...)), where a shell reads it as code; "
                f"give a whole number"
            )


def _parts(word: str) -> list[str | Token]:
    """Part a word into text and replacement strings."""
    parts: list[str | Token] = []
    place = 0
    for found in _TOKEN.finditer(word):
        if found.start() > place:
            parts.append(word[place : found.start()])
        counted, number, form = found.groups()
        parts.append(Token(counted or form or "", None if number is None else int(number)))
        place = found.end()
    if place < len(word) or not word:
        parts.append(word[place:])
    return parts


def _filled(parts: Sequence[str | Token], args: Sequence[str], seq: int, slot: str) -> list[str]:
    """Return the words that one word of a template becomes: more where it means several arguments.

    A word that means none, ``{3}`` where there are two, is none.
    """
    words: list[str] = []
    current: str | None = None
    for part in parts:
        values = [part] if isinstance(part, str) else part.values(args, seq, slot)
        for number, value in enumerate(values):
            if number and current is not None:
                words.append(current)
                current = None
            current = (current or "") + value
    return words if current is None else [*words, current]


def _joined(words: Sequence[Sequence[str | Token]]) -> list[str | Token]:
    """Join words with blanks, as GNU parallel does before its shell reads them."""
    joined: list[str | Token] = []
    for number, word in enumerate(words):
        joined += [" ", *word] if number else word
    return joined


def _in_quotes(parts: Sequence[str | Token]) -> list[tuple[str | Token, str]]:
    """Say with each part in which quotes it stands; only a replacement string's are used."""
    found: list[tuple[str | Token, str]] = []
    stack = [""]  # what is open; "(" begins a command of its own, "((" is one of two in $((...))
    for part in parts:
        found.append((part, stack[-1] if stack[-1] in ("'", '"', "((") else ""))
        if isinstance(part, str):
            _follow(part, stack)
    return found


def _follow(text: str, stack: list[str]) -> None:
    """Follow the quotes of a piece of shell text."""
    place = 0
    while place < len(text):
        char, now = text[place], stack[-1]
        if now == "'":
            if char == "'":
                stack.pop()
        elif char == "\\":
            place += 1
        elif text.startswith("$((", place):
            stack += ["((", "(("]
            place += 2
        elif text.startswith("$(", place):
            stack.append("(")
            place += 1
        elif now == "((" and char == "(":
            stack.append("((")
        elif char == '"':
            stack.pop() if now == '"' else stack.append('"')
        elif now != '"' and char == "'":
            stack.append("'")
        elif now in ("(", "((") and char == ")":
            stack.pop()
        place += 1
